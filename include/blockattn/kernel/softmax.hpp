// SPDX-License-Identifier: MIT
/// The streaming softmax of one query row: scores arrive in steps, and what was summed before is scaled to the largest
/// score seen so far (Milakov and Gimelshein 2018; the paper's assembly of blocks needs nothing else, because a softmax
/// over several blocks is the weighted mean of the softmax over each).
///
/// Everything is in base 2: the caller folds log2(e) into the scale of its queries. Masks are finite numbers, so that
/// nothing here depends on how a host's compiler flags treat infinities and NaN.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../simd/math.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// The score of a key that a row does not see.
inline constexpr float masked_score = -1e30f;
/// The largest score of a row that has seen no key. It lies so far above `masked_score` that a masked key weighs
/// exactly nothing even then.
inline constexpr float no_score = -1e29f;

/// The keys that one row sees of a run: [first, last), counted from the start of the run.
struct key_range {
  std::int64_t first = 0;
  std::int64_t last = 0;
  [[nodiscard]] constexpr bool empty() const noexcept { return first >= last; }
};

/// The keys that some row at a position in [low, high] sees, of `keys` keys whose first stands at `start`: key p is
/// visible to P iff p <= P and P - p < window. Every row in between sees a part of this range.
[[nodiscard]] constexpr key_range visible_keys(std::int64_t low, std::int64_t high, std::int64_t window,
                                               std::int64_t start, std::size_t keys) noexcept {
  constexpr std::int64_t far = std::int64_t{1} << 61;  // no sum below overflows
  const auto clamp = [&](std::int64_t n) { return std::clamp(n, std::int64_t{0}, static_cast<std::int64_t>(keys)); };
  return {clamp(low - std::min(window, far) + 1 - start), clamp(high - start + 1)};
}

/// Hides the scores of a row outside `seen`; `tiles` tiles of sixteen scores.
inline void mask_scores(float* scores, std::size_t tiles, key_range seen) noexcept {
  for (std::size_t t = 0; t < tiles; ++t) {
    const auto at = static_cast<std::int64_t>(t * panel_width);
    if (seen.first <= at && seen.last >= at + static_cast<std::int64_t>(panel_width)) continue;
    float* tile = scores + t * panel_width;
    store(tile, keep_lanes(load(tile), masked_score, static_cast<std::ptrdiff_t>(seen.first - at),
                           static_cast<std::ptrdiff_t>(seen.last - at)));
  }
}

/// The largest of a row's scores and of what it had before; `tiles` >= 1.
[[nodiscard]] inline float largest(const float* scores, std::size_t tiles, float before) noexcept {
  f32x16 top = load(scores);
  for (std::size_t t = 1; t < tiles; ++t) top = max(top, load(scores + t * panel_width));
  return std::max(before, reduce_max(top));
}

/// Sixteen rows at a time: replaces each `highest` by `now`, and sets `factor` to 2^(highest before - now), by which
/// what the row gathered before must be multiplied. It is exactly 1 while the maximum stays.
inline void raise(float* highest, const float* now, float* factor, std::size_t rows) noexcept {
  for (std::size_t r = 0; r < rows; r += panel_width) {
    const f32x16 top = load(now + r);
    store(factor + r, exp2_nonpositive(load(highest + r) - top));
    store(highest + r, top);
  }
}

