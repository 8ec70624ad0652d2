// SPDX-License-Identifier: MIT
/// What a model asks of kernels: the argument structs and the `kernel_set` concept. No SIMD here, so that whoever only
/// hands kernels around (or writes another set, for another instruction set or a dispatcher) includes nothing heavy.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>

#include "../core/element.hpp"
#include "../core/executor.hpp"
#include "../tensor/kv_panels.hpp"
#include "code_panels.hpp"
#include "rope_config.hpp"

namespace blockattn::inline v0 {

/// A weight matrix of shape (rows, cols), repacked for the kernels; not owned. Layout, the same on every ISA:
///
///     [ceil(rows/16)][ceil(cols/lane)][16 rows][lane cols]      lane = 1 for f32 and f16, 2 for bf16; padding is zero
///
/// For f32 and bf16 it is the layout of keys in tensor/kv_panels.hpp with output rows for keys: a projection and a score
/// are the same product. Panels of quantised types: kernel/code_panels.hpp.
struct packed_matrix {
  const std::byte* data = nullptr;  // 64-byte aligned
  dtype type = dtype::f32;          // any weight type
  std::size_t rows = 0;             // outputs
  std::size_t cols = 0;             // inputs; a multiple of block_elements(type)

  /// Columns that lie side by side: 4 for quantised types.
  [[nodiscard]] constexpr std::size_t lane() const noexcept {
    return is_quantized(type) ? 4 : type == dtype::bf16 ? 2 : 1;
  }
  /// Bytes of one panel of 16 rows; a multiple of 64.
  [[nodiscard]] constexpr std::size_t panel_bytes() const noexcept {
    if (is_quantized(type)) return code_panels{type, cols}.bytes();
    return round_up(ceil_div(cols, lane()) * panel_width * lane() * block_bytes(type), alignment);
  }
  [[nodiscard]] constexpr std::size_t bytes() const noexcept { return ceil_div(rows, panel_width) * panel_bytes(); }
};

/// How a product is computed. Weights in f32 are multiplied in float by all of them.
enum class compute_type : std::uint8_t {
  /// bf16: by products of bf16 pairs where the instruction set has them (the row is rounded to bf16), else in float.
  /// Quantised: by products of 8-bit codes (the row is rounded to codes in groups of 32, kernel/code_rows.hpp).
  /// f16: in float.
  automatic,
  /// In float with the weights as they decode, rows not rounded.
  f32,
  /// As `automatic`, by what is fastest for tens of rows and more: on tile registers quantised weights and f16, too,
  /// become pairs of bf16 (row and decoded weight are rounded to bf16). Slower for a few rows.
  many_rows
};

/// A run of stored keys and values that queries attend to: a placed block, or the tokens that a context owns; of one
/// layer, all key/value heads.
struct kv_segment {
  const std::byte* keys = nullptr;    // key panel of head 0 (tensor/kv_panels.hpp)
  const std::byte* values = nullptr;  // value panel of head 0
  std::size_t key_stride = 0;         // bytes from the keys of one head to those of the next
  std::size_t value_stride = 0;
  std::size_t tokens = 0;
  std::int64_t start = 0;             // global position of its first token: decides what is visible
  const float* turn = nullptr;        // cos[pairs], sin[pairs] of R(-start), applied to queries; null: keys are in place
  const float* key_scales = nullptr;  // int8: of head 0, one for each token
  const float* value_scales = nullptr;
  std::size_t scale_stride = 0;       // floats from the scales of one head to those of the next
};

/// One query sequence against its segments, in one layer: the question of one request, or one passage being encoded.
///
/// Row r of `queries` is token r at position `positions[r]`, its heads side by side: (tokens, heads * head_dim),
/// rotated to its position and **not** scaled. Query head h reads key/value head h / (heads / kv_heads).
/// A key at global position p is visible to a row at P iff p <= P and P - p < window.
struct attention_job {
  const float* queries = nullptr;
  std::size_t query_stride = 0;  // floats from one row to the next
  const std::int64_t* positions = nullptr;
  std::size_t tokens = 0;
  std::span<const kv_segment> segments;
  float* out = nullptr;          // (tokens, heads * head_dim)
  std::size_t out_stride = 0;
};

/// What all jobs of one call share.
struct attention_shape {
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;    // even, 2 to 256
  dtype type = dtype::bf16;      // of keys and values: f32, bf16 or i8
  float scale = 1.0f;            // of scores, usually 1 / sqrt(head_dim)
  std::int64_t window = std::numeric_limits<std::int64_t>::max();
  std::uint32_t rotary_dim = 0;  // of the turn tables
  rope_layout layout = rope_layout::half_split;
  compute_type compute = compute_type::automatic;  // how int8 is multiplied: see kernel/attention_int8.hpp
};

/// A set of kernels. All are noexcept and allocate nothing; scratch sizes are asked for beforehand and depend on
/// nothing but the arguments. Output bits do not depend on the executor. `native_kernels` documents each call.
template <class K>
concept kernel_set =
    requires(executor_ref workers, const packed_matrix& w, compute_type compute, std::size_t n, dtype type,
             const std::byte* in, std::byte* out, const float* x, float* y, std::span<std::byte> scratch,
             std::span<const attention_job> jobs, const attention_shape& shape, const kv_shape& kv, rope_layout layout) {
      { K::isa() } -> std::convertible_to<const char*>;
      // Weights: the type of panels for rows of a type (the type itself, or f32), panels from rows, one row back,
      // y(n, w.rows) = x(n, w.cols) W^T.
      { K::panel_type(type) } noexcept -> std::same_as<dtype>;
      { K::pack(workers, w, out, n, type, in, n) } noexcept;
      { K::gather(w, n, y) } noexcept;
      { K::project_scratch(n, w, compute, n) } noexcept -> std::same_as<std::size_t>;
      { K::project(workers, w, compute, x, n, n, y, n, scratch) } noexcept;
      // Attention over stored keys and values; into the store; the key side of re-encoding.
      { K::attend_scratch(n, jobs, shape) } noexcept -> std::same_as<std::size_t>;
      { K::attend(workers, jobs, shape, scratch) } noexcept;
      { K::store_kv(kv, x, x, n, out, n, n, n) } noexcept;
      { K::zero_kv_padding(kv, out, n, n) } noexcept;
      { K::turn_keys(kv, in, n, x, n, layout, out) } noexcept;
      // One row.
      { K::turn_row(y, n, n, x, n, layout) } noexcept;
      { K::rms_norm(x, n, x, 0.0f, y) } noexcept;
      { K::add(y, x, n) } noexcept;
      { K::swiglu(x, x, n, y) } noexcept;
      { K::geglu(x, x, n, y) } noexcept;
    };

}  // namespace blockattn::inline v0
