// SPDX-License-Identifier: MIT
/// Products of factors that are rounded to bf16 (train/bf16_panels.hpp): C (+)= A B, with sums in float.
///
/// The tiles are those of inference: tile registers (kernel/tile_amx.hpp) where the process has them, else the vector
/// registers of kernel/tile.hpp. A block of rows of A is rounded on the stack, B comes packed. An output is one chain that
/// depends on neither the rows nor the columns beside it; it is cut every few hundred steps, where C holds it exactly.
#pragma once

#include <optional>

#include "../core/executor.hpp"
#include "../kernel/tile.hpp"
#include "bf16_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Rows of A that are rounded together: a task should have a multiple of them.
inline constexpr std::size_t bf16_rows = 64;

/// Packs all of B (depth, cols) to `bf16_elements(depth, cols)`.
inline void pack_bf16(const factor<float>& b, std::size_t depth, std::size_t cols, bf16* out) noexcept {
  for (std::size_t g = 0; g * bf16_group < cols; ++g)
    pack_bf16_group(b, depth, cols, g, out + g * bf16_elements(depth, 1));
}

/// Products of rows and columns that are packed, for a task: tile registers keep their shape while the object lives, so it is
/// not to be held over a call that may run other code on this thread (simd/amx.hpp).
class bf16_tiles {
 public:
  bf16_tiles() noexcept {
#if BLOCKATTN_HAS_AMX
    if (amx_granted()) shape_.emplace(amx_rows);
#endif
  }

  /// C (rows, 16 groups) (+)= A B. A has `runs` runs a row, `a_stride` apart; groups of B are `group_stride` apart. Rows up to
  /// a multiple of sixteen are read, and those of C may be written.
  void multiply(std::size_t rows, std::size_t groups, std::size_t runs, const bf16_row* a, std::size_t a_stride,
                const bf16* b, std::size_t group_stride, float* c, std::size_t c_stride, bool accumulate) const noexcept {
#if BLOCKATTN_HAS_AMX
    if (shape_) {
      amx_operands o;
      o.row_stride = a_stride;
      o.step_stride = 2 * bf16_group;
      o.group_stride = group_stride;
      o.steps = runs * amx_steps;
      o.out_stride = c_stride;
      o.accumulate = accumulate;
      for (std::size_t g = 0; g < groups; g += together)
        for (std::size_t r = 0; r < rows; r += amx_rows) {
          o.rows = a + r * a_stride;
          o.panel = b + g * group_stride;
          o.out = c + r * c_stride + g * bf16_group;
          amx_multiply(rows - r > 16 ? amx_rows : 16, std::min(together, groups - g), o);
        }
      return;
    }
#endif
    const row_tiles tiles(rows);
    tile_operands<bf16, bf16_row> o;
    o.row_stride = a_stride;
    o.step_stride = 2 * bf16_group;
    o.group_stride = group_stride;
    o.steps = runs * bf16_run / 2;
    o.out_stride = c_stride;
    o.accumulate = accumulate;
    for (std::size_t g = 0; g < groups; g += together)
      for (std::size_t t = 0; t < tiles.count; ++t) {
        o.rows = a + tiles.begin(t) * a_stride;
        o.panel = b + g * group_stride;
        o.out = c + tiles.begin(t) * c_stride + g * bf16_group;
        multiply_tile<row_order::strided>(tiles.size(t), std::min(together, groups - g), o);
      }
  }

 private:
  static constexpr std::size_t together = 4;  // groups that stay in the L1 cache
#if BLOCKATTN_HAS_AMX
  std::optional<amx_tiles> shape_;
#endif
};

