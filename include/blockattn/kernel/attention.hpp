// SPDX-License-Identifier: MIT
/// Block-Attention's assembly (paper, sections 2.4 and 2.5): a query attends to blocks that were encoded apart and
/// whose keys keep the rotation of their own positions 0..m-1.
///
/// The paper turns the keys of a block to the positions that they now hold. A score depends on distance alone,
///
///     <R(P) q, R(s + t) k>  =  <R(P - s) q, R(t) k>,
///
/// so here the *query* turns, by the angle of R(-s), once for each block: stored keys are never written. One streaming
/// softmax runs over all blocks. For the rows of a task:
///
///     for each segment (a placed block, or the request's own tokens):
///       q' = R(-start) q                      turn_queries      (f32, then rounded once to the type of the product)
///       for each step of 128 keys:
///         s = q' K^T                          the register tile
///         s = masked where p > P or P - p >= window
///         w = 2^(s - max), sums rescaled      softmax.hpp
///         o += w V                            the register tile
///     out = o / sum of w
///
/// Numbers. Scores, sums and outputs accumulate in f32; q' and w are rounded to bf16 only where keys are bf16 and the
/// instruction set multiplies bf16 pairs, and over int8 keys on tile registers (`compute_type::many_rows`). Weighted values
/// of a step are summed first and then added to those before; on tile registers all steps are one chain, which adds 32 keys
/// at a time. Bits of a row depend on its query, its position and its segments, not on workers, on the rows that share its
/// task, or on other jobs. Steps are anchored at the start of a segment. A key that a row does not see weighs exactly
/// nothing in it (its value must be finite where another row of the task sees it); keys before the first and after the
/// last that a task sees are not read, but for the rest of a tile of sixteen.
#pragma once

#include "attention_int8.hpp"
#include "attention_plan.hpp"
#include "attention_steps.hpp"
#include "attention_tasks.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {

// Calls f(std::type_identity<Rows>) with what computes keys and values of the shape's type.
template <class F>
void with_rows_of(const attention_shape& shape, F&& f) noexcept {
  if (shape.type == dtype::f32) {
    f(std::type_identity<task_rows<float, vector_tiles<float, float>>>{});
#if BLOCKATTN_HAS_AMX
  } else if (uses_tile_registers(shape.type, shape.compute)) {
    if (shape.type == dtype::bf16) f(std::type_identity<task_rows<bf16, register_tiles>>{});
    else f(std::type_identity<task_rows<std::int8_t, register_tiles>>{});
#endif
  } else if (shape.type == dtype::i8 && shape.compute == compute_type::f32) {
    f(std::type_identity<int8_rows<float>>{});
  } else if (shape.type == dtype::i8) {
    f(std::type_identity<int8_rows<std::int16_t>>{});
  } else {
    f(std::type_identity<task_rows<bf16, vector_tiles<bf16, row_operand_t<bf16>>>>{});
  }
}

}  // namespace isa_detail

/// Bytes of scratch that `attend` needs for these jobs and up to `workers` workers. O(jobs), and O(segments) for jobs
/// of few tokens.
[[nodiscard]] inline std::size_t attend_scratch(std::size_t workers, std::span<const attention_job> jobs,
                                                const attention_shape& shape) noexcept {
  scratch_cutter common, each;
  (void)common.take<job_plan>(jobs.size());
  (void)common.take<float>(attention_plan(jobs, shape, nullptr).partials);
  isa_detail::with_rows_of(shape, [&]<class Rows>(std::type_identity<Rows>) {
    (void)typename Rows::workspace(each, shape);
  });
  return alignment + common.used() + workers * each.used();
}

/// out = softmax(queries keys^T) values, for every job; see `attention_job` for shapes and for what is visible.
///
/// `scratch` holds `attend_scratch(workers.concurrency(), jobs, shape)` bytes, at any address; its contents do not
/// matter. A row that sees no key gives zeros. Empty jobs and empty segments are allowed. Thread-safe for disjoint
/// outputs and scratch. 4 * head_dim operations for each visible key, row and head; tiles of sixteen keys are computed
/// whole.
inline void attend(executor_ref workers, std::span<const attention_job> jobs, const attention_shape& shape,
                   std::span<std::byte> scratch) noexcept {
  BLOCKATTN_EXPECTS(shape.kv_heads != 0 && shape.heads % shape.kv_heads == 0);
  BLOCKATTN_EXPECTS(shape.head_dim % 2 == 0 && shape.head_dim >= 2 && shape.head_dim <= 256);
  BLOCKATTN_EXPECTS(shape.rotary_dim % 2 == 0 && shape.rotary_dim <= shape.head_dim && shape.window >= 1);
  BLOCKATTN_EXPECTS(shape.type == dtype::f32 || shape.type == dtype::bf16 || shape.type == dtype::i8);
  BLOCKATTN_EXPECTS(scratch.size() >= attend_scratch(workers.concurrency(), jobs, shape));
  const auto address = reinterpret_cast<std::uintptr_t>(scratch.data());
  std::byte* const aligned = scratch.data() + (round_up(address, alignment) - address);
  isa_detail::with_rows_of(shape, [&]<class Rows>(std::type_identity<Rows>) {
    isa_detail::attend_tasks<Rows>(workers, jobs, shape, aligned);
  });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
