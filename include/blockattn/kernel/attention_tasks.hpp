// SPDX-License-Identifier: MIT
/// Runs the tasks of an attention call and merges the parts of those whose keys were cut (kernel/attention_plan.hpp). What
/// a task computes is up to its rows.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "attention_plan.hpp"
#include "softmax.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

// Merges the parts of one token and head: each part's sums, brought to the largest maximum. The paper's blocks meet
// in the same way, which is why a part may end anywhere.
inline void merge_parts(const float* partial, std::size_t parts, std::size_t stride, const attention_shape& shape,
                        float* values, float* out) noexcept {
  const std::size_t width = row_floats(shape);
  float top = no_score, sum = 0.0f;
  for (std::size_t p = 0; p < parts; ++p) top = std::max(top, partial[p * stride + width]);
  for (std::size_t i = 0; i < width; i += panel_width) store(values + i, zero16());
  for (std::size_t p = 0; p < parts; ++p) {
    const float* from = partial + p * stride;
    if (!(from[width + 1] > 0.0f)) continue;  // saw no key
    alignas(alignment) float weight[panel_width];
    const f32x16 factor = exp2_nonpositive(broadcast(from[width] - top));
    store(weight, factor);
    sum += weight[0] * from[width + 1];
    for (std::size_t i = 0; i < width; i += panel_width)
      store(values + i, fma(load(from + i), factor, load(values + i)));
  }
  finish(values, sum, shape.head_dim, out);
}

// Rows: task_rows<Panel, Tiles>, or int8_rows<Row>.
template <class Rows>
void attend_tasks(executor_ref workers, std::span<const attention_job> jobs, const attention_shape& shape,
                  std::byte* scratch) noexcept {
  using workspace = typename Rows::workspace;
  scratch_cutter common(scratch);
  job_plan* const plans = common.take<job_plan>(jobs.size());
  const attention_plan plan(jobs, shape, plans, workers.concurrency());
  float* const partials = common.take<float>(plan.partials);
  std::byte* const private_memory = scratch + common.used();
  scratch_cutter count;
  (void)workspace(count, shape);
  const std::size_t private_bytes = count.used();
  const std::size_t group = group_of(shape), stride = partial_floats(shape);
  // Partial results: [kv head][part][token][head of the group].
  const auto partial_of = [&](const job_plan& of, const attention_job& job, std::size_t kv_head, std::size_t part) {
    return partials + of.first_partial + (kv_head * of.parts + part) * job.tokens * group * stride;
  };

  workers.for_each(plan.tasks, [&](std::size_t worker, std::size_t i) {
    scratch_cutter mine(private_memory + worker * private_bytes);
    const workspace memory(mine, shape);
    const attention_task task = plan.task(i, jobs);
    const job_plan& of = plan.jobs[task.job];
    const attention_job& job = jobs[task.job];
    Rows rows(job, shape, task, memory);
    if (of.split()) {
      rows.attend(task.part * part_steps, (task.part + 1) * part_steps);
      rows.write_partial(partial_of(of, job, task.kv_head, task.part) + task.first_token * group * stride);
    } else {
      rows.attend(0, std::numeric_limits<std::size_t>::max());
      rows.write_out();
    }
  });
  if (plan.partials == 0) return;

  // One task for each key/value head of every job; those that were not split are done.
  workers.for_each(jobs.size() * shape.kv_heads, [&](std::size_t worker, std::size_t i) {
    const std::size_t j = i / shape.kv_heads;
    if (!plan.jobs[j].split()) return;
    const job_plan& of = plan.jobs[j];
    const attention_job& job = jobs[j];
    const std::size_t kv_head = i % shape.kv_heads;
    scratch_cutter mine(private_memory + worker * private_bytes);
    const workspace memory(mine, shape);
    const std::size_t part_stride = job.tokens * group * stride;
    for (std::size_t r = 0; r < job.tokens * group; ++r) {
      float* out = job.out + r / group * job.out_stride + (kv_head * group + r % group) * shape.head_dim;
      merge_parts(partial_of(of, job, kv_head, 0) + r * stride, of.parts, part_stride, shape, memory.values, out);
    }
  });
}

}  // namespace isa_detail
}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
