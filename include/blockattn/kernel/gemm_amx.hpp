// SPDX-License-Identifier: MIT
/// Projections with bf16 weights on AMX: y = x W^T, the part of kernel/gemm.hpp that runs on tile registers.
///
/// Rows are rounded once and laid out so that every operand is one tile of consecutive bytes. K is cut into blocks whose
/// sums are carried through y as floats, which is exact; so an output is one chain (simd/amx.hpp) for any number of rows,
/// any task and any executor.
#pragma once

#include <algorithm>
#include <span>

#include "kernel_set.hpp"
#include "tile_amx.hpp"

#if BLOCKATTN_HAS_AMX

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

/// How a product is cut.
struct amx_plan {
  // Two panels of a block take 64 KiB, its rows 64 KiB for every 32 of them: both stream from the L2 cache.
  static constexpr std::size_t block_runs = 64;
  static constexpr std::size_t most_tiles = 8;  // 1 MiB of rows of one block, half of the L2 cache of these processors

  std::size_t rows, runs, height = 0, tiles = 0, blocks;

  amx_plan(const packed_matrix& w, std::size_t n) noexcept
      : rows(n), runs(ceil_div(w.cols, amx_depth)), blocks(ceil_div(runs, block_runs)) {
    if (n == 0) return;
    height = ceil_div(n, ceil_div(n, amx_rows));
    tiles = ceil_div(n, height);
  }
  [[nodiscard]] std::size_t scratch_bytes() const noexcept { return tiles * height * runs * amx_depth * sizeof(bf16); }
  [[nodiscard]] std::size_t runs_of(std::size_t block) const noexcept {
    return std::min(block_runs, runs - block * block_runs);
  }
  // Where the rows of a tile start in a block: [block][tile][run][row of the tile][32].
  [[nodiscard]] std::size_t packed_at(std::size_t block, std::size_t tile) const noexcept {
    return (block * block_runs * tiles + tile * runs_of(block)) * height * amx_depth;
  }
  [[nodiscard]] std::size_t rows_of(std::size_t tile) const noexcept { return std::min(height, rows - tile * height); }
};

/// One tile of rows in one block of K, rounded; rows and elements behind the last are zero.
inline void amx_pack_rows(const amx_plan& plan, std::size_t cols, const float* x, std::size_t x_stride,
                          std::size_t block, std::size_t tile, bf16* out) noexcept {
  const std::size_t first = block * amx_plan::block_runs * amx_depth, runs = plan.runs_of(block);
  const std::size_t n = std::min(runs * amx_depth, cols - first);
  const std::size_t run_stride = plan.height * amx_depth;
  for (std::size_t r = 0; r < plan.height; ++r) {
    bf16* const to = out + r * amx_depth;
    if (r >= plan.rows_of(tile)) {
      for (std::size_t b = 0; b < runs; ++b) std::fill_n(to + b * run_stride, amx_depth, bf16{});
      continue;
    }
    const float* from = x + (tile * plan.height + r) * x_stride + first;
    std::size_t k = 0;
    for (; k + amx_depth <= n; k += amx_depth) {
      bf16* const at = to + k / amx_depth * run_stride;
      store(at, load(from + k));
      store(at + 16, load(from + k + 16));
    }
    for (; k < runs * amx_depth; ++k)
      to[k / amx_depth * run_stride + k % amx_depth] = k < n ? to_bf16(from[k]) : bf16{};
  }
}

/// A tile whose outputs are not all there: through a copy.
inline void amx_multiply_ragged(std::size_t height, std::size_t groups, std::size_t rows, std::size_t columns,
                                amx_operands o) noexcept {
  alignas(alignment) float copy[amx_rows * 4 * panel_width] = {};
  const std::size_t width = groups * panel_width;
  float* const out = o.out;
  if (o.accumulate)
    for (std::size_t r = 0; r < rows; ++r) std::copy_n(out + r * o.out_stride, columns, copy + r * width);
  const std::size_t out_stride = o.out_stride;
  o.out = copy;
  o.out_stride = width;
  amx_multiply(height, groups, o);
  for (std::size_t r = 0; r < rows; ++r) std::copy_n(copy + r * width, columns, out + r * out_stride);
}