/// Turns `tiles` tiles of scores into weights 2^(score - highest), rounded to the row operand of the product with
/// values, and adds them to the row's `sum` (16 partial sums) after multiplying that by `factor`. `weights` may be
/// `scores`.
///
/// Weights of bf16 are written in pairs of tiles; the second of an odd last one is zero.
/// The sum is taken over the rounded weights, so that the weights of a row add up to one whatever their type. A tile
/// that is wholly masked adds zeros: how many of them a step carries changes no bit.
template <class Row>
inline void weigh(const float* scores, std::size_t tiles, float highest, float factor, Row* weights,
                  float* sum) noexcept {
  const f32x16 shift = broadcast(highest);
  f32x16 total = zero16();
#if defined(__AVX512BF16__) && defined(__AVX512F__)
  if constexpr (std::is_same_v<Row, bf16>) {
    // Two tiles at a time: half the instructions to round them, and the sum of pairs is one.
    const auto ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (std::size_t t = 0; t < tiles; t += 2) {
      const float* from = scores + t * panel_width;
      const f32x16 first = exp2_for_bf16(load(from) - shift);
      const f32x16 second = t + 1 < tiles ? exp2_for_bf16(load(from + panel_width) - shift) : zero16();
      const __m512bh both = _mm512_cvtne2ps_pbh(second.r[0], first.r[0]);
      std::memcpy(static_cast<void*>(weights + t * panel_width), &both, sizeof(both));
      total.r[0] = _mm512_dpbf16_ps(total.r[0], both, ones);
    }
    store(sum, fma(load(sum), broadcast(factor), total));
    return;
  }
#endif
  for (std::size_t t = 0; t < tiles; ++t) {
    const f32x16 weight = exp2_nonpositive(load(scores + t * panel_width) - shift);
    store(weights + t * panel_width, weight);
    if constexpr (std::is_same_v<Row, float>) {
      total = total + weight;
    } else {
      total = total + load(weights + t * panel_width);
    }
  }
  if constexpr (!std::is_same_v<Row, float>) {
    if (tiles % 2 != 0) store(weights + tiles * panel_width, zero16());
  }
  store(sum, fma(load(sum), broadcast(factor), total));
}

/// Multiplies the scores of a row by `scales`, one for each key, and gives the largest of them and of what it had before.
[[nodiscard]] inline float scale_scores(float* scores, std::size_t tiles, const float* scales, float before) noexcept {
  f32x16 top = broadcast(before);
  for (std::size_t i = 0; i < tiles * panel_width; i += panel_width) {
    const f32x16 x = load(scores + i) * load(scales + i);
    store(scores + i, x);
    top = max(top, x);
  }
  return reduce_max(top);
}

#if defined(__AVX512BF16__) && defined(__AVX512F__)
/// As `weigh`, with each weight multiplied by the scale of its value before it is rounded. The sum is that of the weights
/// as they were: a rounded product with a scale is no weight.
inline void weigh_scaled(const float* scores, std::size_t tiles, float highest, float factor, const float* scales,
                         bf16* weights, float* sum) noexcept {
  const f32x16 shift = broadcast(highest);
  f32x16 total = zero16();
  for (std::size_t t = 0; t < tiles; t += 2) {
    const std::size_t i = t * panel_width;
    const bool two = t + 1 < tiles;
    const f32x16 first = exp2_for_bf16(load(scores + i) - shift);
    const f32x16 second = two ? exp2_for_bf16(load(scores + i + panel_width) - shift) : zero16();
    total = total + first + second;
    const f32x16 low = first * load(scales + i), high = two ? second * load(scales + i + panel_width) : zero16();
    const __m512bh both = _mm512_cvtne2ps_pbh(high.r[0], low.r[0]);
    std::memcpy(static_cast<void*>(weights + i), &both, sizeof(both));
  }
  store(sum, fma(load(sum), broadcast(factor), total));
}
#endif

/// values = values * factor + step: the weighted values of one step join those before. Steps are summed apart first, so
/// that rounding errors grow with the length of a step plus the number of steps, not with their product.
inline void fold(float* values, float factor, const float* step, std::size_t floats) noexcept {
  const f32x16 f = broadcast(factor);
  for (std::size_t i = 0; i < floats; i += panel_width) store(values + i, fma(load(values + i), f, load(step + i)));
}

/// values = values * factor.
inline void scale(float* values, float factor, std::size_t floats) noexcept {
  const f32x16 f = broadcast(factor);
  for (std::size_t i = 0; i < floats; i += panel_width) store(values + i, load(values + i) * f);
}

/// Writes `head_dim` values divided by the sum of weights. A row that saw no key gives zeros.
inline void finish(const float* values, float sum, std::size_t head_dim, float* out) noexcept {
  const f32x16 scale = broadcast(sum > 0.0f ? 1.0f / sum : 0.0f);
  for (std::size_t d = 0; d < head_dim; d += panel_width) {
    const f32x16 x = load(values + d) * scale;
    if (d + panel_width <= head_dim) {
      store(out + d, x);
    } else {
      alignas(alignment) float rest[panel_width];
      store(rest, x);
      std::copy_n(rest, head_dim - d, out + d);
    }
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