namespace isa_detail {

// Steps of depth whose rows are held at a time: 64 KiB of them.
inline constexpr std::size_t bf16_steps = 1024 / sizeof(bf16_row);

// Groups of columns that a block of rows is multiplied with at a time.
inline constexpr std::size_t bf16_groups = 4;

// Calls f(rows, columns, out, stride) for a tile of C: on C itself if all of it is there, else on a copy.
template <class F>
BLOCKATTN_INLINE void whole_tile(std::size_t height, std::size_t groups, std::size_t rows, std::size_t cols, float* c,
                                 std::size_t c_stride, bool accumulate, F&& f) noexcept {
  const std::size_t width = groups * bf16_group;
  if (rows == height && cols == width) return f(c, c_stride);
  alignas(alignment) float copy[32 * bf16_groups * bf16_group];
  if (accumulate) {
    std::fill_n(copy, height * width, 0.0f);
    for (std::size_t r = 0; r < rows; ++r) std::copy_n(c + r * c_stride, cols, copy + r * width);
  }
  f(copy, width);
  for (std::size_t r = 0; r < rows; ++r) std::copy_n(copy + r * width, cols, c + r * c_stride);
}

#if BLOCKATTN_HAS_AMX
// Rows in tiles of 32 or 16, each [run][row][32]. The caller's tile registers are all of sixteen rows.
inline void bf16_block_on_tiles(const factor<float>& a, std::size_t rows, const bf16* panels, std::size_t group_stride,
                                std::size_t depth, std::size_t cols, float* c, std::size_t c_stride, bool accumulate,
                                bf16* space) noexcept {
  const std::size_t runs = ceil_div(depth, bf16_run);
  const auto height_of = [&](std::size_t r) { return rows - r > 16 ? std::size_t{32} : std::size_t{16}; };
  for (std::size_t r = 0; r < rows; r += 32) {
    const factor<float> from{a.data + (a.transposed ? r : r * a.stride), a.stride, a.transposed};
    pack_bf16_rows(from, std::min<std::size_t>(32, rows - r), depth, space + r * runs * bf16_run, bf16_run,
                   height_of(r) * bf16_run);
  }
  amx_operands o;
  o.row_stride = bf16_run;
  o.step_stride = 2 * bf16_group;
  o.group_stride = group_stride;
  o.steps = runs * amx_steps;
  o.accumulate = accumulate;
  for (std::size_t j = 0; j < cols; j += bf16_groups * bf16_group) {
    const std::size_t n = std::min(bf16_groups * bf16_group, cols - j), groups = ceil_div(n, bf16_group);
    for (std::size_t r = 0; r < rows; r += 32) {
      const std::size_t height = height_of(r);
      o.rows = space + r * runs * bf16_run;
      o.run_stride = height * bf16_run;
      o.panel = panels + j / bf16_group * group_stride;
      whole_tile(height, groups, std::min(height, rows - r), n, c + r * c_stride + j, c_stride, accumulate,
                 [&](float* out, std::size_t stride) BLOCKATTN_LAMBDA_INLINE {
                   o.out = out;
                   o.out_stride = stride;
                   amx_multiply(height, groups, o);
                 });
    }
  }
}
#endif

inline void bf16_block(const factor<float>& a, std::size_t rows, const bf16* panels, std::size_t group_stride,
                       std::size_t depth, std::size_t cols, float* c, std::size_t c_stride, bool accumulate,
                       bf16_row* space) noexcept {
  const std::size_t stride = round_up(depth, bf16_run);
  pack_bf16_rows(a, rows, depth, space, stride, bf16_run);
  tile_operands<bf16, bf16_row> o;
  o.row_stride = stride;
  o.step_stride = 2 * bf16_group;
  o.group_stride = group_stride;
  o.steps = stride / 2;
  o.accumulate = accumulate;
  const row_tiles tiles(rows);
  for (std::size_t j = 0; j < cols; j += bf16_groups * bf16_group) {
    const std::size_t n = std::min(bf16_groups * bf16_group, cols - j), groups = ceil_div(n, bf16_group);
    for (std::size_t t = 0; t < tiles.count; ++t) {
      const std::size_t r = tiles.begin(t);
      o.rows = space + r * stride;
      o.panel = panels + j / bf16_group * group_stride;
      whole_tile(tiles.size(t), groups, tiles.size(t), n, c + r * c_stride + j, c_stride, accumulate,
                 [&](float* out, std::size_t out_stride) BLOCKATTN_LAMBDA_INLINE {
                   o.out = out;
                   o.out_stride = out_stride;
                   multiply_tile<row_order::strided>(tiles.size(t), groups, o);
                 });
    }
  }
}

}  // namespace isa_detail

