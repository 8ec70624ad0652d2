// SPDX-License-Identifier: MIT
/// Projections over panels that a tile cannot read as they lie: quantised weights and f16.
///
/// A part of a few panels (some hundred columns) is widened into the L1 cache (kernel/expand.hpp) and then multiplied with
/// all rows of a task, so its cost is shared by the rows. Two products are computed that way:
///   - `code_product`: rows rounded to 8-bit codes, integer products (kernel/code_tile.hpp);
///   - `float_product`: rows as they are, weights as floats (kernel/tile.hpp): f16, and quantised weights for
///     `compute_type::f32`.
/// Tasks are column groups times row groups, fixed by the shape alone; sums are carried from one part of the columns to
/// the next through y, as floats, which is exact. So bits depend on no task, tile, executor or other row.
///
/// Accuracy, with K columns, from the rows as multiplied and the weights as decoded, sums over magnitudes of products:
///   - `float_product`: 1.01 K 2^-24 of the sum, as kernel/gemm.hpp;
///   - `code_product`: 1.01 (2 K / g + 4) 2^-24 of the sum of |scale dot| + |offset row sum| over groups of g columns.
#pragma once

#include <algorithm>
#include <span>

#include "code_tile.hpp"
#include "expand.hpp"
#include "kernel_set.hpp"
#include "tile.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// Where one tile's work lies. `slots` panels of the buffer against `height` rows, over `columns` columns.
struct expanded_tile {
  std::size_t height, slots, columns;
  const std::byte* rows;
  float* out;
  std::size_t out_stride;
  bool accumulate;
  const std::byte* next;  // to prefetch: `next_bytes` of them, spread over the tile; or null
  std::size_t next_bytes;
};

struct code_product {
  static constexpr std::size_t tile_rows = code_tile_rows;
  static constexpr std::size_t granule = code_panels::run;
  // Columns times panels of the buffer: 32 KiB of codes. Half as much would leave more of the L1 cache to the rows, but
  // carry sums through y twice as often.
  static constexpr std::size_t room = 2048;
  static constexpr bool alone = true;
  static constexpr std::size_t panels(std::size_t height) noexcept { return code_tile_panels(height); }
  static std::size_t row_bytes(const packed_matrix& w, std::size_t columns) noexcept {
    return code_row_layout(w.type).row_bytes(columns);
  }
  static void pack_rows(const packed_matrix& w, const float* x, std::size_t stride, std::size_t height,
                        std::size_t columns, std::byte* out) noexcept {
    pack_code_rows(w.type, x, stride, height, columns, out);
  }

  struct alignas(alignment) buffer {
    std::uint8_t codes[room * panel_width];
    float scales[room / 16 * panel_width];   // groups of 16 columns at least
    float offsets[room / 32 * panel_width];  // no type with groups of 16 has offsets
    const std::uint8_t* at;
    std::size_t panel_stride, scale_stride;
  };
  /// Columns [first, first + n) of `count` panels, the first of them at `panel`.
  static void expand(const packed_matrix& w, const std::byte* panel, std::size_t count, std::size_t first, std::size_t n,
                     buffer& to) noexcept {
    const code_panels layout{w.type, w.cols};
    const std::size_t first_run = first / granule, runs = n / granule;
    const bool direct = code_bits(w.type) == 8;
    to.at = direct ? reinterpret_cast<const std::uint8_t*>(panel) + first_run * layout.code_bytes() : to.codes;
    to.panel_stride = direct ? layout.bytes() : n * panel_width;
    to.scale_stride = n / group_elements(w.type) * panel_width;
    for (std::size_t i = 0; i < count; ++i, panel += layout.bytes()) {
      if (!direct) expand_codes(layout, panel, first_run, runs, to.codes + i * to.panel_stride);
      expand_scales(layout, panel, first_run, runs, to.scales + i * to.scale_stride, to.offsets + i * to.scale_stride);
    }
  }
  /// Where the bytes of the same columns start, and how many there are in each panel: most of what `expand` reads.
  static std::size_t fetch_at(const packed_matrix& w, std::size_t first) noexcept {
    return first / granule * code_panels{w.type, w.cols}.code_bytes();
  }

