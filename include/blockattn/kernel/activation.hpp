// SPDX-License-Identifier: MIT
/// The gate of the feed-forward layer.
#pragma once

#include "../simd/math.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// y[i] = silu(gate[i]) * up[i] (SwiGLU). y may be gate or up. The tail goes through the same vector code, padded, so
/// that an element has the same bits at any offset.
inline void swiglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store(y + i, silu(load(gate + i)) * load(up + i));
  if (i < n) {
    alignas(alignment) float g[16] = {}, u[16] = {};
    std::memcpy(g, gate + i, (n - i) * sizeof(float));
    std::memcpy(u, up + i, (n - i) * sizeof(float));
    store(g, silu(load(g)) * load(u));
    std::memcpy(y + i, g, (n - i) * sizeof(float));
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
