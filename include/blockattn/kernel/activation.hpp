// SPDX-License-Identifier: MIT
/// The gates of the feed-forward layer.
#pragma once

#include "../simd/math.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// y[i] = f(gate[i]) * up[i]. The tail goes through the same vector code, padded, so that an element has the same bits at
// any offset.
template <class F>
BLOCKATTN_INLINE void gated(const float* gate, const float* up, std::size_t n, float* y, F&& f) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, f(load(gate + i)) * load(up + i));
  if (i < n) {
    alignas(alignment) float g[16] = {}, u[16] = {};
    std::memcpy(g, gate + i, (n - i) * sizeof(float));
    std::memcpy(u, up + i, (n - i) * sizeof(float));
    store(g, f(load(g)) * load(u));
    std::memcpy(y + i, g, (n - i) * sizeof(float));
  }
}
}  // namespace isa_detail

/// y[i] = silu(gate[i]) * up[i] (SwiGLU). y may be gate or up.
inline void swiglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
  isa_detail::gated(gate, up, n, y, [](f32x16 x) BLOCKATTN_LAMBDA_INLINE { return silu(x); });
}

/// y[i] = gelu_tanh(gate[i]) * up[i] (GeGLU). y may be gate or up.
inline void geglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
  isa_detail::gated(gate, up, n, y, [](f32x16 x) BLOCKATTN_LAMBDA_INLINE { return gelu_tanh(x); });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
