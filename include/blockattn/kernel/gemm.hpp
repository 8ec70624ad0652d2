// SPDX-License-Identifier: MIT
/// Projections: y = x W^T over packed weights (`packed_matrix`), for one row or thousands.
///
/// Tasks are column groups times row groups, fixed by the shape alone. Within a task, rows are cut into groups whose part of
/// one K block stays in the L2 cache, and a panel's part of it in the L1 cache; accumulators are carried from block to block
/// through y, as floats, which is exact. A few rows are bound by reading the weights: panel after panel, in one run, which
/// is prefetched a few KiB ahead. Either way an output is the same chain of fused multiply-adds in K order for any number of
/// rows, any task split and any executor, and the same bits.
///
/// Accuracy: |y - exact| <= 1.01 K 2^-24 sum_k |x_k w_k| over the operands as multiplied. With
/// bf16 pairs the rows are rounded first, and the hardware may flush denormal products.
#pragma once

#include <algorithm>
#include <span>

#include "code_stream.hpp"
#include "expanded_gemm.hpp"
#include "gemm_amx.hpp"
#include "kernel_set.hpp"
#include "product_kind.hpp"
#include "tile.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
/// How a product is cut. A function of the shape and the types, never of the executor.
template <class Panel, class Row>
struct projection_plan {
  static constexpr std::size_t lane = dot_step<Panel, Row>::lane;
  // 32 KiB of a panel. Shorter blocks would keep it in the L1 cache, but start tiles and reload outputs more often, which
  // was slower in every measurement.
  static constexpr std::size_t block_steps = 512;
  // 384 KiB of rows, inside an L2 cache of 512 KiB.
  static constexpr std::size_t most_rows = 384 * 1024 / (block_steps * lane * sizeof(Row)) / tile_rows * tile_rows;

  std::size_t rows, steps;
  bool stream;               // one tile of rows, all steps at once
  bool direct;               // a row is read where it is
  std::size_t group_rows, row_groups;
  std::size_t task_panels, column_groups, panels;

  projection_plan(const packed_matrix& w, std::size_t n) noexcept : rows(n), steps(ceil_div(w.cols, lane)) {
    stream = n <= std::min(few_rows, tile_rows);
    // An odd row is copied, so that its last step does not read behind it.
    direct = std::is_same_v<Row, float> && n == 1 && w.cols % lane == 0;
    row_groups = std::max<std::size_t>(1, ceil_div(n, most_rows));
    group_rows = round_up(ceil_div(n, row_groups), tile_rows);
    row_groups = std::max<std::size_t>(1, ceil_div(n, std::max<std::size_t>(1, group_rows)));
    panels = ceil_div(w.rows, panel_width);
    // The wider a task, the fewer times its rows are read from the shared cache: 16 panels, or 8 or 4 where fewer than
    // 48 tasks would be left. At least 64 KiB of weights, which is a few microseconds.
    task_panels = 16;
    while (task_panels > 4 && ceil_div(panels, task_panels) * row_groups < 48) task_panels /= 2;
    while (task_panels * std::max<std::size_t>(1, steps) * 64 < 64 * 1024) task_panels *= 2;
    column_groups = ceil_div(panels, task_panels);
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept {
    return direct ? 0 : round_up(rows * steps * lane * sizeof(Row), alignment);
  }
  [[nodiscard]] std::size_t k_blocks() const noexcept { return ceil_div(steps, block_steps); }
  [[nodiscard]] std::size_t rows_of(std::size_t group) const noexcept {
    return std::min(group_rows, rows - group * group_rows);
  }
  // Where the interleaved rows of a group start in block k: [row group][k block][tile][step][tile row][lane].
  [[nodiscard]] std::size_t packed_at(std::size_t group, std::size_t block) const noexcept {
    return (group * group_rows * steps + rows_of(group) * block * block_steps) * lane;
  }
};

inline void copy_operand(const float* in, std::size_t n, float* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) out[i] = in[i];
}
inline void copy_operand(const float* in, std::size_t n, bf16* out) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load(in + i));
  for (; i < n; ++i) out[i] = to_bf16(in[i]);
}

/// Rows of one group and K block, rounded to the row type and interleaved tile by tile.
template <class Panel, class Row>
void interleave_rows(const projection_plan<Panel, Row>& plan, std::size_t cols, const float* x, std::size_t x_stride,
                     std::size_t group, std::size_t block, Row* out) noexcept {
  constexpr std::size_t lane = projection_plan<Panel, Row>::lane;
  constexpr std::size_t most = projection_plan<Panel, Row>::block_steps;
  const std::size_t steps = std::min(most, plan.steps - block * most);
  const std::size_t first = block * most * lane;
  const std::size_t n = std::min(steps * lane, cols - first);
  const row_tiles tiles(plan.rows_of(group));
  alignas(alignment) Row row[most * lane];
  for (std::size_t t = 0; t < tiles.count; ++t) {
    const std::size_t height = tiles.size(t);
    for (std::size_t r = 0; r < height; ++r) {
      copy_operand(x + (group * plan.group_rows + tiles.begin(t) + r) * x_stride + first, n, row);
      for (std::size_t i = n; i < steps * lane; ++i) row[i] = Row{};
      for (std::size_t s = 0; s < steps; ++s)
        for (std::size_t j = 0; j < lane; ++j) out[(s * height + r) * lane + j] = row[s * lane + j];
    }
    out += height * steps * lane;
  }
}

