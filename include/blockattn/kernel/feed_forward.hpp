// SPDX-License-Identifier: MIT
/// The gated feed-forward layer in two steps, where tile registers make that faster than four:
///
///     h = f(x G^T) * (x U^T),   y = h D^T        G, U: the upper and the lower half of `gate_up`; D: `down`
///
/// What the first product makes, two numbers for each hidden one, never leaves the nearer caches: tiles of it are gated,
/// rounded and laid out as rows of the second product as soon as they are there. Every chain and every rounding is that of
/// `project`, `swiglu` or `geglu`, and `project` again (kernel/gemm.hpp, kernel/activation.hpp), so the bits are theirs.
#pragma once

#include "activation.hpp"
#include "gemm_amx.hpp"
#include "product_kind.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

#if BLOCKATTN_HAS_AMX

namespace isa_detail {

// Sums of gate and up for all tiles of a task and one run of hidden numbers, and what a worker keeps of them.
inline constexpr std::size_t gate_sums = 2 * amx_plan::most_tiles * amx_tile_sums;
[[nodiscard]] inline std::size_t kept_gate_sums(const amx_plan& plan) noexcept {
  return gate_sums * (plan.waits() ? amx_tasks::most_panels / 4 : 1);
}

/// The hidden numbers of packed rows, as packed rows of the second product.
template <class Panels, class Gate>
void gate_packed(executor_ref workers, const packed_matrix& w, const amx_plan& plan, const bf16* packed,
                 const amx_plan& hidden_plan, bf16* hidden, float* kept, Gate&& gate) noexcept {
  const std::size_t half = w.rows / 2 / panel_width;  // panels
  const amx_tasks tasks(plan, w, 2 * half, 4, workers.concurrency());  // a run of hidden numbers: two panels of each half
  workers.for_each(tasks.count, [&](std::size_t worker, std::size_t task) {
    const std::size_t first_tile = task % tasks.row_groups * tasks.group_tiles;
    const std::size_t last_tile = std::min(plan.tiles, first_tile + tasks.group_tiles), count = last_tile - first_tile;
    const std::size_t first_panel = task / tasks.row_groups * tasks.panels / 2;  // of each half
    const std::size_t last_panel = std::min(half, first_panel + tasks.panels / 2);
    float* const sums = kept + worker * kept_gate_sums(plan);
    const amx_tiles shape(plan.height);
    Panels from(w);
    amx_operands o;
    o.row_stride = amx_depth;
    o.run_stride = plan.height * amx_depth;
    o.step_stride = panel_width * 2;
    o.out_stride = amx_depth;
    o.near = true;
    // All rows of the task times the panels from `at` on, in one block; those `after` come next.
    struct place {
      std::size_t block, panel;
    };
    const auto multiply = [&](place at, std::size_t groups, place after, float* out) {
      const std::size_t first_run = at.block * plan.block_runs, runs = plan.runs_of(at.block);
      o.accumulate = at.block != 0;
      o.steps = std::min(runs * amx_steps, ceil_div(w.cols, 2) - first_run * amx_steps);
      o.panel = from.panels(at.panel, groups, first_run, runs);
      o.group_stride = from.group_stride(runs);
      // As in `multiply_packed`: each tile fetches a part of the panels that come after these.
      const bool more = Panels::ahead && after.panel + groups <= 2 * half;
      const std::size_t lines = more ? ceil_div(amx_steps, count) : 0;
      const bf16* const next = more ? from.panels(after.panel, groups, after.block * plan.block_runs, runs) : nullptr;
      for (std::size_t i = 0; i < count; ++i) {
        o.rows = packed + plan.packed_at(at.block, first_tile + i);
        o.out = out + i * amx_tile_sums;
        const std::size_t done = i * lines;
        o.next_lines = done < amx_steps ? lines : 0;
        o.next = more ? next + done * runs * panel_width * 2 : nullptr;
        amx_multiply(plan.height, groups, o);
      }
    };
    const auto write = [&](std::size_t panel, std::size_t groups, const float* gates, const float* ups) {
      const std::size_t run = panel / 2, block = run / hidden_plan.block_runs;
      for (std::size_t i = 0; i < count; ++i) {
        bf16* to = hidden + hidden_plan.packed_at(block, first_tile + i) +
                   run % hidden_plan.block_runs * plan.height * amx_depth;
        const float* g = gates + i * amx_tile_sums;
        const float* u = ups + i * amx_tile_sums;
        for (std::size_t r = 0; r < plan.height; ++r, g += amx_depth, u += amx_depth, to += amx_depth) {
          store(to, gate(load(g)) * load(u));
          groups == 2 ? store(to + 16, gate(load(g + 16)) * load(u + 16)) : store(to + 16, zero16());
        }
      }
    };
    for (std::size_t first_block = 0; first_block < plan.blocks; first_block += plan.part_blocks) {
      const std::size_t last_block = std::min(plan.blocks, first_block + plan.part_blocks);
      for (std::size_t panel = first_panel; panel < last_panel; panel += 2) {
        const std::size_t groups = std::min<std::size_t>(2, half - panel);
        float* const gates = sums + (plan.waits() ? (panel - first_panel) / 2 * gate_sums : 0);
        float* const ups = gates + count * amx_tile_sums;
        for (std::size_t block = first_block; block < last_block; ++block) {
          multiply({block, panel}, groups, {block, half + panel}, gates);
          multiply({block, half + panel}, groups,
                   block + 1 < last_block ? place{block + 1, panel} : place{first_block, panel + 2}, ups);
        }
        if (last_block == plan.blocks) write(panel, groups, gates, ups);
      }
    }
  });
}

}  // namespace isa_detail

