// SPDX-License-Identifier: MIT
/// The bodies of `native_kernels`. Included by native.hpp, or by one file of a program that compiles them once.
#pragma once

#include "activation.hpp"
#include "attention.hpp"
#include "feed_forward.hpp"
#include "gemm.hpp"
#include "native.hpp"
#include "norm.hpp"
#include "pack.hpp"
#include "rope.hpp"

#if defined(BLOCKATTN_COMPILED_KERNELS)
#define BLOCKATTN_KERNEL
#else
#define BLOCKATTN_KERNEL inline
#endif

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

#if defined(BLOCKATTN_COMPILED_KERNELS)
BLOCKATTN_TILE_KERNELS(template)
BLOCKATTN_INT8_TILE_KERNELS(template)
BLOCKATTN_CODE_TILE_KERNELS(template)
BLOCKATTN_CODE_STREAM_KERNELS(template)
#endif

BLOCKATTN_KERNEL dtype native_kernels::panel_type(dtype stored) noexcept { return blockattn::panel_type(stored); }
BLOCKATTN_KERNEL void native_kernels::pack(executor_ref workers, const packed_matrix& to, std::byte* out,
                                           std::size_t first_row, dtype type, const std::byte* source,
                                           std::size_t rows) noexcept {
  pack_weights(workers, to, out, first_row, type, source, rows);
}
BLOCKATTN_KERNEL void native_kernels::gather(const packed_matrix& w, std::size_t row, float* out) noexcept {
  gather_row(w, row, out);
}

BLOCKATTN_KERNEL std::size_t native_kernels::project_scratch(std::size_t workers, const packed_matrix& w,
                                                             compute_type compute, std::size_t rows) noexcept {
  return blockattn::project_scratch(workers, w, compute, rows);
}
BLOCKATTN_KERNEL void native_kernels::project(executor_ref workers, const packed_matrix& w, compute_type compute,
                                              const float* x, std::size_t x_stride, std::size_t rows, float* y,
                                              std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  blockattn::project(workers, w, compute, x, x_stride, rows, y, y_stride, scratch);
}

BLOCKATTN_KERNEL std::size_t native_kernels::attend_scratch(std::size_t workers, std::span<const attention_job> jobs,
                                                            const attention_shape& shape) noexcept {
  return blockattn::attend_scratch(workers, jobs, shape);
}
BLOCKATTN_KERNEL void native_kernels::attend(executor_ref workers, std::span<const attention_job> jobs,
                                             const attention_shape& shape, std::span<std::byte> scratch) noexcept {
  blockattn::attend(workers, jobs, shape, scratch);
}

BLOCKATTN_KERNEL void native_kernels::store_kv(const kv_shape& shape, const float* k, const float* v,
                                               std::size_t stride, std::byte* layer, std::size_t room,
                                               std::size_t first, std::size_t n) noexcept {
  blockattn::store_kv(shape, k, v, stride, layer, room, first, n);
}
BLOCKATTN_KERNEL void native_kernels::zero_kv_padding(const kv_shape& shape, std::byte* layer, std::size_t room,
                                                      std::size_t tokens) noexcept {
  blockattn::zero_kv_padding(shape, layer, room, tokens);
}
BLOCKATTN_KERNEL void native_kernels::turn_keys(const kv_shape& shape, const std::byte* keys, std::size_t tokens,
                                                const float* table, std::size_t pairs, rope_layout layout,
                                                std::byte* out) noexcept {
  BLOCKATTN_EXPECTS(shape.type != dtype::i8);
  if (shape.type == dtype::f32) {
    turn_key_panel(reinterpret_cast<const float*>(keys), tokens, shape.head_dim, table, pairs, layout,
                   reinterpret_cast<float*>(out));
  } else {
    turn_key_panel(reinterpret_cast<const bf16*>(keys), tokens, shape.head_dim, table, pairs, layout,
                   reinterpret_cast<bf16*>(out));
  }
}

BLOCKATTN_KERNEL void native_kernels::turn_row(float* row, std::size_t heads, std::size_t head_dim, const float* table,
                                               std::size_t pairs, rope_layout layout) noexcept {
  blockattn::turn_row(row, heads, head_dim, table, pairs, layout);
}
BLOCKATTN_KERNEL void native_kernels::rms_norm(const float* x, std::size_t n, const float* weight, float epsilon,
                                               float* y) noexcept {
  blockattn::rms_norm(x, n, weight, epsilon, y);
}
BLOCKATTN_KERNEL void native_kernels::add(float* x, const float* y, std::size_t n) noexcept {
  blockattn::add(x, y, n);
}
BLOCKATTN_KERNEL void native_kernels::swiglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
  blockattn::swiglu(gate, up, n, y);
}
BLOCKATTN_KERNEL void native_kernels::geglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
  blockattn::geglu(gate, up, n, y);
}

BLOCKATTN_KERNEL std::size_t native_kernels::feed_forward_scratch(std::size_t workers, const packed_matrix& gate_up,
                                                                  const packed_matrix& down, compute_type compute,
                                                                  std::size_t rows) noexcept {
  return blockattn::feed_forward_scratch(workers, gate_up, down, compute, rows);
}
BLOCKATTN_KERNEL void native_kernels::feed_forward(executor_ref workers, const packed_matrix& gate_up,
                                                   const packed_matrix& down, compute_type compute, bool gelu,
                                                   const float* x, std::size_t x_stride, std::size_t rows, float* y,
                                                   std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  blockattn::feed_forward(workers, gate_up, down, compute, gelu, x, x_stride, rows, y, y_stride, scratch);
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#undef BLOCKATTN_KERNEL