inline void project_amx(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride,
                        std::size_t rows, float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  const amx_plan plan(w, rows);
  BLOCKATTN_EXPECTS(scratch.size() >= plan.scratch_bytes());
  bf16* const packed = reinterpret_cast<bf16*>(scratch.data());
  const auto pack = [&](std::size_t i) {
    const std::size_t block = i / plan.tiles, tile = i % plan.tiles;
    amx_pack_rows(plan, w.cols, x, x_stride, block, tile, packed + plan.packed_at(block, tile));
  };
  // A few thousand elements are copied faster than a second worker wakes.
  if (rows * w.cols < 32 * 1024) {
    for (std::size_t i = 0; i < plan.blocks * plan.tiles; ++i) pack(i);
  } else {
    workers.for_each(plan.blocks * plan.tiles, [&](std::size_t, std::size_t i) { pack(i); });
  }

  // Tasks: groups of panels times groups of row tiles. The wider a task, the fewer times its rows are read from the
  // shared cache; four tasks for each worker even out what one may lose to others on the machine. No bit depends on it.
  const std::size_t panels = ceil_div(w.rows, panel_width), panel_bytes = w.panel_bytes();
  const std::size_t row_groups = ceil_div(plan.tiles, amx_plan::most_tiles);
  const std::size_t group_tiles = ceil_div(plan.tiles, row_groups);
  std::size_t task_panels = 32;
  while (task_panels > 2 && ceil_div(panels, task_panels) * row_groups < 4 * workers.concurrency()) task_panels /= 2;
  while (task_panels * panel_bytes < 128 * 1024) task_panels *= 2;
  const std::size_t column_groups = ceil_div(panels, task_panels), widest = amx_groups(plan.height);

  workers.for_each(column_groups * row_groups, [&](std::size_t, std::size_t task) {
    // Row groups of one column group follow each other: the second finds the weights in the shared cache.
    const std::size_t first_tile = task % row_groups * group_tiles;
    const std::size_t last_tile = std::min(plan.tiles, first_tile + group_tiles), count = last_tile - first_tile;
    const std::size_t first_panel = task / row_groups * task_panels;
    const std::size_t last_panel = std::min(panels, first_panel + task_panels);
    const amx_tiles shape(plan.height);
    amx_operands o;
    o.row_stride = amx_depth;
    o.run_stride = plan.height * amx_depth;
    o.step_stride = panel_width * 2;
    o.group_stride = panel_bytes / sizeof(bf16);
    o.out_stride = y_stride;
    for (std::size_t block = 0; block < plan.blocks; ++block) {
      o.accumulate = block != 0;
      const std::size_t first_step = block * amx_plan::block_runs * amx_steps;
      o.steps = std::min(plan.runs_of(block) * amx_steps, ceil_div(w.cols, 2) - first_step);
      const auto panel_at = [&](std::size_t panel) {
        return reinterpret_cast<const bf16*>(w.data + panel * panel_bytes) + first_step * o.step_stride;
      };
      for (std::size_t panel = first_panel; panel < last_panel; panel += widest) {
        const std::size_t groups = std::min(widest, last_panel - panel);
        // The next panels are on their way while these are multiplied, a part with each tile of rows.
        const bool more = panel + 2 * widest <= last_panel;
        const std::size_t lines = more ? ceil_div(amx_steps, count) : 0;
        o.panel = panel_at(panel);
        for (std::size_t tile = first_tile; tile < last_tile; ++tile) {
          o.rows = packed + plan.packed_at(block, tile);
          o.out = y + tile * plan.height * y_stride + panel * panel_width;
          const std::size_t done = (tile - first_tile) * lines;
          o.next_lines = done < amx_steps ? lines : 0;
          o.next = more ? panel_at(panel + widest) + done * plan.runs_of(block) * panel_width * 2 : nullptr;
          const std::size_t columns = std::min(groups * panel_width, w.rows - panel * panel_width);
          if (plan.rows_of(tile) == plan.height && columns == groups * panel_width) {
            amx_multiply(plan.height, groups, o);
          } else {
            amx_multiply_ragged(plan.height, groups, plan.rows_of(tile), columns, o);
          }
        }
      }
    }
  });
}

}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#endif