  static void multiply(const packed_matrix& w, const expanded_tile& t, const buffer& from) noexcept {
    code_operands o;
    o.rows = t.rows;
    o.codes = from.at;
    o.panel_stride = from.panel_stride;
    o.scales = from.scales;
    o.offsets = from.offsets;
    o.scale_stride = from.scale_stride;
    o.groups = t.columns / group_elements(w.type);
    o.out = t.out;
    o.out_stride = t.out_stride;
    o.accumulate = t.accumulate;
    o.next = t.next;
    o.next_step = t.next == nullptr ? 0 : ceil_div(t.next_bytes, t.columns / 4);
    switch (code_kind_of(w.type)) {
      case code_kind::plain: return multiply_code_tile<code_kind::plain>(t.height, t.slots, o);
      case code_kind::with_offsets: return multiply_code_tile<code_kind::with_offsets>(t.height, t.slots, o);
      case code_kind::halves: return multiply_code_tile<code_kind::halves>(t.height, t.slots, o);
    }
  }
};

struct float_product {
  static constexpr std::size_t tile_rows = blockattn::tile_rows;
  static constexpr std::size_t granule = 32;
  static constexpr std::size_t room = 512;  // 32 KiB of floats
  static constexpr bool alone = false;  // one chain of floats is too slow for one row: it needs panels beside each other
  static constexpr std::size_t panels(std::size_t height) noexcept { return tile_groups(height); }
  static std::size_t row_bytes(const packed_matrix&, std::size_t columns) noexcept { return columns * sizeof(float); }
  static void pack_rows(const packed_matrix&, const float* x, std::size_t stride, std::size_t height,
                        std::size_t columns, std::byte* out) noexcept {
    float* to = reinterpret_cast<float*>(out);
    for (std::size_t r = 0; r < height; ++r)
      for (std::size_t k = 0; k < columns; ++k) to[k * height + r] = x[r * stride + k];
  }

  struct alignas(alignment) buffer {
    float floats[room * panel_width];
    std::size_t panel_stride;
  };
  static void expand(const packed_matrix& w, const std::byte* panel, std::size_t count, std::size_t first, std::size_t n,
                     buffer& to) noexcept {
    to.panel_stride = n * panel_width;
    const std::size_t panel_bytes = w.panel_bytes();
    for (std::size_t i = 0; i < count; ++i, panel += panel_bytes) {
      float* out = to.floats + i * to.panel_stride;
      if (is_quantized(w.type)) {
        expand_floats(code_panels{w.type, w.cols}, panel, first / granule, n / granule, out);
      } else {
        for (std::size_t k = 0; k < n; ++k) store(out + 16 * k, load_f16(panel + (first + k) * 32));
      }
    }
  }
  static std::size_t fetch_at(const packed_matrix& w, std::size_t first) noexcept {
    return is_quantized(w.type) ? code_product::fetch_at(w, first) : first * 32;
  }

  static void multiply(const packed_matrix&, const expanded_tile& t, const buffer& from) noexcept {
    tile_operands<float, float> o;
    o.rows = reinterpret_cast<const float*>(t.rows);
    o.panel = from.floats;
    o.step_stride = panel_width;
    o.group_stride = from.panel_stride;
    o.steps = t.columns;
    o.out = t.out;
    o.out_stride = t.out_stride;
    o.accumulate = t.accumulate;
    o.next = t.next;
    multiply_tile<row_order::interleaved>(t.height, t.slots, o,
                                          t.next == nullptr ? 0 : ceil_div(t.next_bytes, t.columns));
  }
};

/// How a product is cut. A function of the shape and the types, never of the executor.
template <class Product>
struct expanded_plan {
  std::size_t rows, cols, panels;
  std::size_t set;           // panels that a tile reads at a time
  std::size_t block, blocks; // columns that are widened at a time
  std::size_t group_rows, row_groups;
  std::size_t task_panels, column_groups;

