// SPDX-License-Identifier: MIT
/// What int8 keys are divided by before they are rounded: one factor for each layer, key/value head and rotary pair.
///
/// A scale of an int8 key serves all its dims, so a dim whose keys are tens of times larger than the others (as in
/// models with biased keys, Qwen2.5 among them) costs those most of their bits. Dividing both dims of a rotary pair by
/// one factor commutes with the rotation, and multiplying the query by it leaves every score as it is:
///
///     <q, R k>  =  <f q, R (k / f)>        f constant on pairs
///
/// so it costs nothing per key and nothing per move. Dims that do not turn have a factor each.
#pragma once

#include <bit>
#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "../core/hash.hpp"
#include "../core/result.hpp"
#include "config.hpp"

namespace blockattn::inline v0 {

/// Immutable; sessions share it.
class key_factors {
 public:
  /// From the sizes of keys: (layers, kv_heads, head_dim) non-negative floats, such as root mean squares. The factor of
  /// a pair is the root of the sum of its two squares, relative to the largest of its head; at least 1/1024 of that, so
  /// that a pair without keys gets no infinite ones. Errors: `shape_mismatch` for another number of sizes,
  /// `invalid_argument` for one that is negative or not finite.
  [[nodiscard]] static result<key_factors> from_sizes(const model_config& c, std::span<const float> sizes) {
    const std::size_t d = c.head_dim, heads = std::size_t{c.layers} * c.kv_heads;
    if (sizes.size() != heads * d)
      return fail(errc::shape_mismatch, "key factors: expected ", heads * d, " sizes, found ", sizes.size());
    key_factors out;
    out.values_.resize(sizes.size());
    for (std::size_t h = 0; h < heads; ++h) {
      const float* in = sizes.data() + h * d;
      float* to = out.values_.data() + h * d;
      for (std::size_t i = 0; i < d; ++i) {
        if (!(in[i] >= 0) || !std::isfinite(in[i]))
          return fail(errc::invalid_argument, "key factors: expected sizes from 0 on, found ", in[i], " at ",
                      h * d + i);
        to[i] = in[i];
      }
      for (std::size_t m = 0; m < c.rope.rotary_dim / 2; ++m) {
        const bool split = c.rope.layout == rope_layout::half_split;
        const std::size_t i = split ? m : 2 * m, j = split ? m + c.rope.rotary_dim / 2 : 2 * m + 1;
        to[i] = to[j] = std::hypot(in[i], in[j]);
      }
      float most = 0;
      for (std::size_t i = 0; i < d; ++i) most = std::fmax(most, to[i]);
      for (std::size_t i = 0; i < d; ++i) to[i] = most > 0 ? std::fmax(to[i] / most, 0x1p-10f) : 1.0f;
    }
    hasher h;
    for (const float x : out.values_) h.number(std::bit_cast<std::uint32_t>(x));
    out.name_ = h.finish().low;
    if (out.name_ == 0) out.name_ = 1;  // 0 says that there are none
    return out;
  }

  /// (layers, kv_heads, head_dim), equal on both dims of a pair, in (0, 1].
  [[nodiscard]] std::span<const float> values() const noexcept { return values_; }
  /// A hash of them, for keys of blocks; never 0.
  [[nodiscard]] std::uint64_t name() const noexcept { return name_; }

 private:
  std::vector<float> values_;
  std::uint64_t name_ = 0;
};

/// Factors without data, from what the weights say of a key of ordinary input: its bias and the length of its row, or
/// the weight of its norm. Complexity: one pass over the key projections.
template <class Model>
[[nodiscard]] result<std::shared_ptr<const key_factors>> key_factors_of(const Model& model) {
  const model_config& c = model.config();
  const std::size_t width = std::size_t{c.kv_heads} * c.head_dim;
  std::vector<float> sizes(c.layers * width);
  for (std::size_t l = 0; l < c.layers; ++l) model.expected_keys(l, sizes.data() + l * width);
  auto made = key_factors::from_sizes(c, sizes);
  if (!made) return std::move(made).error();
  return std::make_shared<const key_factors>(*std::move(made));
}

}  // namespace blockattn::inline v0
