// SPDX-License-Identifier: MIT
/// A whole GGUF model with words in some 50 kilobytes: random weights, one piece for each byte and one for the space.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "../support/gguf_writer.hpp"
#include "../support/random_model.hpp"

namespace blockattn_test {

inline constexpr std::uint32_t tiny_vocab = 260;

/// Two layers, dim 16, 4 heads of 4, 2 key heads. Without words it has no tokenizer.
inline gguf_writer tiny_gguf(bool words = true, std::uint64_t seed = 1) {
  gguf_writer w;
  w.text("general.architecture", "llama");
  w.u32("llama.context_length", 64).u32("llama.embedding_length", 16).u32("llama.block_count", 2);
  w.u32("llama.feed_forward_length", 24).u32("llama.attention.head_count", 4).u32("llama.attention.head_count_kv", 2);
  w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  if (words) {
    std::vector<std::string> pieces{"<unk>", "<s>", "</s>", "\xE2\x96\x81"};
    std::vector<std::int32_t> types{2, 3, 3, 1};
    for (unsigned byte = 0; byte < 256; ++byte) {
      char piece[8];
      std::snprintf(piece, sizeof piece, "<0x%02X>", byte);
      pieces.emplace_back(piece);
      types.push_back(6);
    }
    w.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", pieces);
    w.list<float>("tokenizer.ggml.scores", 6, std::vector<float>(pieces.size(), 0.0f));
    w.list<std::int32_t>("tokenizer.ggml.token_type", 5, types);
    w.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
    w.u32("tokenizer.ggml.unknown_token_id", 0).boolean("tokenizer.ggml.add_space_prefix", false);
  }
  random_numbers random(seed);
  const auto floats = [&](const std::string& name, std::uint64_t cols, std::uint64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(cols * rows));
    const double size = rows == 1 ? 0.3 : 2.0 / std::sqrt(static_cast<double>(cols));
    for (float& x : values) x = static_cast<float>((rows == 1 ? 1.0 : 0.0) + random.symmetric(size));
    w.floats(name, rows == 1 ? std::vector<std::uint64_t>{cols} : std::vector<std::uint64_t>{cols, rows}, values);
  };
  floats("token_embd.weight", 16, tiny_vocab);
  for (const std::string l : {"blk.0.", "blk.1."}) {
    floats(l + "attn_norm.weight", 16, 1);
    floats(l + "attn_q.weight", 16, 16);
    floats(l + "attn_k.weight", 16, 8);
    floats(l + "attn_v.weight", 16, 8);
    floats(l + "attn_output.weight", 16, 16);
    floats(l + "ffn_norm.weight", 16, 1);
    floats(l + "ffn_gate.weight", 16, 24);
    floats(l + "ffn_up.weight", 16, 24);
    floats(l + "ffn_down.weight", 24, 16);
  }
  floats("output_norm.weight", 16, 1);
  return w;
}

}  // namespace blockattn_test