/// C (rows, cols) (+)= A (rows, depth) B, on this thread. `packed` is B, of at least `cols` columns and `packed_depth` rows,
/// of which the first `depth` are used; what B has behind them in their last run meets zeros of A, and must be finite.
/// Columns of C beyond `cols` are not touched. With depth 0, C is 0.
inline void multiply_bf16(const factor<float>& a, std::size_t rows, const bf16* packed, std::size_t packed_depth,
                          std::size_t depth, std::size_t cols, float* c, std::size_t c_stride, bool accumulate) noexcept {
  alignas(alignment) std::byte bytes[bf16_rows * isa_detail::bf16_steps * sizeof(bf16_row)];  // not zeros: 64 KiB of them cost
  auto* const space = reinterpret_cast<bf16_row*>(bytes);
  const std::size_t group_stride = bf16_elements(packed_depth, 1);
  const auto blocks = [&](auto&& block) BLOCKATTN_LAMBDA_INLINE {
    for (std::size_t r = 0; r < rows; r += bf16_rows) {
      const std::size_t n = std::min(bf16_rows, rows - r);
      for (std::size_t k = 0; k < depth || k == 0; k += isa_detail::bf16_steps) {
        const std::size_t steps = std::min(isa_detail::bf16_steps, depth - k);
        const factor<float> from{a.data + (a.transposed ? k * a.stride + r : r * a.stride + k), a.stride, a.transposed};
        block(from, n, packed + k * bf16_group, group_stride, steps, cols, c + r * c_stride, c_stride, accumulate || k != 0,
              space);
      }
    }
  };
#if BLOCKATTN_HAS_AMX
  if (amx_granted()) {
    const amx_tiles shape(amx_rows);
    return blocks(isa_detail::bf16_block_on_tiles);
  }
#endif
  blocks(isa_detail::bf16_block);
}

/// Both factors of d_weights += A^T B, of which rows are made a few at a time: they are packed as they are made, while a cache
/// has them, and never kept as floats. A (rows, a_width) becomes [part of depth][a_width][deep], B its groups.
class bf16_outer {
 public:
  /// Rows that are packed together: a multiple of them but for the last.
  static constexpr std::size_t rows_together = bf16_rows;

  /// Bytes for factors of so many rows.
  [[nodiscard]] static std::size_t bytes(std::size_t rows, std::size_t a_width, std::size_t b_width) noexcept {
    return a_elements(rows, a_width) * sizeof(bf16_row) + bf16_elements(rows, b_width) * sizeof(bf16);
  }
  bf16_outer() = default;
  bf16_outer(std::byte* at, std::size_t rows, std::size_t a_width, std::size_t b_width) noexcept
      : rows_(rows), a_width_(a_width), b_width_(b_width), a_(reinterpret_cast<bf16_row*>(at)),
        b_(reinterpret_cast<bf16*>(at + a_elements(rows, a_width) * sizeof(bf16_row))) {}

