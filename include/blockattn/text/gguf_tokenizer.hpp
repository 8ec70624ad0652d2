// SPDX-License-Identifier: MIT
/// The tokenizer of a GGUF file, from its metadata.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "tokenizer.hpp"

namespace blockattn::inline v0 {

/// Metadata by key: `gguf_file`, or the program's own. Each finder returns nothing where the key is absent or of
/// another type.
template <class M>
concept tokenizer_metadata = requires(const M& m, std::string_view key) {
  { m.find_string(key) } -> std::convertible_to<std::optional<std::string_view>>;
  { m.find_u64(key) } -> std::convertible_to<std::optional<std::uint64_t>>;
  { m.find_bool(key) } -> std::convertible_to<std::optional<bool>>;
  { m.find_strings(key) } -> std::convertible_to<std::optional<std::vector<std::string_view>>>;
  { m.find_floats(key) } -> std::convertible_to<std::optional<std::vector<float>>>;
  { m.find_ints(key) } -> std::convertible_to<std::optional<std::vector<std::int64_t>>>;
};

/// The vocabulary that `tokenizer.ggml.*` describes. Models `llama` (SentencePiece) and `gpt2` (byte-level BPE);
/// others are `unsupported`.
///
/// What a file does not say: `llama` adds a begin token and a space before the text, and its markers are 1, 2 and 0;
/// `gpt2` adds and has none, except that Llama 3's pre-tokenizer adds a begin token.
template <tokenizer_metadata Metadata>
[[nodiscard]] result<vocabulary> read_vocabulary(const Metadata& metadata) {
  const std::optional<std::string_view> model = metadata.find_string("tokenizer.ggml.model");
  if (!model) return fail(errc::bad_format, "tokenizer.ggml.model: expected a name, found nothing");
  vocabulary v;
  if (*model == "llama") {
    v.model = vocabulary::kind::spm;
  } else if (*model == "gpt2") {
    v.model = vocabulary::kind::bpe;
  } else {
    return fail(errc::unsupported, "tokenizer.ggml.model: expected \"llama\" or \"gpt2\", found \"",
                model->substr(0, 64), "\"");
  }
  const bool spm = v.model == vocabulary::kind::spm;

  const std::optional<std::vector<std::string_view>> pieces = metadata.find_strings("tokenizer.ggml.tokens");
  if (!pieces) return fail(errc::bad_format, "tokenizer.ggml.tokens: expected a list of strings, found none");
  v.pieces.assign(pieces->begin(), pieces->end());
  if (std::optional<std::vector<float>> scores = metadata.find_floats("tokenizer.ggml.scores"))
    v.scores = *std::move(scores);
  if (!spm) v.scores.clear();  // some converters write them; byte-level BPE has no use for them
  if (const std::optional<std::vector<std::int64_t>> types = metadata.find_ints("tokenizer.ggml.token_type")) {
    v.types.reserve(types->size());
    for (const std::int64_t type : *types) {
      if (type < 1 || type > 6)
        return fail(errc::bad_format, "tokenizer.ggml.token_type: piece ", v.types.size(), ": expected 1 to 6, found ",
                    type);
      v.types.push_back(static_cast<std::int32_t>(type));
    }
  }
  if (!spm) {
    const std::optional<std::vector<std::string_view>> merges = metadata.find_strings("tokenizer.ggml.merges");
    if (!merges) return fail(errc::bad_format, "tokenizer.ggml.merges: expected a list of strings, found none");
    v.merges.assign(merges->begin(), merges->end());
    if (const std::optional<std::string_view> pre = metadata.find_string("tokenizer.ggml.pre")) v.pre = *pre;
  }

  // Writers mark "none" by the largest 32-bit number.
  const auto read_id = [&](const char* key, token otherwise) -> result<token> {
    const std::optional<std::uint64_t> id = metadata.find_u64(key);
    if (!id) return static_cast<std::size_t>(otherwise + 1) <= v.pieces.size() ? otherwise : token{-1};
    if (*id == 0xFFFFFFFFu) return token{-1};
    if (*id >= v.pieces.size())
      return fail(errc::bad_format, key, ": expected an id below ", v.pieces.size(), ", found ", *id);
    return static_cast<token>(*id);
  };
  struct {
    const char* key;
    token otherwise;
    token* out;
  } const markers[] = {{"tokenizer.ggml.bos_token_id", spm ? 1 : -1, &v.bos},
                       {"tokenizer.ggml.eos_token_id", spm ? 2 : -1, &v.eos},
                       {"tokenizer.ggml.unknown_token_id", spm ? 0 : -1, &v.unk}};
  for (const auto& marker : markers) {
    const result<token> id = read_id(marker.key, marker.otherwise);
    if (!id) return id.error();
    *marker.out = *id;
  }
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const result<token> id = read_id(key, -1);
    if (!id) return id.error();
    if (*id >= 0) v.stops.push_back(*id);
  }
  for (std::size_t i = 0; i < v.pieces.size() && !v.types.empty() && i < v.types.size(); ++i) {
    const piece_type type = type_of(v, i);
    if ((type == piece_type::control || type == piece_type::user_defined) && ends_turn(v.pieces[i]))
      v.stops.push_back(static_cast<token>(i));
  }

  v.add_bos = metadata.find_bool("tokenizer.ggml.add_bos_token").value_or(spm || implies_bos(v.pre));
  v.add_eos = metadata.find_bool("tokenizer.ggml.add_eos_token").value_or(false);
  v.add_space_prefix = spm && metadata.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
  return v;
}

/// The tokenizer of a GGUF file, or why there is none.
template <tokenizer_metadata Metadata>
[[nodiscard]] result<tokenizer> make_tokenizer(const Metadata& metadata) {
  auto v = read_vocabulary(metadata);
  if (!v) return std::move(v).error();
  return tokenizer::from_vocabulary(*std::move(v));
}

}  // namespace blockattn::inline v0
