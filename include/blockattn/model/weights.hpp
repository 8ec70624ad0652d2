// SPDX-License-Identifier: MIT
/// Where weights come from: a concept that files and programs model alike, and the source for a program's own spans.
///
/// Tensor names are those of the Hugging Face Llama checkpoints; a matrix has shape (out, in), row-major:
///
///     model.embed_tokens.weight                         (vocab, dim)
///     model.layers.N.input_layernorm.weight             (dim)
///     model.layers.N.self_attn.{q,k,v}_proj.weight      (heads*head_dim | kv_heads*head_dim, dim)
///     model.layers.N.self_attn.{q,k,v}_proj.bias        (heads*head_dim | kv_heads*head_dim)   if qkv_bias
///     model.layers.N.self_attn.{q,k}_norm.weight        (head_dim)                             if qk_norm
///     model.layers.N.self_attn.o_proj.weight            (dim, heads*head_dim)
///     model.layers.N.post_attention_layernorm.weight    (dim)            before the feed-forward layer; if post_norms,
///     model.layers.N.{pre,post}_feedforward_layernorm.weight  (dim)      after attention, and these around that layer
///     model.layers.N.mlp.{gate,up}_proj.weight          (ffn, dim)
///     model.layers.N.mlp.down_proj.weight               (dim, ffn)
///     model.norm.weight                                 (dim)
///     lm_head.weight                                    (vocab, dim)                           unless tied
///
/// The rows of q and k are in the order that `model_config::rope.layout` rotates; a bound model has them half-split.
/// Norms are multiplied with their weights as they are: a reader of files that store w for a factor of 1 + w adds the one.
#pragma once

#include <concepts>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../core/element.hpp"
#include "../core/result.hpp"
#include "config.hpp"

namespace blockattn::inline v0 {

/// What a source knows of a tensor before it is read. A vector has `rows == 1`.
struct tensor_info {
  dtype type = dtype::f32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t bytes = 0;  // rows * cols / block_elements(type) * block_bytes(type)

  friend bool operator==(const tensor_info&, const tensor_info&) = default;
};

/// The bytes of a tensor: borrowed from a mapping or a program, or read into memory of their own.
class tensor_bytes {
 public:
  explicit tensor_bytes(std::span<const std::byte> borrowed) : view_(borrowed) {}
  explicit tensor_bytes(std::vector<std::byte> owned) : owned_(std::move(owned)), view_(owned_) {}
  tensor_bytes(tensor_bytes&& other) noexcept : owned_(std::move(other.owned_)), view_(other.view_) {}
  tensor_bytes& operator=(tensor_bytes&& other) noexcept {
    owned_ = std::move(other.owned_);
    view_ = other.view_;
    return *this;
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return view_; }

 private:
  std::vector<std::byte> owned_;
  std::span<const std::byte> view_;
};

/// A source of weights. `load` may be called once per tensor and in any order; `release` says that the bytes of a
/// tensor will not be asked for again (a mapping drops its pages).
template <class W>
concept weights_source = requires(const W& w, std::string_view name) {
  { w.config() } -> std::convertible_to<const model_config&>;
  { w.find(name) } -> std::same_as<std::optional<tensor_info>>;
  { w.load(name) } -> std::same_as<result<tensor_bytes>>;
  { w.release(name) };
};

/// Weights that the program already holds. Spans are borrowed until `llama::bind` returns.
class span_weights {
 public:
  explicit span_weights(model_config config) : config_(std::move(config)) {}

  /// Adds a tensor of floats, bf16 or f16; `cols` defaults to a vector. Errors: `shape_mismatch` if the span does not
  /// hold rows * cols elements.
  template <element T>
  result<void> add(std::string name, std::span<const T> data, std::size_t rows, std::size_t cols) {
    if (cols == 0 || data.size() / cols != rows || data.size() % cols != 0)
      return fail(errc::shape_mismatch, "tensor ", name, ": expected ", rows, " x ", cols, " elements, found ",
                        data.size());
    entry e{{element_traits<T>::type, rows, cols, data.size_bytes()}, std::as_bytes(data)};
    tensors_.insert_or_assign(std::move(name), e);
    return {};
  }
  template <element T>
  result<void> add(std::string name, std::span<const T> vector) {
    return add(std::move(name), vector, 1, vector.size());
  }

  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return std::nullopt;
    return it->second.info;
  }
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return fail(errc::bad_format, "tensor ", name, " is missing");
    return tensor_bytes(it->second.data);
  }
  void release(std::string_view) const noexcept {}

 private:
  struct entry {
    tensor_info info;
    std::span<const std::byte> data;
  };
  model_config config_;
  std::map<std::string, entry, std::less<>> tensors_;
};

static_assert(weights_source<span_weights>);

}  // namespace blockattn::inline v0
