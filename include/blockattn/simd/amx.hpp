// SPDX-License-Identifier: MIT
/// Tile registers of x86 (AMX): eight registers of up to sixteen rows of 64 bytes, and products of whole tiles.
///
/// A panel of tensor/kv_panels.hpp is an operand of such a product as it lies in memory: sixteen steps of sixteen lanes
/// are one tile. Three things differ from vector registers. The operating system must grant their use, once in a process:
/// `amx_granted`. Their shape is state of the thread: `amx_tiles` sets it for a task and gives it back. And their chain
/// is another one, so a build for AMX has a name of its own (simd/isa.hpp), and says at run time which bits it makes.
///
/// The chain of one output (Intel's description of TDPBF16PS): for each 32 elements of K, the even products are summed by
/// fused multiply-adds from zero, the odd ones too, the two sums are added, and the result is added to the accumulator.
/// Denormals are zero. So elements that are zero change nothing, and K may be cut at multiples of 32.
#pragma once

#include "isa.hpp"

#if BLOCKATTN_HAS_AMX

#include <immintrin.h>

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Elements of K in one tile of bf16, and the steps of a panel that hold them.
inline constexpr std::size_t amx_depth = 32;
inline constexpr std::size_t amx_steps = amx_depth / 2;
/// Rows of the largest product: two tiles.
inline constexpr std::size_t amx_rows = 32;

/// The shape of the tile registers of this thread, for products of `height` rows (1 to 32), while the object lives.
/// Tiles 0 to 3 are sums. Above sixteen rows, 4 and 5 hold the upper and the lower half of the rows and 6 and 7 panels;
/// else 4 holds the rows and 5 to 7 panels. Costs 50 ns: one for each task. Not to be nested, and not to be held over a
/// call that may run other code on this thread.
class amx_tiles {
 public:
  explicit amx_tiles(std::size_t height) noexcept {
    BLOCKATTN_EXPECTS(height >= 1 && height <= amx_rows);
    alignas(64) configuration c;
    const auto upper = static_cast<std::uint8_t>(upper_rows(height)), lower = static_cast<std::uint8_t>(height - upper);
    for (std::size_t i = 0; i < 8; ++i) c.row_bytes[i] = 64;
    for (std::size_t i = 0; i < 4; ++i) c.rows[i] = lower == 0 || i < 2 ? upper : lower;
    c.rows[4] = upper;
    c.rows[5] = lower == 0 ? std::uint8_t{16} : lower;
    c.rows[6] = c.rows[7] = 16;
    asm volatile("" : : "m"(c));  // compilers believe that the next line reads eight bytes of it
    _tile_loadconfig(&c);
  }
  amx_tiles(const amx_tiles&) = delete;
  amx_tiles& operator=(const amx_tiles&) = delete;
  ~amx_tiles() { _tile_release(); }

  /// Rows of the upper tile; the lower one has the rest, which is none up to sixteen.
  [[nodiscard]] static constexpr std::size_t upper_rows(std::size_t height) noexcept {
    return height <= 16 ? height : (height + 1) / 2;
  }

 private:
  struct configuration {
    std::uint8_t palette = 1;
    std::uint8_t start_row = 0;
    std::uint8_t reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  };
  static_assert(sizeof(configuration) == 64);
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#endif
