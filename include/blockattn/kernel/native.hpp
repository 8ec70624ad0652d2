// SPDX-License-Identifier: MIT
/// The kernels of this translation unit's instruction set, as one set: the default of every model and session.
#pragma once

#include "activation.hpp"
#include "attention.hpp"
#include "gemm.hpp"
#include "kernel_set.hpp"
#include "norm.hpp"
#include "pack.hpp"
#include "rope.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Names the kernels and holds nothing. A program that wants another kernel for one step derives from it and hides
/// that name: examples/own_kernels.cpp.
struct native_kernels {
  [[nodiscard]] static const char* isa() noexcept { return isa_name(); }

  static void pack(executor_ref workers, const packed_matrix& to, std::byte* out, std::size_t first_row, dtype type,
                   const std::byte* source, std::size_t rows) noexcept {
    pack_weights(workers, to, out, first_row, type, source, rows);
  }
  static void gather(const packed_matrix& w, std::size_t row, float* out) noexcept { gather_row(w, row, out); }

  [[nodiscard]] static std::size_t project_scratch(const packed_matrix& w, compute_type compute,
                                                   std::size_t rows) noexcept {
    return blockattn::project_scratch(w, compute, rows);
  }
  static void project(executor_ref workers, const packed_matrix& w, compute_type compute, const float* x,
                      std::size_t x_stride, std::size_t rows, float* y, std::size_t y_stride,
                      std::span<std::byte> scratch) noexcept {
    blockattn::project(workers, w, compute, x, x_stride, rows, y, y_stride, scratch);
  }

  [[nodiscard]] static std::size_t attend_scratch(std::size_t workers, std::span<const attention_job> jobs,
                                                  const attention_shape& shape) noexcept {
    return blockattn::attend_scratch(workers, jobs, shape);
  }
  static void attend(executor_ref workers, std::span<const attention_job> jobs, const attention_shape& shape,
                     std::span<std::byte> scratch) noexcept {
    blockattn::attend(workers, jobs, shape, scratch);
  }

  static void store_kv(const kv_shape& shape, const float* k, const float* v, std::size_t stride, std::byte* layer,
                       std::size_t room, std::size_t first, std::size_t n) noexcept {
    blockattn::store_kv(shape, k, v, stride, layer, room, first, n);
  }
  static void zero_kv_padding(const kv_shape& shape, std::byte* layer, std::size_t room, std::size_t tokens) noexcept {
    blockattn::zero_kv_padding(shape, layer, room, tokens);
  }
  /// Turns the keys of one head of a block by one table (cos[pairs], sin[pairs]).
  static void turn_keys(const kv_shape& shape, const std::byte* keys, std::size_t tokens, const float* table,
                        std::size_t pairs, rope_layout layout, std::byte* out) noexcept {
    if (shape.type == dtype::f32) {
      turn_key_panel(reinterpret_cast<const float*>(keys), tokens, shape.head_dim, table, pairs, layout,
                     reinterpret_cast<float*>(out));
    } else {
      turn_key_panel(reinterpret_cast<const bf16*>(keys), tokens, shape.head_dim, table, pairs, layout,
                     reinterpret_cast<bf16*>(out));
    }
  }

  static void turn_row(float* row, std::size_t heads, std::size_t head_dim, const float* table, std::size_t pairs,
                       rope_layout layout) noexcept {
    blockattn::turn_row(row, heads, head_dim, table, pairs, layout);
  }
  static void rms_norm(const float* x, std::size_t n, const float* weight, float epsilon, float* y) noexcept {
    blockattn::rms_norm(x, n, weight, epsilon, y);
  }
  static void add(float* x, const float* y, std::size_t n) noexcept { blockattn::add(x, y, n); }
  static void swiglu(const float* gate, const float* up, std::size_t n, float* y) noexcept {
    blockattn::swiglu(gate, up, n, y);
  }
};

static_assert(kernel_set<native_kernels>);

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