  expanded_plan(const packed_matrix& w, std::size_t n) noexcept : rows(n), cols(w.cols) {
    panels = ceil_div(w.rows, panel_width);
    // One tile of codes reads panel after panel: a long run of bytes, of which it prefetches the next part.
    const row_tiles tiles(n, Product::tile_rows);
    set = Product::alone && tiles.count <= 1 ? 1 : Product::panels(std::max<std::size_t>(1, tiles.size(0)));
    block = Product::room / set / Product::granule * Product::granule;
    blocks = ceil_div(cols, block);
    // 384 KiB of rows, inside an L2 cache of 512 KiB.
    const std::size_t most =
        std::max<std::size_t>(1, 384 * 1024 / std::max<std::size_t>(1, Product::row_bytes(w, block)) / Product::tile_rows) *
        Product::tile_rows;
    row_groups = std::max<std::size_t>(1, ceil_div(n, most));
    group_rows = std::max<std::size_t>(1, round_up(ceil_div(n, row_groups), Product::tile_rows));
    row_groups = std::max<std::size_t>(1, ceil_div(n, group_rows));
    // As many panels as leave 48 tasks, at most 16: a wider task reads its rows from the shared cache fewer times.
    task_panels = 16;
    while (task_panels > 4 && ceil_div(panels, task_panels) * row_groups < 48) task_panels /= 2;
    while (task_panels * w.panel_bytes() < 64 * 1024 && task_panels < panels) task_panels *= 2;
    column_groups = ceil_div(panels, task_panels);
  }
  [[nodiscard]] std::size_t scratch_bytes(const packed_matrix& w) const noexcept {
    return round_up(rows * Product::row_bytes(w, cols), alignment);
  }
  [[nodiscard]] std::size_t rows_of(std::size_t group) const noexcept {
    return std::min(group_rows, rows - group * group_rows);
  }
  [[nodiscard]] std::size_t columns_of(std::size_t block_index) const noexcept {
    return std::min(block, cols - block_index * block);
  }
  // Where the rows of a group start in a block: [row group][block][tile].
  [[nodiscard]] std::size_t packed_at(const packed_matrix& w, std::size_t group, std::size_t block_index) const noexcept {
    return group * group_rows * Product::row_bytes(w, cols) + rows_of(group) * Product::row_bytes(w, block_index * block);
  }
};

/// Packs the rows, in tasks of a few tiles and one block of columns.
template <class Product>
void pack_expanded_rows(executor_ref workers, const expanded_plan<Product>& plan, const packed_matrix& w, const float* x,
                        std::size_t x_stride, std::byte* packed) noexcept {
  constexpr std::size_t task_tiles = 4;
  const std::size_t chunks = ceil_div(row_tiles(plan.group_rows, Product::tile_rows).count, task_tiles);
  const auto pack = [&](std::size_t, std::size_t i) {
    const std::size_t block = i % plan.blocks, chunk = i / plan.blocks % chunks, group = i / plan.blocks / chunks;
    const std::size_t columns = plan.columns_of(block);
    const row_tiles tiles(plan.rows_of(group), Product::tile_rows);
    std::byte* const out = packed + plan.packed_at(w, group, block);
    for (std::size_t t = chunk * task_tiles; t < std::min(tiles.count, (chunk + 1) * task_tiles); ++t)
      Product::pack_rows(w, x + (group * plan.group_rows + tiles.begin(t)) * x_stride + block * plan.block, x_stride,
                         tiles.size(t), columns, out + tiles.begin(t) * Product::row_bytes(w, columns));
  };
  const std::size_t tasks = plan.row_groups * chunks * plan.blocks;
  if (plan.rows * plan.cols < 16 * 1024) {  // done before a second worker would wake
    for (std::size_t i = 0; i < tasks; ++i) pack(0, i);
  } else {
    workers.for_each(tasks, pack);
  }
}

