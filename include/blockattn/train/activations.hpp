// SPDX-License-Identifier: MIT
/// The arrays of a pass that have a row for each token: what layers keep for the way back, and what the way back works in.
#pragma once

#include <algorithm>
#include <vector>

#include "../model/config.hpp"
#include "head_loss.hpp"

namespace blockattn::inline v0 {

/// Bytes that a pass over `tokens` rows keeps and works in, all of them targets; without packed factors and the scratch of
/// attention (for each worker about 100 times the keys of the largest sample, in elements).
template <class T = float>
[[nodiscard]] std::size_t activation_bytes(const model_config& c, std::size_t tokens, bool recompute = false) noexcept {
  const std::size_t heads = c.heads, kv_heads = c.kv_heads, dim = c.dim, head_dim = c.head_dim, ffn = c.ffn;
  const std::size_t qkv = (heads + 2 * kv_heads) * head_dim, queries = heads * head_dim;
  const std::size_t normed = c.qk_norm ? (heads + kv_heads) * (head_dim + 1) : 0;
  const std::size_t kept = qkv + normed + queries + heads + dim + 2 * ffn + 2;
  const std::size_t inputs = (c.layers + std::size_t{1}) * dim;
  const std::size_t working = 3 * dim + ffn + queries + qkv, last = 2 * dim + 1;
  const std::size_t logits = std::min(head_rows(c.vocab), tokens) * c.vocab;
  return (tokens * (inputs + (recompute ? 1 : c.layers) * kept + working + last) + logits) * sizeof(T);
}

inline namespace BLOCKATTN_ISA {

/// What a layer keeps for the way back. Shapes: rows by the widths in `activations::place`.
template <class T>
struct kept_layer {
  T *qkv, *before_norm, *head_scales, *attended, *sums, *middle, *gate_up, *scales;
};

/// All of them in one piece: large pages hold it, and a pass of more rows than any before it touches new memory once.
template <class T>
class activations {
 public:
  /// With `normed_too`, `normed` and `gated` have places as well.
  activations(const model_config& config, bool recompute, bool normed_too)
      : inputs(config.layers + std::size_t{1}), kept(recompute ? 1 : config.layers), config_(config), normed_too_(normed_too) {}

  std::vector<T*> inputs;           // of each layer, and of the last norm
  std::vector<kept_layer<T>> kept;  // of each layer, or of one at a time
  T *d_x = nullptr, *d_middle = nullptr, *d_attended = nullptr, *d_qkv = nullptr;
  T *normed = nullptr, *gated = nullptr;

  /// Makes place for so many rows. Contents of a pass of other rows are lost.
  void place(std::size_t rows) {
    const std::size_t dim = config_.dim, ffn = config_.ffn, heads = config_.heads, kv_heads = config_.kv_heads;
    const std::size_t queries = heads * config_.head_dim, width = queries + 2 * kv_heads * config_.head_dim;
    const std::size_t normed_heads = config_.qk_norm ? heads + kv_heads : 0;
    std::size_t total = 0;
    T* from = nullptr;
    const auto put = [&](T*& array, std::size_t n) {
      if (from != nullptr) array = from + total;
      total += round_up(rows * n, alignment / sizeof(T));
    };
    const auto all = [&] {
      total = 0;
      for (T*& x : inputs) put(x, dim);
      for (kept_layer<T>& k : kept) {
        put(k.qkv, width), put(k.before_norm, normed_heads * config_.head_dim), put(k.head_scales, normed_heads);
        put(k.attended, queries), put(k.sums, heads), put(k.middle, dim), put(k.gate_up, 2 * ffn), put(k.scales, 2);
      }
      put(d_x, dim), put(d_middle, dim), put(d_attended, queries), put(d_qkv, width);
      if (normed_too_) put(normed, dim), put(gated, ffn);
    };
    all();
    from = space_.take(total);
    all();
  }

 private:
  model_config config_;
  bool normed_too_;
  growing_array<T> space_;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