/// The last panel of a matrix whose rows are not a multiple of 16: through a copy, because y ends inside it.
template <row_order Order, class Panel, class Row>
void multiply_ragged(std::size_t rows, std::size_t columns, tile_operands<Panel, Row> o) noexcept {
  const row_tiles tiles(rows);
  alignas(alignment) float copy[tile_rows * panel_width] = {};
  for (std::size_t t = 0; t < tiles.count; ++t) {
    tile_operands<Panel, Row> part = o;
    part.rows += tiles.begin(t) * o.row_stride;
    part.out = copy;
    part.out_stride = panel_width;
    float* const out = o.out + tiles.begin(t) * o.out_stride;
    if (o.accumulate)
      for (std::size_t r = 0; r < tiles.size(t); ++r)
        std::copy_n(out + r * o.out_stride, columns, copy + r * panel_width);
    multiply_tile<Order>(tiles.size(t), 1, part);
    for (std::size_t r = 0; r < tiles.size(t); ++r)
      std::copy_n(copy + r * panel_width, columns, out + r * o.out_stride);
  }
}

template <row_order Order, class Panel, class Row>
void multiply_columns(std::size_t rows, std::size_t columns, const tile_operands<Panel, Row>& o) noexcept {
  const std::size_t whole = columns / panel_width;
  multiply<Order>(rows, whole, o);
  if (columns % panel_width == 0) return;
  tile_operands<Panel, Row> last = o;
  last.panel += whole * o.group_stride;
  last.out += whole * panel_width;
  multiply_ragged<Order>(rows, columns % panel_width, last);
}

template <class Panel, class Row>
void project_as(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride, std::size_t rows,
                float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  using plan_type = projection_plan<Panel, Row>;
  constexpr std::size_t lane = plan_type::lane, block_steps = plan_type::block_steps;
  const plan_type plan(w, rows);
  BLOCKATTN_EXPECTS(scratch.size() >= plan.scratch_bytes());
  Row* const packed = reinterpret_cast<Row*>(scratch.data());
  if (!plan.direct) {
    const std::size_t blocks = plan.k_blocks();
    // A few thousand elements are copied faster than a second worker wakes.
    const bool alone = rows * w.cols < 32 * 1024;
    const auto interleave = [&](std::size_t i) {
      const std::size_t group = i / blocks, block = i % blocks;
      interleave_rows(plan, w.cols, x, x_stride, group, block, packed + plan.packed_at(group, block));
    };
    if (alone) {
      for (std::size_t i = 0; i < plan.row_groups * blocks; ++i) interleave(i);
    } else {
      workers.for_each(plan.row_groups * blocks, [&](std::size_t, std::size_t i) { interleave(i); });
    }
  }

  workers.for_each(plan.column_groups * plan.row_groups, [&](std::size_t, std::size_t task) {
    // Row groups of one column group follow each other: the second finds the weights in the shared cache.
    const std::size_t group = task % plan.row_groups;
    const std::size_t first_panel = task / plan.row_groups * plan.task_panels;
    const std::size_t first_column = first_panel * panel_width;
    const std::size_t columns = std::min(plan.task_panels * panel_width, w.rows - first_column);
    tile_operands<Panel, Row> o;
    o.panel = reinterpret_cast<const Panel*>(w.data + first_panel * w.panel_bytes());
    o.step_stride = panel_width * lane;
    o.group_stride = w.panel_bytes() / sizeof(Panel);
    o.out = y + group * plan.group_rows * y_stride + first_column;
    o.out_stride = y_stride;
    if (plan.stream) {
      o.rows = packed;  // the blocks of one tile follow each other
      if constexpr (std::is_same_v<Row, float>)
        if (plan.direct) o.rows = x;
      o.row_stride = plan.steps * lane;
      o.steps = plan.steps;
      constexpr std::size_t step_bytes = panel_width * lane * sizeof(Panel);
      for (std::size_t column = 0; column < columns; column += panel_width) {
        o.next = reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(o.panel) + stream_ahead);
        if (columns - column >= panel_width) multiply_tile<row_order::interleaved>(rows, 1, o, step_bytes);
        else multiply_ragged<row_order::interleaved>(rows, columns - column, o);
        o.panel += o.group_stride;
        o.out += panel_width;
      }
      return;
    }
    for (std::size_t block = 0; block < plan.k_blocks(); ++block) {
      o.rows = packed + plan.packed_at(group, block);
      o.steps = std::min(block_steps, plan.steps - block * block_steps);
      o.row_stride = o.steps * lane;
      o.next = block + 1 < plan.k_blocks() ? o.panel + block_steps * o.step_stride : nullptr;
      multiply_columns<row_order::interleaved>(plan.rows_of(group), columns, o);
      o.panel += block_steps * o.step_stride;
      o.accumulate = true;
    }
  });
}
}  // namespace isa_detail

