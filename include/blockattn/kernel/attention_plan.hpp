// SPDX-License-Identifier: MIT
/// How the attention of one call is cut into tasks. Nothing here computes.
///
/// A task is one key/value head of one job, for a tile of its tokens. The query rows of all heads that share the
/// key/value head are stacked (row = token * group + head of the group), so that a short question still fills the
/// register tiles and every key is read once for all of them. A job of few tokens has too few such tasks for many
/// workers: its keys are cut into parts of a fixed length as well, whose results are merged in order.
#pragma once

#include <algorithm>
#include <span>

#include "../simd/dot.hpp"
#include "kernel_set.hpp"
#include "product_tiles.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Keys of one softmax step. Steps are anchored at the start of a segment; the last one of a segment may be shorter.
inline constexpr std::size_t step_keys = 128;
/// Steps of one part of the keys of a job with few tokens.
inline constexpr std::size_t part_steps = 8;
/// Up to so many tokens, a job is cut by keys. Above, partial results would cost more than they help.
inline constexpr std::size_t few_tokens = 4;

/// Query heads that share a key/value head.
[[nodiscard]] constexpr std::size_t group_of(const attention_shape& shape) noexcept {
  return shape.heads / shape.kv_heads;
}
/// Floats of a row of queries or outputs: the head size in whole registers.
[[nodiscard]] constexpr std::size_t row_floats(const attention_shape& shape) noexcept {
  return round_up(shape.head_dim, panel_width);
}
/// Floats of one row of a partial result: its values, then its maximum and its sum.
[[nodiscard]] constexpr std::size_t partial_floats(const attention_shape& shape) noexcept {
  return row_floats(shape) + panel_width;
}
/// Elements of a row of rounded queries: whole runs of a tile product; those behind the head size are zero.
[[nodiscard]] constexpr std::size_t operand_elements(const attention_shape& shape) noexcept {
  return round_up(shape.head_dim, 2 * panel_width);
}
/// Tokens of the largest task: rows, scores and sums of a task stay in a level-2 cache. On tile registers, products are
/// so fast that reading keys once more costs more than a larger task.
[[nodiscard]] inline std::size_t task_tokens(const attention_shape& shape) noexcept {
  const std::size_t most = uses_tile_registers(shape.type, shape.compute) ? 288 : 144;
  const std::size_t rows = shape.head_dim <= 128 ? most : most / 2;
  return std::max<std::size_t>(rows / group_of(shape), 1);
}

/// The steps of a segment.
[[nodiscard]] constexpr std::size_t steps_of(const kv_segment& segment) noexcept {
  return ceil_div(segment.tokens, step_keys);
}

/// How one job is cut: tiles * parts tasks for each key/value head.
struct job_plan {
  std::size_t tile_tokens = 0;  // tokens of one tile; the last tile has the rest
  std::size_t tiles = 0;
  std::size_t parts = 0;
  std::size_t first_task = 0;
  std::size_t first_partial = 0;  // floats before the partial results of this job

  [[nodiscard]] constexpr bool split() const noexcept { return parts > 1; }
};

/// One unit of work: tokens [first_token, +tokens) of a job, one key/value head, one part of the keys.
struct attention_task {
  std::size_t job = 0;
  std::size_t kv_head = 0;
  std::size_t first_token = 0;
  std::size_t tokens = 0;
  std::size_t part = 0;
};

/// The cut of a job. Its parts depend on the job alone; its tiles, which change no bit, are at least `least_tiles` where
/// that leaves each of them 32 rows, so that many workers find something to do.
[[nodiscard]] inline job_plan plan_job(const attention_job& job, const attention_shape& shape,
                                       std::size_t least_tiles = 1) noexcept {
  job_plan plan;
  if (job.tokens == 0) return plan;
  // Tiles of equal height, in whole register tiles where the group allows it.
  plan.tiles = std::max(ceil_div(job.tokens, task_tokens(shape)),
                        std::min(least_tiles, ceil_div(job.tokens * group_of(shape), 2 * panel_width)));
  plan.tile_tokens = ceil_div(job.tokens, plan.tiles);
  const std::size_t group = group_of(shape);
  if (plan.tiles > 1 && group <= tile_rows && tile_rows % group == 0)
    plan.tile_tokens = std::min(round_up(plan.tile_tokens, tile_rows / group), task_tokens(shape));
  plan.tiles = ceil_div(job.tokens, plan.tile_tokens);
  plan.parts = 1;
  if (job.tokens <= few_tokens) {
    std::size_t steps = 0;
    for (const kv_segment& segment : job.segments) steps += steps_of(segment);
    plan.parts = std::max<std::size_t>(ceil_div(steps, part_steps), 1);
  }
  return plan;
}

/// The tasks of a call: one plan for each job, and their totals.
struct attention_plan {
  std::span<job_plan> jobs;
  std::size_t tasks = 0;
  std::size_t partials = 0;  // floats

  /// Plans all jobs; `memory` holds one plan for each, or is null when only the totals matter.
  attention_plan(std::span<const attention_job> list, const attention_shape& shape, job_plan* memory,
                 std::size_t workers = 1) noexcept {
    if (memory != nullptr) jobs = {memory, list.size()};
    const std::size_t least_tiles = ceil_div(2 * workers, std::max<std::size_t>(list.size() * shape.kv_heads, 1));
    for (std::size_t j = 0; j < list.size(); ++j) {
      job_plan plan = plan_job(list[j], shape, least_tiles);
      plan.first_task = tasks;
      plan.first_partial = partials;
      tasks += plan.tiles * plan.parts * shape.kv_heads;
      if (plan.split()) partials += plan.parts * list[j].tokens * shape.heads * partial_floats(shape);
      if (memory != nullptr) memory[j] = plan;
    }
  }

  /// Task number i. The parts and tiles of one key/value head follow each other, so that workers share what they
  /// read; the last tile comes first, because under a causal mask it has the most keys. O(log jobs).
  [[nodiscard]] attention_task task(std::size_t i, std::span<const attention_job> list) const noexcept {
    const auto after = std::upper_bound(jobs.begin(), jobs.end(), i,
                                        [](std::size_t n, const job_plan& plan) { return n < plan.first_task; });
    attention_task out;
    out.job = static_cast<std::size_t>(after - jobs.begin()) - 1;
    const job_plan& plan = jobs[out.job];
    i -= plan.first_task;
    out.kv_head = i / (plan.tiles * plan.parts);
    out.part = i % plan.parts;
    out.first_token = (plan.tiles - 1 - i / plan.parts % plan.tiles) * plan.tile_tokens;
    out.tokens = std::min(plan.tile_tokens, list[out.job].tokens - out.first_token);
    return out;
  }
};

/// Hands out 64-byte aligned arrays of a block of memory, or only counts.
class scratch_cutter {
 public:
  constexpr scratch_cutter() = default;
  explicit scratch_cutter(std::byte* base) noexcept : base_(base) {}
  template <class T>
  [[nodiscard]] T* take(std::size_t n) noexcept {
    std::byte* const at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(n * sizeof(T), alignment);
    return reinterpret_cast<T*>(at);
  }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
