// SPDX-License-Identifier: MIT
/// Small models with seeded random weights, the same on every machine: for laws that hold for any weights.
#pragma once

#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "blockattn/model/weights.hpp"

namespace blockattn_test {

/// splitmix64: the standard library's distributions differ between implementations, this does not.
class random_numbers {
 public:
  explicit random_numbers(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }
  /// In [-size, size).
  double symmetric(double size = 1.0) { return size * (2 * uniform() - 1); }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(bits() % n); }

  std::vector<blockattn::token> tokens(std::size_t n, std::uint32_t vocab) {
    std::vector<blockattn::token> out(n);
    for (auto& t : out) t = static_cast<blockattn::token>(below(vocab));
    return out;
  }

 private:
  std::uint64_t state_;
};

/// A shape with grouped queries whose head size is not dim / heads.
inline blockattn::model_config small_config(std::uint32_t head_dim = 16, std::uint32_t heads = 4,
                                            std::uint32_t kv_heads = 2) {
  blockattn::model_config c;
  c.layers = 3;
  c.dim = 24;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.head_dim = head_dim;
  c.ffn = 40;
  c.vocab = 53;
  c.context_length = 256;
  c.rope.rotary_dim = head_dim;
  return c;
}

/// Owns random weights for a configuration. Matrices are scaled so that activations and scores stay near one; scores
/// are made larger by `sharpness`, for attention that is far from uniform.
class random_model {
 public:
  explicit random_model(blockattn::model_config config, std::uint64_t seed = 1, double sharpness = 3.0)
      : weights_(config), random_(seed) {
    const std::size_t dim = config.dim, ffn = config.ffn, d = config.head_dim;
    const std::size_t queries = config.heads * d, keys = config.kv_heads * d;
    matrix("model.embed_tokens.weight", config.vocab, dim, 1.0);
    for (std::size_t l = 0; l < config.layers; ++l) {
      const std::string layer = "model.layers." + std::to_string(l) + ".";
      norm(layer + "input_layernorm.weight", dim);
      matrix(layer + "self_attn.q_proj.weight", queries, dim, sharpness);
      matrix(layer + "self_attn.k_proj.weight", keys, dim, 1.7);
      matrix(layer + "self_attn.v_proj.weight", keys, dim, 1.7);
      matrix(layer + "self_attn.o_proj.weight", dim, queries, 1.7);
      if (config.qkv_bias) {
        vector(layer + "self_attn.q_proj.bias", queries, 0.0, 0.5);
        vector(layer + "self_attn.k_proj.bias", keys, 0.0, 0.5);
        vector(layer + "self_attn.v_proj.bias", keys, 0.0, 0.5);
      }
      if (config.qk_norm) {
        norm(layer + "self_attn.q_norm.weight", d);
        norm(layer + "self_attn.k_norm.weight", d);
      }
      norm(layer + "post_attention_layernorm.weight", dim);
      if (config.post_norms) {
        norm(layer + "pre_feedforward_layernorm.weight", dim);
        norm(layer + "post_feedforward_layernorm.weight", dim);
      }
      matrix(layer + "mlp.gate_proj.weight", ffn, dim, 1.7);
      matrix(layer + "mlp.up_proj.weight", ffn, dim, 1.7);
      matrix(layer + "mlp.down_proj.weight", dim, ffn, 1.7);
    }
    norm("model.norm.weight", dim);
    if (!config.tied_embeddings) matrix("lm_head.weight", config.vocab, dim, 1.7);
  }

  random_model(const random_model&) = delete;  // the source borrows from this object
  random_model& operator=(const random_model&) = delete;

  [[nodiscard]] const blockattn::span_weights& source() const noexcept { return weights_; }

 private:
  void vector(const std::string& name, std::size_t n, double middle, double size) { fill(name, 1, n, middle, size); }
  void norm(const std::string& name, std::size_t n) { vector(name, n, 1.0, 0.3); }
  void matrix(const std::string& name, std::size_t rows, std::size_t cols, double gain) {
    fill(name, rows, cols, 0.0, gain / std::sqrt(static_cast<double>(cols)));
  }
  void fill(const std::string& name, std::size_t rows, std::size_t cols, double middle, double size) {
    auto& data = storage_.emplace_back(rows * cols);
    for (float& x : data) x = static_cast<float>(middle + random_.symmetric(size));
    (void)weights_.add(name, std::span<const float>(data), rows, cols);
  }

  blockattn::span_weights weights_;
  random_numbers random_;
  std::deque<std::vector<float>> storage_;  // a deque, so that earlier tensors stay where they are
};

}  // namespace blockattn_test