/// The type of panels for weights stored as `stored`: the type itself, so that memory holds what the file holds; f32 for
/// f16 where no instruction widens halves.
[[nodiscard]] constexpr dtype panel_type(dtype stored) noexcept {
  return stored == dtype::f16 && !has_f16 ? dtype::f32 : stored;
}

/// Bytes of scratch that `project` needs for `rows` rows and so many workers: a copy of the rows in the order and type that
/// the kernel reads, none for few rows of floats; and on tile registers sums that each worker keeps. Depends on nothing
/// but the arguments.
[[nodiscard]] inline std::size_t project_scratch([[maybe_unused]] std::size_t workers, const packed_matrix& w,
                                                 compute_type compute, std::size_t rows) noexcept {
  switch (product_of(w.type, compute)) {
    case product_kind::pairs: return isa_detail::projection_plan<bf16, row_operand_t<bf16>>(w, rows).scratch_bytes();
    case product_kind::codes: return isa_detail::expanded_plan<isa_detail::code_product>(w, rows).scratch_bytes(w);
    case product_kind::tiles: return isa_detail::amx_scratch_bytes(workers, w, rows);
    case product_kind::floats: break;
  }
  if (w.type == dtype::f32) return isa_detail::projection_plan<float, float>(w, rows).scratch_bytes();
  if (w.type == dtype::bf16) return isa_detail::projection_plan<bf16, float>(w, rows).scratch_bytes();
  if (w.type == dtype::f16 && rows <= few_rows)
    return isa_detail::projection_plan<f16, float>(w, rows).scratch_bytes();
  return isa_detail::expanded_plan<isa_detail::float_product>(w, rows).scratch_bytes(w);
}

/// y(rows, w.rows) = x(rows, w.cols) W^T. Strides are in floats; `y_stride >= w.rows`, `x_stride >= w.cols`; nothing
/// beyond column w.rows of y is written; y must not overlap x. `scratch`: `project_scratch` bytes, 64-byte aligned.
///
/// Row i of y has the same bits for any number of rows beside it and any executor. Thread safety: calls with different
/// y and scratch may run at the same time. Work: rows * w.rows * w.cols multiply-adds; for one row the time is that of
/// reading the weights once. Memory: `scratch`, and up to 64 KiB of each worker's stack.
inline void project(executor_ref workers, const packed_matrix& w, compute_type compute, const float* x,
                    std::size_t x_stride, std::size_t rows, float* y, std::size_t y_stride,
                    std::span<std::byte> scratch) noexcept {
  BLOCKATTN_EXPECTS(rows <= 1 || (y_stride >= w.rows && x_stride >= w.cols));
  if (rows == 0 || w.rows == 0) return;
  if (w.cols == 0) {
    for (std::size_t r = 0; r < rows; ++r) std::fill_n(y + r * y_stride, w.rows, 0.0f);
    return;
  }
  switch (product_of(w.type, compute)) {
    case product_kind::pairs:
      return isa_detail::project_as<bf16, row_operand_t<bf16>>(workers, w, x, x_stride, rows, y, y_stride, scratch);
    case product_kind::codes:
      if (rows <= isa_detail::code_stream_rows)
        return isa_detail::project_stream(workers, w, x, x_stride, rows, y, y_stride, scratch);
      return isa_detail::project_expanded<isa_detail::code_product>(workers, w, x, x_stride, rows, y, y_stride, scratch);
    case product_kind::tiles: return isa_detail::project_amx(workers, w, x, x_stride, rows, y, y_stride, scratch);
    case product_kind::floats: break;
  }
  if (w.type == dtype::f32) {
    isa_detail::project_as<float, float>(workers, w, x, x_stride, rows, y, y_stride, scratch);
  } else if (w.type == dtype::bf16) {
    isa_detail::project_as<bf16, float>(workers, w, x, x_stride, rows, y, y_stride, scratch);
  } else if (w.type == dtype::f16 && rows <= few_rows) {
    isa_detail::project_as<f16, float>(workers, w, x, x_stride, rows, y, y_stride, scratch);
  } else {
    isa_detail::project_expanded<isa_detail::float_product>(workers, w, x, x_stride, rows, y, y_stride, scratch);
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
