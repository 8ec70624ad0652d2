// SPDX-License-Identifier: MIT
/// Stored rows of weights as floats. Plain C++: what runs once per tensor at load needs no intrinsics.
#pragma once

#include <cstring>

#include "../core/element.hpp"

namespace blockattn::inline v0 {

/// Decodes `n` elements of a row; `n` must be a multiple of `block_elements(type)`. `q8_0`: groups of 32 codes of 8
/// bits behind one f16 scale; an element is scale * code, one product in float. Exact for f32, f16, bf16.
inline void decode_row(dtype type, const std::byte* row, std::size_t n, float* out) noexcept {
  BLOCKATTN_EXPECTS(n % block_elements(type) == 0);
  switch (type) {
    case dtype::f32: std::memcpy(out, row, n * sizeof(float)); break;
    case dtype::f16:
      for (std::size_t i = 0; i < n; ++i) {
        f16 x;
        std::memcpy(&x, row + 2 * i, 2);
        out[i] = widen(x);
      }
      break;
    case dtype::bf16:
      for (std::size_t i = 0; i < n; ++i) {
        bf16 x;
        std::memcpy(&x, row + 2 * i, 2);
        out[i] = widen(x);
      }
      break;
    case dtype::q8_0:
      for (std::size_t i = 0; i < n; i += 32, row += 34) {
        f16 stored;
        std::memcpy(&stored, row, 2);
        const float scale = widen(stored);
        for (std::size_t k = 0; k < 32; ++k)
          out[i + k] = scale * static_cast<float>(static_cast<std::int8_t>(row[2 + k]));
      }
      break;
    default: BLOCKATTN_EXPECTS(false && "a type that holds weights"); break;
  }
}

}  // namespace blockattn::inline v0
