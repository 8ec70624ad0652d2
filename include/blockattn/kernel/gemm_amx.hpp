// SPDX-License-Identifier: MIT
/// Projections on tile registers: y = x W^T, the part of kernel/gemm.hpp for AMX.
///
/// Weights of bf16 are multiplied where they lie. Quantised weights and f16 are decoded into a buffer of pairs
/// (kernel/expand_pairs.hpp), a block of K of a few panels at a time, which all rows of a task share. Rows are rounded once
/// and laid out so that every operand is one tile of consecutive bytes. K is cut into blocks whose sums are carried through
/// memory as floats, which is exact; so an output is one chain (simd/amx.hpp) for any number of rows, any task and any
/// executor.
#pragma once

#include <algorithm>
#include <span>

#include "expand_pairs.hpp"
#include "product_kind.hpp"
#include "tile_amx.hpp"

#if BLOCKATTN_HAS_AMX

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

/// How a product is cut. Up to sixteen rows, one short tile, read panels as they lie, in blocks of `few_runs` runs of K.
///
/// With more rows a block of two panels, 16 KiB, stays in the L1 cache for all rows of a task, which stream past it from the
/// L2 cache. Sums of such blocks are kept beside each other: rows of outputs that lie KiB apart share few sets of a cache.
struct amx_plan {
  static constexpr std::size_t near_runs = 8;
  static constexpr std::size_t most_tiles = 8;       // of one task
  static constexpr std::size_t most_part = 8 * 64;   // runs of its tiles, 1 MiB: half of the L2 cache

  std::size_t rows, runs, height = 0, tiles = 0, block_runs = 1, blocks = 0;
  std::size_t part_blocks = 1;  // blocks of one part of K, whose rows stay in the L2 cache
  bool near;

  amx_plan(const packed_matrix& w, std::size_t n, std::size_t few_runs) noexcept
      : rows(n), runs(ceil_div(w.cols, amx_depth)), near(n > 16) {
    if (n == 0) return;
    height = ceil_div(n, ceil_div(n, amx_rows));
    tiles = ceil_div(n, height);
    block_runs = near ? near_runs : few_runs;
    blocks = ceil_div(runs, block_runs);
    const std::size_t task_tiles = ceil_div(tiles, ceil_div(tiles, most_tiles));
    part_blocks = near ? most_part / task_tiles / near_runs : blocks;
  }
  /// Whether sums wait for another part of K, so that all those of a task are kept.
  [[nodiscard]] bool waits() const noexcept { return blocks > part_blocks; }
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
  const std::size_t first = block * plan.block_runs * amx_depth, runs = plan.runs_of(block);
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

/// Panels of bf16, multiplied where they lie.
struct stored_pairs {
  static constexpr std::size_t few_runs = 64;

  explicit stored_pairs(const packed_matrix& w) noexcept : w_(w) {}
  [[nodiscard]] const bf16* panels(std::size_t panel, std::size_t, std::size_t run, std::size_t) noexcept {
    return reinterpret_cast<const bf16*>(w_.data + panel * w_.panel_bytes()) + run * amx_depth * panel_width;
  }
  [[nodiscard]] std::size_t group_stride(std::size_t) const noexcept { return w_.panel_bytes() / sizeof(bf16); }
  /// Whether a tile should prefetch the panels after those it multiplies.
  static constexpr bool ahead = true;

 private:
  const packed_matrix& w_;
};

/// Panels of quantised weights or f16, decoded into a buffer.
struct expanded_pairs {
  static constexpr std::size_t few_runs = 16;  // of four panels: 64 KiB

  explicit expanded_pairs(const packed_matrix& w) noexcept : w_(w) {}
  [[nodiscard]] const bf16* panels(std::size_t panel, std::size_t groups, std::size_t run, std::size_t runs) noexcept {
    const std::size_t bytes = w_.panel_bytes();
    for (std::size_t g = 0; g < groups; ++g) {
      const std::byte* const from = w_.data + (panel + g) * bytes;
      const std::byte* const next = panel + groups + g < ceil_div(w_.rows, panel_width) ? from + groups * bytes : nullptr;
      bf16* const to = buffer_ + g * runs * pair_run_elements;
      if (w_.type == dtype::f16) {
        constexpr std::size_t run_bytes = pair_run_elements * sizeof(f16);
        expand_half_pairs(from + run * run_bytes, std::min(runs * amx_depth, w_.cols - run * amx_depth),
                          next == nullptr ? nullptr : next + run * run_bytes, to);
      } else {
        expand_pairs(code_panels{w_.type, w_.cols}, from, run, runs, next, to);
      }
    }
    return buffer_;
  }
  [[nodiscard]] std::size_t group_stride(std::size_t runs) const noexcept { return runs * pair_run_elements; }
  static constexpr bool ahead = false;

