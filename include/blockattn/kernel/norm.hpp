// SPDX-License-Identifier: MIT
/// RMSNorm, and the sums of the residual stream.
#pragma once

#include <cmath>

#include "../simd/batch.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// Calls f(i) for whole groups of 16 and tail(i) for what is left.
template <class F, class Tail>
BLOCKATTN_INLINE void for_lanes(std::size_t n, F&& f, Tail&& tail) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) f(i);
  for (; i < n; ++i) tail(i);
}
}  // namespace isa_detail

/// y[i] = x[i] * weight[i] / sqrt(mean(x^2) + epsilon). x and y may be the same array.
///
/// The sum of squares is one fixed tree over sixteen partial sums: the same bits wherever the row stands.
/// Error: at most (n/16 + 6) units in the last place relative to the exact result.
inline void rms_norm(const float* x, std::size_t n, const float* weight, float epsilon, float* y) noexcept {
  f32x16 sums = zero16();
  float rest = 0;
  isa_detail::for_lanes(
      n,
      [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
        const f32x16 v = load(x + i);
        sums = fma(v, v, sums);
      },
      [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { rest += x[i] * x[i]; });
  const float mean = (reduce_add(sums) + rest) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + epsilon);
  const f32x16 scales = broadcast(scale);
  isa_detail::for_lanes(
      n, [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { store(y + i, load(x + i) * scales * load(weight + i)); },
      [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { y[i] = x[i] * scale * weight[i]; });
}

/// x[i] += y[i].
inline void add(float* x, const float* y, std::size_t n) noexcept {
  isa_detail::for_lanes(
      n, [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { store(x + i, load(x + i) + load(y + i)); },
      [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { x[i] += y[i]; });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
