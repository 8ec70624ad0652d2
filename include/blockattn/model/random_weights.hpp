// SPDX-License-Identifier: MIT
/// Seeded random weights of any shape, made on demand: for benchmarks on real shapes without a download, for the demo,
/// and for tests. The text of such a model is noise; its arithmetic is not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../core/hash.hpp"
#include "../kernel/quantize.hpp"
#include "weights.hpp"

namespace blockattn::inline v0 {

/// A weights_source. The same configuration, element type and seed give the same bytes on every machine. Matrices are
/// uniform with standard deviation `spread / sqrt(cols)`, norms lie in [0.75, 1.25], biases in [-0.25, 0.25]. Matrices of
/// quantised types are random codes, of this deviation within a tenth.
class random_weights {
 public:
  /// `type` of the matrices, any weight type; a quantised one needs a configuration that it `fits`. Vectors are f32.
  explicit random_weights(model_config config, dtype type = dtype::f32, std::uint64_t seed = 1, float spread = 1.0f)
      : config_(std::move(config)), type_(type), seed_(seed), spread_(spread) {
    BLOCKATTN_EXPECTS(is_weight_type(type) && fits(config_, type));
  }

  /// Whether rows of all matrices are whole blocks of a type.
  [[nodiscard]] static bool fits(const model_config& c, dtype type) noexcept {
    const std::size_t block = block_elements(type);
    return c.dim % block == 0 && c.ffn % block == 0 && std::size_t{c.heads} * c.head_dim % block == 0;
  }

  [[nodiscard]] const model_config& config() const noexcept { return config_; }

  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const auto is = shape_of(name);
    if (!is) return std::nullopt;
    const dtype type = is_matrix(*is) ? type_ : dtype::f32;
    return tensor_info{type, is->rows, is->cols, is->rows * (is->cols / block_elements(type)) * block_bytes(type)};
  }

  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const auto info = find(name);
    if (!info) return fail(errc::bad_format, "tensor ", name, " is not part of the model");
    std::vector<std::byte> bytes(info->bytes);
    const std::uint64_t key = hasher(seed_).text(name).finish().low;
    if (is_quantized(info->type)) {
      fill_codes(info->type, spread_ / std::sqrt(static_cast<float>(info->cols)), key, bytes);
      return tensor_bytes(std::move(bytes));
    }
    const bool norm = name.find("norm") != std::string_view::npos, bias = ends_with(name, ".bias");
    // A uniform number of width w has standard deviation w / sqrt(12).
    const float width = norm || bias ? 0.5f : spread_ * std::sqrt(12.0f / static_cast<float>(info->cols));
    const float center = norm ? 1.0f : 0.0f;
    for (std::size_t i = 0; i < info->rows * info->cols; ++i) {
      const float x = center + width * (uniform(key + i) - 0.5f);
      switch (info->type) {
        case dtype::bf16: put(bytes, i, to_bf16(x)); break;
        case dtype::f16: put(bytes, i, to_f16(x)); break;
        default: put(bytes, i, x); break;
      }
    }
    return tensor_bytes(std::move(bytes));
  }

  void release(std::string_view) const noexcept {}

 private:
  struct shape {
    std::size_t rows, cols;
  };
  static bool is_matrix(const shape& s) noexcept { return s.rows != 1; }
  static bool ends_with(std::string_view text, std::string_view end) noexcept {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
  }

  [[nodiscard]] std::optional<shape> shape_of(std::string_view name) const {
    const model_config& c = config_;
    const std::size_t queries = std::size_t{c.heads} * c.head_dim, keys = std::size_t{c.kv_heads} * c.head_dim;
    if (name == "model.embed_tokens.weight") return shape{c.vocab, c.dim};
    if (name == "lm_head.weight" && !c.tied_embeddings) return shape{c.vocab, c.dim};
    if (name == "model.norm.weight") return shape{1, c.dim};
    constexpr std::string_view prefix = "model.layers.";
    if (name.substr(0, prefix.size()) != prefix) return std::nullopt;
    const std::size_t dot = name.find('.', prefix.size());
    if (dot == std::string_view::npos) return std::nullopt;
    const std::string_view rest = name.substr(dot + 1);
    struct entry {
      std::string_view name;
      shape is;
    };
    const entry all[] = {{"input_layernorm.weight", {1, c.dim}},
                         {"post_attention_layernorm.weight", {1, c.dim}},
                         {"pre_feedforward_layernorm.weight", {1, c.dim}},
                         {"post_feedforward_layernorm.weight", {1, c.dim}},
                         {"self_attn.q_proj.weight", {queries, c.dim}},
                         {"self_attn.k_proj.weight", {keys, c.dim}},
                         {"self_attn.v_proj.weight", {keys, c.dim}},
                         {"self_attn.q_proj.bias", {1, queries}},
                         {"self_attn.k_proj.bias", {1, keys}},
                         {"self_attn.v_proj.bias", {1, keys}},
                         {"self_attn.q_norm.weight", {1, c.head_dim}},
                         {"self_attn.k_norm.weight", {1, c.head_dim}},
                         {"self_attn.o_proj.weight", {c.dim, queries}},
                         {"mlp.gate_proj.weight", {c.ffn, c.dim}},
                         {"mlp.up_proj.weight", {c.ffn, c.dim}},
                         {"mlp.down_proj.weight", {c.dim, c.ffn}}};
    for (const entry& e : all)
      if (e.name == rest) return e.is;
    return std::nullopt;
  }

  // Blocks of any codes, whose halves make the deviation; offsets move their middle to zero.
  static void fill_codes(dtype type, float deviation, std::uint64_t key, std::vector<std::byte>& bytes) noexcept {
    for (std::size_t i = 0; i < bytes.size(); i += 8) {
      const std::uint64_t x = mix(key + i / 8);
      std::memcpy(bytes.data() + i, &x, std::min<std::size_t>(8, bytes.size() - i));
    }
    const auto half_range = static_cast<float>(1 << (code_bits(type) - 1));
    // Root mean squares: of codes about their middle, and what the factors of k-types make of it. Those of q6_k are bytes
    // with a sign; others have six bits, and so have their minimums, which vary beside them.
    const float of_codes = half_range / std::sqrt(3.0f);
    const float of_factors = block_elements(type) != 256 ? 1.0f : type == dtype::q6_k ? 74.0f : 57.0f;
    const float scale = deviation / (of_codes * of_factors);
    const f16 halves[] = {to_f16(scale), to_f16(block_elements(type) == 256 ? half_range * scale : -half_range * scale)};
    const std::size_t size = block_bytes(type), at = type == dtype::q6_k ? size - 2 : 0;
    for (std::size_t i = at; i < bytes.size(); i += size) std::memcpy(bytes.data() + i, halves, has_offsets(type) ? 4 : 2);
  }

  // A mixed counter (splitmix64).
  static std::uint64_t mix(std::uint64_t counter) noexcept {
    std::uint64_t x = counter * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  // 24 bits of it, as a number in [0, 1).
  static float uniform(std::uint64_t counter) noexcept { return static_cast<float>(mix(counter) >> 40) * 0x1.0p-24f; }
  template <class T>
  static void put(std::vector<std::byte>& bytes, std::size_t i, T value) noexcept {
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }

  model_config config_;
  dtype type_;
  std::uint64_t seed_;
  float spread_;
};