#endif

/// Bytes of scratch that `feed_forward` needs for `rows` rows and so many workers; 0 where it does not serve these weights
/// or so few rows: use `project` and `swiglu`. Depends on nothing but the arguments and the machine.
[[nodiscard]] inline std::size_t feed_forward_scratch([[maybe_unused]] std::size_t workers,
                                                      [[maybe_unused]] const packed_matrix& gate_up,
                                                      [[maybe_unused]] const packed_matrix& down,
                                                      [[maybe_unused]] compute_type compute,
                                                      [[maybe_unused]] std::size_t rows) noexcept {
#if BLOCKATTN_HAS_AMX
  // Up to sixteen rows a tile has another shape, and reading weights takes the time. Halves must not share a panel.
  const bool served = rows > 16 && product_of(gate_up.type, compute) == product_kind::tiles &&
                      product_of(down.type, compute) == product_kind::tiles && gate_up.cols != 0 &&
                      gate_up.rows % (2 * panel_width) == 0 && gate_up.rows != 0 && down.cols == gate_up.rows / 2;
  if (served)
    return isa_detail::amx_scratch_bytes(workers, gate_up, rows) + isa_detail::amx_scratch_bytes(workers, down, rows) +
           workers * isa_detail::kept_gate_sums({gate_up, rows, isa_detail::stored_pairs::few_runs}) * sizeof(float);
#endif
  return 0;
}

/// y(rows, down.rows) = (f(x G^T) * (x U^T)) D^T. f: silu, or gelu by tanh. `scratch`: `feed_forward_scratch` bytes, which
/// must not be 0, 64-byte aligned. The rest as in `project`.
inline void feed_forward([[maybe_unused]] executor_ref workers, [[maybe_unused]] const packed_matrix& gate_up,
                         [[maybe_unused]] const packed_matrix& down, [[maybe_unused]] compute_type compute,
                         [[maybe_unused]] bool gelu, [[maybe_unused]] const float* x,
                         [[maybe_unused]] std::size_t x_stride, [[maybe_unused]] std::size_t rows,
                         [[maybe_unused]] float* y, [[maybe_unused]] std::size_t y_stride,
                         [[maybe_unused]] std::span<std::byte> scratch) noexcept {
  BLOCKATTN_EXPECTS(feed_forward_scratch(workers.concurrency(), gate_up, down, compute, rows) != 0 &&
                    scratch.size() >= feed_forward_scratch(workers.concurrency(), gate_up, down, compute, rows));
#if BLOCKATTN_HAS_AMX
  using namespace isa_detail;
  const bool stored = gate_up.type == dtype::bf16, down_stored = down.type == dtype::bf16;
  const amx_plan in(gate_up, rows, stored ? stored_pairs::few_runs : expanded_pairs::few_runs);
  const amx_plan out(down, rows, down_stored ? stored_pairs::few_runs : expanded_pairs::few_runs);
  const std::size_t threads = workers.concurrency();
  std::byte* const second = scratch.data() + amx_scratch_bytes(threads, gate_up, rows);
  bf16* const packed = reinterpret_cast<bf16*>(scratch.data());
  bf16* const hidden = reinterpret_cast<bf16*>(second);
  float* const kept = reinterpret_cast<float*>(second + out.scratch_bytes());
  float* const sums = reinterpret_cast<float*>(second + amx_scratch_bytes(threads, down, rows));
  amx_pack(workers, in, gate_up.cols, x, x_stride, packed);
  const auto gate = [&](auto f) {
    stored ? gate_packed<stored_pairs>(workers, gate_up, in, packed, out, hidden, sums, f)
           : gate_packed<expanded_pairs>(workers, gate_up, in, packed, out, hidden, sums, f);
  };
  if (gelu) gate([](f32x16 v) BLOCKATTN_LAMBDA_INLINE { return gelu_tanh(v); });
  else gate([](f32x16 v) BLOCKATTN_LAMBDA_INLINE { return silu(v); });
  down_stored ? multiply_packed<stored_pairs>(workers, down, out, hidden, kept, y, y_stride)
              : multiply_packed<expanded_pairs>(workers, down, out, hidden, kept, y, y_stride);
#endif
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