 private:
  const packed_matrix& w_;
  alignas(alignment) bf16 buffer_[4 * few_runs * pair_run_elements];
};

/// All rows, rounded, where the plan says.
inline void amx_pack(executor_ref workers, const amx_plan& plan, std::size_t cols, const float* x, std::size_t x_stride,
                     bf16* packed) noexcept {
  const std::size_t part = std::max<std::size_t>(1, 64 / plan.block_runs);
  const std::size_t count = ceil_div(plan.blocks, part) * plan.tiles;
  const auto pack = [&](std::size_t i) {
    const std::size_t first = i / plan.tiles * part, tile = i % plan.tiles;
    for (std::size_t block = first; block < std::min(plan.blocks, first + part); ++block)
      amx_pack_rows(plan, cols, x, x_stride, block, tile, packed + plan.packed_at(block, tile));
  };
  // A few thousand elements are copied faster than a second worker wakes.
  if (plan.rows * cols < 32 * 1024) {
    for (std::size_t i = 0; i < count; ++i) pack(i);
  } else {
    workers.for_each(count, [&](std::size_t, std::size_t i) { pack(i); });
  }
}

/// Tasks: groups of panels times groups of row tiles. The wider a task, the fewer times its rows are read from the shared
/// cache; four tasks for each worker even out what one may lose to others on the machine. No bit depends on it.
struct amx_tasks {
  static constexpr std::size_t most_panels = 32;  // where one is 128 KiB or more

  std::size_t row_groups, group_tiles, panels = most_panels, count;

  amx_tasks(const amx_plan& plan, const packed_matrix& w, std::size_t all_panels, std::size_t least_panels,
            std::size_t workers) noexcept
      : row_groups(ceil_div(plan.tiles, amx_plan::most_tiles)), group_tiles(ceil_div(plan.tiles, row_groups)) {
    while (panels > least_panels && ceil_div(all_panels, panels) * row_groups < 4 * workers) panels /= 2;
    while (panels * w.panel_bytes() < 128 * 1024) panels *= 2;
    count = ceil_div(all_panels, panels) * row_groups;
  }
};

/// Sums of one product of tiles, and what a worker keeps of them while K is cut: those of two panels and all tiles of a task,
/// or of all its panels.
inline constexpr std::size_t amx_tile_sums = amx_rows * 2 * panel_width;
[[nodiscard]] inline std::size_t amx_kept_sums(const amx_plan& plan) noexcept {
  if (!plan.near) return 0;
  return amx_plan::most_tiles * amx_tile_sums * (plan.waits() ? amx_tasks::most_panels / 2 : 1);
}

/// Sums of a tile become rows of y. Nobody reads those before the product ends, so whole lines go past the caches: fetched
/// to be written, they would push rows and panels out.
inline void amx_put(const float* sums, std::size_t width, std::size_t rows, std::size_t columns, float* y,
                    std::size_t y_stride) noexcept {
  const bool lines = columns == 2 * panel_width && width == columns && y_stride % 16 == 0 &&
                     reinterpret_cast<std::uintptr_t>(y) % alignment == 0;
  for (std::size_t r = 0; r < rows; ++r, sums += width, y += y_stride) {
    if (lines) {
      _mm512_stream_ps(y, _mm512_load_ps(sums));
      _mm512_stream_ps(y + 16, _mm512_load_ps(sums + 16));
    } else {
      std::copy_n(sums, columns, y);
    }
  }
}

/// y = x W^T from packed rows. `kept`: `amx_kept_sums` floats for each worker.
template <class Panels>
void multiply_packed(executor_ref workers, const packed_matrix& w, const amx_plan& plan, const bf16* packed, float* kept,
                     float* y, std::size_t y_stride) noexcept {
  // Few rows read two panels at a time, each tile prefetched while the one before is multiplied: with one chain of sums short
  // panels would wait for it, and four streams are read more slowly than two.
  const bool stream = Panels::ahead && plan.rows <= few_rows;
  const std::size_t panels = ceil_div(w.rows, panel_width);
  const std::size_t widest = stream && plan.runs >= 32 ? 2 : amx_groups(plan.height);
  const amx_tasks tasks(plan, w, panels, 2, workers.concurrency());
  workers.for_each(tasks.count, [&](std::size_t worker, std::size_t task) {
    // Row groups of one column group follow each other: the second finds the weights in the shared cache.
    const std::size_t first_tile = task % tasks.row_groups * tasks.group_tiles;
    const std::size_t last_tile = std::min(plan.tiles, first_tile + tasks.group_tiles), count = last_tile - first_tile;
    const std::size_t first_panel = task / tasks.row_groups * tasks.panels;
    const std::size_t last_panel = std::min(panels, first_panel + tasks.panels);
    const amx_tiles shape(plan.height);
    Panels from(w);
    amx_operands o;
    o.row_stride = amx_depth;
    o.run_stride = plan.height * amx_depth;
    o.step_stride = panel_width * 2;
    o.near = plan.near;
    float* const sums = kept + worker * amx_kept_sums(plan);
    // All rows of the task times the panels from `panel` on, in one block of the part that begins with `first_block`.
    const auto multiply = [&](std::size_t first_block, std::size_t block, std::size_t panel) {
      const std::size_t first_run = block * plan.block_runs, runs = plan.runs_of(block);
      const std::size_t groups = std::min(widest, last_panel - panel), width = groups * panel_width;
      const std::size_t columns = std::min(width, w.rows - panel * panel_width);
      o.accumulate = block != 0;
      o.steps = std::min(runs * amx_steps, ceil_div(w.cols, 2) - first_run * amx_steps);
      o.panel = from.panels(panel, groups, first_run, runs);
      o.group_stride = from.group_stride(runs);
      // What is read next is on its way while these are multiplied, a part with each tile of rows.
      const bool stays = plan.near && block + 1 < std::min(plan.blocks, first_block + plan.part_blocks);
      const bool more = stream || (Panels::ahead && (stays || panel + 2 * widest <= last_panel));
      const std::size_t lines = more ? ceil_div(amx_steps, count) : 0;
      const bf16* next = nullptr;
      if (stream) next = o.panel + amx_depth * panel_width;
      else if (more && stays) next = o.panel + runs * amx_depth * panel_width;
      else if (more) next = from.panels(panel + widest, groups, (plan.near ? first_block : block) * plan.block_runs, runs);
      float* const near_sums = sums + (plan.waits() ? (panel - first_panel) / 2 * count * amx_tile_sums : 0);
      alignas(alignment) float ragged[amx_tile_sums];
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t tile = first_tile + i, rows = plan.rows_of(tile);
        float* const to = y + tile * plan.height * y_stride + panel * panel_width;
        const bool direct = !plan.near && rows == plan.height && columns == width;
        o.out = direct ? to : plan.near ? near_sums + i * amx_tile_sums : ragged;
        o.out_stride = direct ? y_stride : width;
        if (o.out == ragged && o.accumulate)
          for (std::size_t r = 0; r < rows; ++r) std::copy_n(to + r * y_stride, columns, ragged + r * width);
        o.rows = packed + plan.packed_at(block, tile);
        const std::size_t done = i * lines;
        o.next_lines = done < amx_steps ? lines : 0;
        o.next = more ? next + done * runs * panel_width * 2 : nullptr;
        amx_multiply(plan.height, groups, o);
        if (!direct && (!plan.near || block + 1 == plan.blocks)) amx_put(o.out, width, rows, columns, to, y_stride);
      }
    };
    for (std::size_t first_block = 0; first_block < plan.blocks; first_block += plan.part_blocks)
      for (std::size_t panel = first_panel; panel < last_panel; panel += widest)
        for (std::size_t block = first_block; block < std::min(plan.blocks, first_block + plan.part_blocks); ++block)
          multiply(first_block, block, panel);
    _mm_sfence();  // lines that went past the caches are there before the task ends
  });
}