/// All rows of a group times the panels of one set, over one block. `columns` of y are written.
template <class Product>
void multiply_set(const expanded_plan<Product>& plan, const packed_matrix& w, const row_tiles& tiles,
                  const std::byte* rows, std::size_t block, std::size_t columns, float* y, std::size_t y_stride,
                  const std::byte* next, const typename Product::buffer& from) noexcept {
  constexpr std::size_t most = 4;  // panels of a set
  const std::size_t slots = ceil_div(columns, panel_width);
  const bool ragged = columns % panel_width != 0;
  alignas(alignment) float copy[Product::tile_rows * most * panel_width];
  expanded_tile t;
  t.slots = slots;
  t.columns = plan.columns_of(block);
  t.accumulate = block != 0;
  // The tiles share the prefetching of what is widened next: each takes a part of one panel.
  const std::size_t sharers = ceil_div(tiles.count, slots);
  const std::size_t bytes = Product::fetch_at(w, t.columns);
  t.next_bytes = ceil_div(bytes, sharers);
  for (std::size_t i = 0; i < tiles.count; ++i) {
    float* const out = y + tiles.begin(i) * y_stride;
    t.height = tiles.size(i);
    t.rows = rows + tiles.begin(i) * Product::row_bytes(w, t.columns);
    t.next = next == nullptr ? nullptr : next + i % slots * w.panel_bytes() + std::min(i / slots * t.next_bytes, bytes);
    t.out = ragged ? copy : out;
    t.out_stride = ragged ? slots * panel_width : y_stride;
    if (ragged && t.accumulate)
      for (std::size_t r = 0; r < t.height; ++r) {
        std::copy_n(out + r * y_stride, columns, copy + r * t.out_stride);
        std::fill_n(copy + r * t.out_stride + columns, t.out_stride - columns, 0.0f);
      }
    // Rows of y are far apart, often a power of two: what the next tile writes is on its way while this one computes.
    if (i + 1 < tiles.count)
      for (std::size_t r = 0; r < tiles.size(i + 1); ++r)
        for (std::size_t c = 0; c < slots; ++c) prefetch_near(y + (tiles.begin(i + 1) + r) * y_stride + c * panel_width);
    Product::multiply(w, t, from);
    if (ragged)
      for (std::size_t r = 0; r < t.height; ++r) std::copy_n(copy + r * t.out_stride, columns, out + r * y_stride);
  }
}

template <class Product>
void project_expanded(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride,
                      std::size_t rows, float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  const expanded_plan<Product> plan(w, rows);
  BLOCKATTN_EXPECTS(scratch.size() >= plan.scratch_bytes(w));
  pack_expanded_rows(workers, plan, w, x, x_stride, scratch.data());
  const std::size_t panel_bytes = w.panel_bytes();
  workers.for_each(plan.column_groups * plan.row_groups, [&](std::size_t, std::size_t task) {
    // Row groups of one column group follow each other: the second finds the weights in the shared cache.
    const std::size_t group = task % plan.row_groups;
    const std::size_t first_panel = task / plan.row_groups * plan.task_panels;
    const std::size_t end_panel = std::min(plan.panels, first_panel + plan.task_panels);
    const row_tiles tiles(plan.rows_of(group), Product::tile_rows);
    typename Product::buffer widened;
    for (std::size_t block = 0; block < plan.blocks; ++block) {
      const std::byte* const packed = scratch.data() + plan.packed_at(w, group, block);
      const std::size_t first = block * plan.block;
      for (std::size_t p = first_panel; p < end_panel; p += plan.set) {
        const std::size_t count = std::min(plan.set, end_panel - p);
        // What is read next: the next panels, or the first ones of the next block.
        const bool more = p + plan.set < end_panel;
        const std::byte* next = nullptr;
        if (more) next = w.data + (p + plan.set) * panel_bytes + Product::fetch_at(w, first);
        if (!more && block + 1 < plan.blocks)
          next = w.data + first_panel * panel_bytes + Product::fetch_at(w, first + plan.block);
        Product::expand(w, w.data + p * panel_bytes, count, first, plan.columns_of(block), widened);
        const std::size_t columns = std::min(count * panel_width, w.rows - p * panel_width);
        multiply_set(plan, w, tiles, packed, block, columns, y + group * plan.group_rows * y_stride + p * panel_width,
                     y_stride, next, widened);
      }
    }
  });
}
}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