static_assert(weights_source<random_weights>);

/// Configurations of published models, for benchmarks: `"smollm2-135m"`, `"qwen2.5-0.5b"`, `"llama-3.2-1b"`,
/// `"llama-3.2-3b"`, `"llama-3.1-8b"`. Errors: `invalid_argument` lists the names.
[[nodiscard]] inline result<model_config> published_shape(std::string_view name) {
  struct entry {
    std::string_view name;
    std::uint32_t layers, dim, heads, kv_heads, head_dim, ffn, vocab, context;
    double theta;
    bool tied, bias;
  };
  static constexpr entry all[] = {
      {"smollm2-135m", 30, 576, 9, 3, 64, 1536, 49152, 8192, 100000, true, false},
      {"qwen2.5-0.5b", 24, 896, 14, 2, 64, 4864, 151936, 32768, 1000000, true, true},
      {"llama-3.2-1b", 16, 2048, 32, 8, 64, 8192, 128256, 131072, 500000, true, false},
      {"llama-3.2-3b", 28, 3072, 24, 8, 128, 8192, 128256, 131072, 500000, true, false},
      {"llama-3.1-8b", 32, 4096, 32, 8, 128, 14336, 128256, 131072, 500000, false, false},
  };
  std::string names;
  for (const entry& e : all) {
    if (e.name == name) {
      model_config c;
      c.architecture = std::string(e.name);
      c.layers = e.layers;
      c.dim = e.dim;
      c.heads = e.heads;
      c.kv_heads = e.kv_heads;
      c.head_dim = e.head_dim;
      c.ffn = e.ffn;
      c.vocab = e.vocab;
      c.context_length = e.context;
      c.tied_embeddings = e.tied;
      c.qkv_bias = e.bias;
      c.rope.theta = e.theta;
      c.rope.rotary_dim = e.head_dim;
      return c;
    }
    names += names.empty() ? "" : ", ";
    names += e.name;
  }
  return fail(errc::invalid_argument, "model shape: expected one of ", names, "; found ", std::string(name));
}

}  // namespace blockattn::inline v0
