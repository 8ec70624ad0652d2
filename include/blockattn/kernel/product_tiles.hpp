// SPDX-License-Identifier: MIT
/// What multiplies inside attention: vector registers or tile registers, behind one shape.
///
/// `Tiles` names the row type (`row`), the elements of a lane, the rows of a tile, how many tiles of sixteen keys a product
/// of weights and values takes at a time (`key_tiles`), and how many row tiles have scores at a time (`band_tiles`, and
/// the rows of such a band). An object lives as long as a task, for tiles of at most `height` rows.
#pragma once

#include <limits>
#include <type_traits>

#include "kernel_set.hpp"
#include "tile.hpp"
#include "tile_amx.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Whether attention over keys and values of this type runs on tile registers in this process: bf16, and for many rows int8,
/// whose codes are exact in bf16.
[[nodiscard]] inline bool uses_tile_registers([[maybe_unused]] dtype type,
                                              [[maybe_unused]] compute_type compute) noexcept {
#if BLOCKATTN_HAS_AMX
  return (type == dtype::bf16 || (type == dtype::i8 && compute == compute_type::many_rows)) && amx_granted();
#else
  return false;
#endif
}

template <class Panel, class Row>
class vector_tiles {
 public:
  using row = Row;
  static constexpr std::size_t lane = dot_step<Panel, Row>::lane;
  static constexpr std::size_t rows = tile_rows;
  static constexpr std::size_t key_tiles = std::is_same_v<Row, bf16> ? 2 : 1;  // weights are rounded in pairs of tiles
  static constexpr std::size_t band_tiles = std::size_t{1} << 20, band_rows = std::numeric_limits<std::size_t>::max();

  explicit vector_tiles(std::size_t height) noexcept : groups_(tile_groups(height)) {}
  /// Groups of sixteen columns that are multiplied best.
  [[nodiscard]] std::size_t groups() const noexcept { return groups_; }
  /// out(height, 16 * groups) = left times panels. The operands are built in place from scalars: a copy of a struct that
  /// was written a moment ago would wait for those writes, which cost 8 % of attention.
  void multiply(std::size_t height, std::size_t groups, const Row* left, std::size_t left_stride, const Panel* panel,
                std::size_t step_stride, std::size_t group_stride, std::size_t steps, float* out,
                std::size_t out_stride) const noexcept {
    multiply_tile<row_order::strided>(height, groups,
                                      tile_operands<Panel, Row>{left, left_stride, panel, step_stride, group_stride,
                                                                steps, out, out_stride, false});
  }

 private:
  std::size_t groups_;
};

#if BLOCKATTN_HAS_AMX
/// Every tile is multiplied at the height of the first, which is the tallest: a row more than it has is that of the next
/// tile, or a spare one, and is computed again or ignored. Elements of `left` behind the last step are zero up to a
/// multiple of 32.
class register_tiles {
 public:
  using row = bf16;
  static constexpr std::size_t lane = 2, rows = amx_rows, key_tiles = 2, band_tiles = 1, band_rows = amx_rows;

  explicit register_tiles(std::size_t height) noexcept : height_(height), shape_(height) {}
  [[nodiscard]] std::size_t groups() const noexcept { return isa_detail::amx_groups(height_); }
  void multiply(std::size_t, std::size_t groups, const bf16* left, std::size_t left_stride, const bf16* panel,
                std::size_t step_stride, std::size_t group_stride, std::size_t steps, float* out,
                std::size_t out_stride) const noexcept {
    amx_operands o;
    o.rows = left;
    o.row_stride = left_stride;
    o.panel = panel;
    o.step_stride = step_stride;
    o.group_stride = group_stride;
    o.steps = steps;
    o.out = out;
    o.out_stride = out_stride;
    amx_multiply(height_, groups, o);
  }

 private:
  std::size_t height_;
  amx_tiles shape_;
};
#endif

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
