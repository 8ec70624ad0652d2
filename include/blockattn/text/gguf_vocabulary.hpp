// SPDX-License-Identifier: MIT
/// A vocabulary as GGUF metadata: what text/gguf_tokenizer.hpp reads.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "../core/result.hpp"
#include "../io/gguf_head.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// Adds `tokenizer.ggml.*`. Errors: `unsupported` for what those keys cannot say (steps of a `tokenizer.json`, BPE over
/// characters, merges by id); those of `validate`.
[[nodiscard]] inline result<void> add_vocabulary(gguf_head& head, const vocabulary& v) {
  if (auto valid = validate(v); !valid) return valid;
  if (v.model == vocabulary::kind::char_bpe || v.has_steps || !v.normalizers.empty() || !v.added.empty() || !v.pairs.empty())
    return fail(errc::unsupported, "vocabulary: expected what GGUF can hold, found steps of a tokenizer.json");
  const bool spm = v.model == vocabulary::kind::spm;
  head.text("tokenizer.ggml.model", spm ? "llama" : "gpt2");
  if (!spm) head.text("tokenizer.ggml.pre", v.pre);
  head.texts("tokenizer.ggml.tokens", v.pieces);
  if (spm) head.numbers<float>("tokenizer.ggml.scores", v.scores);
  std::vector<std::int32_t> types = v.types;
  types.resize(v.pieces.size(), static_cast<std::int32_t>(piece_type::normal));
  head.numbers<std::int32_t>("tokenizer.ggml.token_type", types);
  if (!spm) head.texts("tokenizer.ggml.merges", v.merges);
  // Without a key, readers assume the ids of their favourites; the largest number says that there is none.
  const auto id = [&](const char* key, token value) {
    head.number(key, value < 0 ? 0xFFFFFFFFu : static_cast<std::uint32_t>(value));
  };
  id("tokenizer.ggml.bos_token_id", v.bos);
  id("tokenizer.ggml.eos_token_id", v.eos);
  id("tokenizer.ggml.unknown_token_id", v.unk);
  if (!v.stops.empty()) id("tokenizer.ggml.eot_token_id", v.stops.front());
  head.number("tokenizer.ggml.add_bos_token", v.add_bos).number("tokenizer.ggml.add_eos_token", v.add_eos);
  if (spm) head.number("tokenizer.ggml.add_space_prefix", v.add_space_prefix);
  return {};
}

}  // namespace blockattn::inline v0
