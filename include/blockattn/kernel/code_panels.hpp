// SPDX-License-Identifier: MIT
/// The layout of quantised weights in memory: panels of sixteen rows that keep their codes. The same on every
/// instruction set. No SIMD here.
///
/// The columns are cut into runs of 32. A panel is four arrays, each from a multiple of 64 bytes:
///
///     codes    [runs][...]       8-bit codes: [8 steps][16 rows][4 columns], what one product of four codes reads
///                                narrower: [4][16][4] bytes; byte i holds the lower four bits of step i, and above
///                                them those of step i + 4
///     upper    [runs][...]       the fifth bits: [16][4] bytes, bit s of a byte for step s
///                                or two bits: [2][16][4] bytes, bits 2 t and 2 t + 1 of byte i for step 4 i + t
///     scales   [runs][2][16]     of 16-bit halves: the scale, and the offset for types that have one (else [runs][16]);
///                                of bytes for k-types: factors and minimums, or the factors of both halves of the run
///     blocks   [runs/8][2][16]   k-types: the halves of each block of 256 columns, scales and minimums
///
/// These are the bytes of the file in another order, with codes of `q8_0` moved by 128. A panel of a matrix whose rows
/// are no multiple of 16 ends in rows of zero codes and zero scales.
#pragma once

#include "../tensor/kv_panels.hpp"
#include "quantize.hpp"

namespace blockattn::inline v0 {

struct code_panels {
  static constexpr std::size_t run = 32;  // columns
  static constexpr std::size_t steps = 8;  // products of four codes in a run
  static constexpr std::size_t step_bytes = panel_width * 4;

  dtype type = dtype::q8_0;
  std::size_t cols = 0;  // a multiple of block_elements(type)

  [[nodiscard]] constexpr bool k_type() const noexcept { return block_elements(type) == 256; }
  [[nodiscard]] constexpr std::size_t runs() const noexcept { return cols / run; }

  /// Bytes of one run in each array.
  [[nodiscard]] constexpr std::size_t code_bytes() const noexcept {
    return code_bits(type) == 8 ? steps * step_bytes : steps / 2 * step_bytes;
  }
  [[nodiscard]] constexpr std::size_t upper_bytes() const noexcept {
    return code_bits(type) == 5 ? step_bytes : code_bits(type) == 6 ? 2 * step_bytes : 0;
  }
  [[nodiscard]] constexpr std::size_t scale_bytes() const noexcept {
    return (k_type() || !has_offsets(type) ? 2 : 4) * panel_width;
  }
  /// Bytes of the halves of one block of 256 columns.
  [[nodiscard]] constexpr std::size_t block_scale_bytes() const noexcept {
    return k_type() ? (has_offsets(type) ? 4 : 2) * panel_width : 0;
  }

  /// Where the arrays start, in bytes from the start of a panel.
  [[nodiscard]] constexpr std::size_t upper_at() const noexcept { return runs() * code_bytes(); }
  [[nodiscard]] constexpr std::size_t scales_at() const noexcept { return upper_at() + runs() * upper_bytes(); }
  [[nodiscard]] constexpr std::size_t blocks_at() const noexcept {
    return scales_at() + round_up(runs() * scale_bytes(), alignment);
  }
  /// Bytes of a panel.
  [[nodiscard]] constexpr std::size_t bytes() const noexcept {
    return blocks_at() + round_up(ceil_div(runs(), 8) * block_scale_bytes(), alignment);
  }
};

}  // namespace blockattn::inline v0
