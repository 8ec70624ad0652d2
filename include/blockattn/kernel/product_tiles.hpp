// SPDX-License-Identifier: MIT
/// What multiplies inside attention: vector registers or tile registers, behind one shape.
///
/// `Tiles` names the row type (`row`), the elements of a lane, the rows of a tile, how many tiles of sixteen keys a product
/// of weights and values takes at a time (`key_tiles`), how many row tiles go through a step together (`band_tiles`, and
/// the rows that they have at most) and how the rows of a task are cut into tiles. With few rows, keys and values are asked
/// for by the product itself (`streams`), or a part of a step at a time (`asks`). `carries_sums`: the values of a step are
/// added to those before by the product. An object lives as long as a task, for tiles of at most `height` rows.
#pragma once

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
  static constexpr std::size_t band_tiles = ceil_div(24, tile_rows), band_rows = band_tiles * rows;
  static constexpr bool streams = false, carries_sums = false;
  // 512-bit registers read floats fast enough without.
  static constexpr bool asks = sizeof(Panel) < sizeof(float) || f32x16::registers > 1;
  [[nodiscard]] static row_tiles cut(std::size_t count) noexcept { return row_tiles(count); }

  explicit vector_tiles(std::size_t height) noexcept : groups_(tile_groups(height)) {}
  /// Groups of sixteen columns that are multiplied best.
  [[nodiscard]] std::size_t groups() const noexcept { return groups_; }
  /// out(height, 16 * groups) (+)= left times panels. The operands are built in place from scalars: a copy of a struct that
  /// was written a moment ago would wait for those writes, which cost 8 % of attention.
  void multiply(std::size_t height, std::size_t groups, const Row* left, std::size_t left_stride, const Panel* panel,
                std::size_t step_stride, std::size_t group_stride, std::size_t steps, float* out,
                std::size_t out_stride, bool accumulate, std::size_t) const noexcept {
    multiply_tile<row_order::strided>(height, groups,
                                      tile_operands<Panel, Row>{left, left_stride, panel, step_stride, group_stride,
                                                                steps, out, out_stride, accumulate});
  }

 private:
  std::size_t groups_;
};

#if BLOCKATTN_HAS_AMX
/// Every tile is multiplied at the height of the first; rows that the last one lacks are spare ones. Elements of `left` behind the last step are zero up to a
/// multiple of 32.
class register_tiles {
 public:
  using row = bf16;
  static constexpr std::size_t lane = 2, rows = 16, key_tiles = 2, band_tiles = 1, band_rows = rows;
  static constexpr bool streams = true, carries_sums = true, asks = false;
  [[nodiscard]] static row_tiles cut(std::size_t count) noexcept { return row_tiles::of_one_height(count, rows); }

  explicit register_tiles(std::size_t height) noexcept : height_(height), shape_(height) {}
  [[nodiscard]] std::size_t groups() const noexcept { return isa_detail::amx_groups(height_); }
  /// As above; what lies `ahead` steps behind what is multiplied is asked for, if that is not zero.
  void multiply(std::size_t, std::size_t groups, const bf16* left, std::size_t left_stride, const bf16* panel,
                std::size_t step_stride, std::size_t group_stride, std::size_t steps, float* out,
                std::size_t out_stride, bool accumulate, std::size_t ahead) const noexcept {
    amx_operands o;
    o.rows = left;
    o.row_stride = left_stride;
    o.panel = panel;
    o.step_stride = step_stride;
    o.group_stride = group_stride;
    o.steps = steps;
    o.out = out;
    o.out_stride = out_stride;
    o.accumulate = accumulate;
    if (ahead != 0) {
      o.next = panel + ahead * step_stride;
      o.next_lines = amx_steps;
    }
    amx_multiply(height_, groups, o);
  }

 private:
  std::size_t height_;
  amx_tiles shape_;
};
#endif

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
