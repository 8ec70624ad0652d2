// SPDX-License-Identifier: MIT
/// Small llama2.c files of both versions, written from the description of the formats.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../support/gguf_writer.hpp"

namespace blockattn_test {

struct llama2c_shape {
  int version = 0;
  bool tied = true;
  std::int32_t dim = 8, ffn = 12, layers = 2, heads = 2, kv_heads = 1, vocab = 10, context = 6;
};

/// A tensor's floats by its name and size. The default gives distinct small numbers in the order of the calls.
using tensor_values = std::function<std::vector<float>(const std::string& name, std::size_t count)>;

inline byte_vector llama2c_file(const llama2c_shape& s, tensor_values values = {}) {
  float next = 0;
  if (!values)
    values = [&next](const std::string&, std::size_t count) {
      std::vector<float> out(count);
      for (float& x : out) x = (next += 0.25f);
      return out;
    };
  byte_vector out;
  if (s.version == 1) {
    put(out, std::uint32_t{0x616b3432});
    put(out, std::int32_t{1});
  }
  for (const std::int32_t x : {s.dim, s.ffn, s.layers, s.heads, s.kv_heads}) put(out, x);
  put(out, s.version == 0 && !s.tied ? -s.vocab : s.vocab);
  put(out, s.context);
  if (s.version == 1) {
    put(out, static_cast<std::uint8_t>(s.tied));
    out.resize(256);
  }

  const auto dim = static_cast<std::size_t>(s.dim), ffn = static_cast<std::size_t>(s.ffn);
  const std::size_t head = dim / static_cast<std::size_t>(s.heads), keys = head * static_cast<std::size_t>(s.kv_heads);
  const auto add = [&](const std::string& name, std::size_t count) {
    const byte_vector bytes = bytes_of(values(name, count));
    out.insert(out.end(), bytes.begin(), bytes.end());
  };
  const auto layers = [&](const char* name, std::size_t count) {
    for (std::int32_t l = 0; l < s.layers; ++l) add("model.layers." + std::to_string(l) + "." + name, count);
  };
  const auto embedding = [&] { add("model.embed_tokens.weight", dim * static_cast<std::size_t>(s.vocab)); };
  const auto attention_norms = [&] { layers("input_layernorm.weight", dim); };
  const auto attention = [&] {
    layers("self_attn.q_proj.weight", dim * dim);
    layers("self_attn.k_proj.weight", keys * dim);
    layers("self_attn.v_proj.weight", keys * dim);
    layers("self_attn.o_proj.weight", dim * dim);
  };
  const auto ffn_norms = [&] { layers("post_attention_layernorm.weight", dim); };
  const auto feed_forward = [&] {
    layers("mlp.gate_proj.weight", ffn * dim);
    layers("mlp.down_proj.weight", dim * ffn);
    layers("mlp.up_proj.weight", ffn * dim);
  };
  if (s.version == 0) {
    embedding();
    attention_norms();
    attention();
    ffn_norms();
    feed_forward();
    add("model.norm.weight", dim);
    // Angles that must be ignored: no tensor may show this number.
    for (std::size_t i = 0; i < static_cast<std::size_t>(s.context) * head; ++i) put(out, -777.0f);
  } else {
    attention_norms();
    ffn_norms();
    add("model.norm.weight", dim);
    embedding();
    attention();
    feed_forward();
  }
  if (!s.tied) add("lm_head.weight", dim * static_cast<std::size_t>(s.vocab));
  return out;
}

}  // namespace blockattn_test