  /// Rows [first, first + n) of A, `stride` floats apart; first is a multiple of `rows_together`, n too or the rest. Rows of
  /// different tasks do not touch.
  void put_a(const float* from, std::size_t stride, std::size_t first, std::size_t n) const noexcept {
    bf16_row* const to = a_ + first / part * part_elements(a_width_) + first % part;
    for (std::size_t j = 0; j < a_width_; j += bf16_group)
      pack_bf16_rows(factor<float>{from + j, stride, true}, std::min(bf16_group, a_width_ - j), n, to + j * a_stride,
                     a_stride, bf16_run);
  }
  void put_b(const float* from, std::size_t stride, std::size_t first, std::size_t n) const noexcept {
    const std::size_t group = bf16_elements(rows_, 1);
    for (std::size_t k = 0; k < n; k += bf16_run)
      for (std::size_t g = 0; g * bf16_group < b_width_; ++g)
        pack_bf16_group({from + k * stride, stride}, std::min(bf16_run, n - k), b_width_, g,
                        b_ + g * group + (first + k) * bf16_group);
  }

  /// c (a_width, b_width) += A^T B. Tasks are fixed parts of c.
  void add_to(executor_ref workers, float* c) const {
    const std::size_t down = a_width_ <= 4 * amx_height ? amx_height : 2 * amx_height;
    workers.for_each(ceil_div(a_width_, down), [&](std::size_t, std::size_t task) {
      const bf16_tiles tiles;
      const std::size_t r = task * down, n = std::min(down, a_width_ - r), group = bf16_elements(rows_, 1);
      const std::size_t whole_rows = n / bf16_group * bf16_group, whole_cols = b_width_ / bf16_group * bf16_group;
      for (std::size_t k = 0; k < rows_; k += part) {
        const std::size_t runs = ceil_div(std::min(part, rows_ - k), bf16_run);
        const bf16_row* const a = a_ + k / part * part_elements(a_width_) + r * a_stride;
        const auto multiply = [&](std::size_t first, std::size_t rows, std::size_t col, std::size_t groups, float* to,
                                  std::size_t stride) {
          tiles.multiply(rows, groups, runs, a + first * a_stride, a_stride, b_ + col / bf16_group * group + k * bf16_group,
                         group, to, stride, true);
        };
        if (whole_rows != 0 && whole_cols != 0) multiply(0, whole_rows, 0, whole_cols / bf16_group, c + r * b_width_, b_width_);
        // The edges, of fewer than sixteen rows or columns, on copies.
        const auto edge = [&](std::size_t first, std::size_t rows, std::size_t col, std::size_t cols) {
          alignas(alignment) float copy[bf16_group * bf16_group] = {};
          float* const to = c + (r + first) * b_width_ + col;
          for (std::size_t i = 0; i < rows; ++i) std::copy_n(to + i * b_width_, cols, copy + i * bf16_group);
          multiply(first, bf16_group, col, 1, copy, bf16_group);
          for (std::size_t i = 0; i < rows; ++i) std::copy_n(copy + i * bf16_group, cols, to + i * b_width_);
        };
        for (std::size_t i = 0; i < n; i += bf16_group)
          if (whole_cols < b_width_) edge(i, std::min(bf16_group, n - i), whole_cols, b_width_ - whole_cols);
        if (whole_rows < n)
          for (std::size_t j = 0; j < whole_cols; j += bf16_group) edge(whole_rows, n - whole_rows, j, bf16_group);
      }
    });
  }

 private:
  static constexpr std::size_t amx_height = 32;
  static constexpr std::size_t part = 512;          // of depth: a block of rows lies in a cache
  static constexpr std::size_t a_stride = part + 32;  // no multiple of 1 KiB: sixteen rows do not fall on one set of a cache

  // A part of A, rows up to a multiple of sixteen.
  [[nodiscard]] static std::size_t part_elements(std::size_t a_width) noexcept {
    return round_up(a_width, bf16_group) * a_stride;
  }
  [[nodiscard]] static std::size_t a_elements(std::size_t rows, std::size_t a_width) noexcept {
    return ceil_div(rows, part) * part_elements(a_width);
  }

  std::size_t rows_ = 0, a_width_ = 0, b_width_ = 0;
  bf16_row* a_ = nullptr;
  bf16* b_ = nullptr;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