[[nodiscard]] inline std::size_t amx_scratch_bytes(std::size_t workers, const packed_matrix& w, std::size_t rows) noexcept {
  const amx_plan plan(w, rows, stored_pairs::few_runs);  // no size depends on it
  return plan.scratch_bytes() + workers * amx_kept_sums(plan) * sizeof(float);
}

template <class Panels>
void project_tiles(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride, std::size_t rows,
                   float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  const amx_plan plan(w, rows, Panels::few_runs);
  BLOCKATTN_EXPECTS(scratch.size() >= amx_scratch_bytes(workers.concurrency(), w, rows));
  bf16* const packed = reinterpret_cast<bf16*>(scratch.data());
  float* const kept = reinterpret_cast<float*>(scratch.data() + plan.scratch_bytes());
  amx_pack(workers, plan, w.cols, x, x_stride, packed);
  multiply_packed<Panels>(workers, w, plan, packed, kept, y, y_stride);
}

inline void project_amx(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride,
                        std::size_t rows, float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  (w.type == dtype::bf16 ? &project_tiles<stored_pairs> : &project_tiles<expanded_pairs>)(workers, w, x, x_stride, rows, y,
                                                                                          y_stride, scratch);
}

}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#else

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {
namespace isa_detail {
// Never called (`product_of`): they spare their callers the question.
inline void project_amx(executor_ref, const packed_matrix&, const float*, std::size_t, std::size_t, float*, std::size_t,
                        std::span<std::byte>) noexcept {}
[[nodiscard]] inline std::size_t amx_scratch_bytes(std::size_t, const packed_matrix&, std::size_t) noexcept { return 0; }
}  // namespace isa_detail
}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#endif
