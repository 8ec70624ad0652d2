// SPDX-License-Identifier: MIT
/// The kernels of this translation unit's instruction set, as one set: the default of every model and session.
///
/// Header-only by default. Kernels are by far the largest part of what a compiler does with this library; a program of
/// many translation units may compile them once: define `BLOCKATTN_COMPILED_KERNELS` for all of them, and let one file
/// hold `#include <blockattn/kernel/native_definitions.hpp>`. Nothing else changes.
#pragma once

#include <concepts>

#include "../simd/isa.hpp"
#include "kernel_set.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Names the kernels and holds nothing. A program that wants another kernel for one step derives from it and hides
/// that name: examples/own_kernels.cpp. What each does stands at the function of the same name: pack.hpp
/// (`pack_weights`, `gather_row`, `store_kv`), gemm.hpp, attention.hpp, rope.hpp, norm.hpp, activation.hpp.
struct native_kernels {
  [[nodiscard]] static const char* isa() noexcept { return isa_name(); }

  [[nodiscard]] static dtype panel_type(dtype stored) noexcept;
  static void pack(executor_ref workers, const packed_matrix& to, std::byte* out, std::size_t first_row, dtype type,
                   const std::byte* source, std::size_t rows) noexcept;
  static void gather(const packed_matrix& w, std::size_t row, float* out) noexcept;

  [[nodiscard]] static std::size_t project_scratch(std::size_t workers, const packed_matrix& w, compute_type compute,
                                                   std::size_t rows) noexcept;
  static void project(executor_ref workers, const packed_matrix& w, compute_type compute, const float* x,
                      std::size_t x_stride, std::size_t rows, float* y, std::size_t y_stride,
                      std::span<std::byte> scratch) noexcept;

  [[nodiscard]] static std::size_t attend_scratch(std::size_t workers, std::span<const attention_job> jobs,
                                                  const attention_shape& shape) noexcept;
  static void attend(executor_ref workers, std::span<const attention_job> jobs, const attention_shape& shape,
                     std::span<std::byte> scratch) noexcept;

  static void store_kv(const kv_shape& shape, const float* k, const float* v, std::size_t stride, std::byte* layer,
                       std::size_t room, std::size_t first, std::size_t n) noexcept;
  static void zero_kv_padding(const kv_shape& shape, std::byte* layer, std::size_t room, std::size_t tokens) noexcept;
  /// Turns the keys of one head of a block by one table (cos[pairs], sin[pairs]).
  /// f32 or bf16: int8 keys would be rounded again.
  static void turn_keys(const kv_shape& shape, const std::byte* keys, std::size_t tokens, const float* table,
                        std::size_t pairs, rope_layout layout, std::byte* out) noexcept;

  static void turn_row(float* row, std::size_t heads, std::size_t head_dim, const float* table, std::size_t pairs,
                       rope_layout layout) noexcept;
  static void rms_norm(const float* x, std::size_t n, const float* weight, float epsilon, float* y) noexcept;
  static void add(float* x, const float* y, std::size_t n) noexcept;
  static void swiglu(const float* gate, const float* up, std::size_t n, float* y) noexcept;
  static void geglu(const float* gate, const float* up, std::size_t n, float* y) noexcept;

  /// A feed-forward layer at once, for sets that keep its steps as they are (`native_feed_forward`): feed_forward.hpp.
  [[nodiscard]] static std::size_t feed_forward_scratch(std::size_t workers, const packed_matrix& gate_up,
                                                        const packed_matrix& down, compute_type compute,
                                                        std::size_t rows) noexcept;
  static void feed_forward(executor_ref workers, const packed_matrix& gate_up, const packed_matrix& down,
                           compute_type compute, bool gelu, const float* x, std::size_t x_stride, std::size_t rows,
                           float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept;
};

static_assert(kernel_set<native_kernels>);

/// Whether a set takes all steps of a feed-forward layer from the native kernels: then the layer may be computed at once.
template <class K>
concept native_feed_forward = std::derived_from<K, native_kernels> && requires {
  requires &K::project == &native_kernels::project;
  requires &K::swiglu == &native_kernels::swiglu;
  requires &K::geglu == &native_kernels::geglu;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#if !defined(BLOCKATTN_COMPILED_KERNELS)
#include "native_definitions.hpp"
#endif
