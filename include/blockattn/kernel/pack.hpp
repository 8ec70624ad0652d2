// SPDX-License-Identifier: MIT
/// Into and out of panels: weights at load time, rows of tied embeddings, keys and values as they are computed.
///
/// Layouts: `packed_matrix` (kernel/kernel_set.hpp) and tensor/kv_panels.hpp. An element is rounded at most once, to
/// nearest, ties to even; padding is zero. Everything here is linear in the elements it touches.
#pragma once

#include <algorithm>
#include <cstring>

#include "../simd/batch.hpp"
#include "kernel_set.hpp"
#include "pack_codes.hpp"
#include "pack_int8.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// Columns that are decoded at a time: 16 rows of them stay in the L1 cache. A multiple of every block of `dtype`.
inline constexpr std::size_t pack_columns = 256;

inline void narrow_run(const float* in, std::size_t n, float* out) noexcept {
  if (n != 0) std::memcpy(out, in, n * sizeof(float));
}
inline void narrow_run(const float* in, std::size_t n, bf16* out) noexcept {
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) store(out + i, load(in + i));
  for (; i < n; ++i) out[i] = to_bf16(in[i]);
}

inline void narrow_run(const float* in, std::size_t n, f16* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) out[i] = to_f16(in[i]);
}

// Columns that lie side by side in a panel of weights.
template <class T>
inline constexpr std::size_t weight_lane = std::is_same_v<T, bf16> ? 2 : 1;

// Columns [first, first + n) of a row, as elements of the panel.
template <class T>
void decode_columns(dtype type, const std::byte* row, std::size_t first, std::size_t n, T* out) noexcept {
  const std::byte* at = row + first / block_elements(type) * block_bytes(type);
  if (type == element_traits<T>::type) {
    std::memcpy(out, at, n * sizeof(T));  // the bits are kept, NaN payloads included
  } else if constexpr (std::is_same_v<T, float>) {
    decode_row(type, at, n, out);
  } else {
    float decoded[pack_columns];
    decode_row(type, at, n, decoded);
    narrow_run(decoded, n, out);
  }
}

// Rows [begin, end) of the source, all in one panel of the destination whose row `slot` is the first of them.
template <class T>
void pack_panel(dtype type, const std::byte* source, std::size_t row_bytes, std::size_t cols, std::size_t begin,
                std::size_t end, T* panel, std::size_t slot) noexcept {
  constexpr std::size_t lane = weight_lane<T>;
  const std::size_t rows = end - begin;
  T block[panel_width][pack_columns];
  for (std::size_t first = 0; first < cols; first += pack_columns) {
    const std::size_t n = std::min(pack_columns, cols - first);
    for (std::size_t r = 0; r < rows; ++r) {
      decode_columns(type, source + (begin + r) * row_bytes, first, n, block[r]);
      if (n % lane != 0) block[r][n] = T{};  // n < pack_columns here, which is even
    }
    T* out = panel + first / lane * panel_width * lane + slot * lane;
    for (std::size_t k = 0; k < n; k += lane, out += panel_width * lane)
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t j = 0; j < lane; ++j) out[r * lane + j] = block[r][k + j];
  }
}

template <class T>
void pack_all(executor_ref workers, const packed_matrix& to, T* out, std::size_t first_row, dtype type,
              const std::byte* source, std::size_t rows) noexcept {
  const std::size_t row_bytes = to.cols / block_elements(type) * block_bytes(type);
  const std::size_t panel_elements = to.panel_bytes() / sizeof(T);
  const std::size_t first_panel = first_row / panel_width;
  const std::size_t panels = ceil_div(first_row + rows, panel_width) - first_panel;
  workers.for_each(panels, [&](std::size_t, std::size_t i) {
    T* panel = out + (first_panel + i) * panel_elements;
    const std::size_t top = (first_panel + i) * panel_width;  // the matrix row of the panel's row 0
    const std::size_t begin = std::max(top, first_row), end = std::min(top + panel_width, first_row + rows);
    pack_panel(type, source, row_bytes, to.cols, begin - first_row, end - first_row, panel, begin - top);
    // An odd number of columns of halves leaves half a cache line.
    std::fill(panel + ceil_div(to.cols, to.lane()) * to.lane() * panel_width, panel + panel_elements, T{});
    if (end != to.rows) return;
    // The matrix ends here: what is left of its last panel is padding.
    constexpr std::size_t lane = weight_lane<T>;
    for (std::size_t k = 0; k < panel_elements; k += panel_width * lane)
      std::fill(panel + k + (end - top) * lane, panel + k + panel_width * lane, T{});
  });
}
}  // namespace isa_detail

/// Repacks `rows` rows of (rows, to.cols) row-major elements of any type into rows [first_row, first_row + rows) of
/// the matrix `to`, whose bytes are `out` (`to.bytes()` of them, 64-byte aligned; `to.data` is not used). Matrices
/// that share their input, as q, k and v do, are stacked by several calls. Rows may come in any order of calls; the
/// call that writes the last row zeroes the padding behind it.
///
/// Equal types keep their bits; others are decoded to float and, for bf16 and f16 panels, rounded. Panels of a quantised
/// type take rows of that type only. `to.cols` must be a multiple of `block_elements(type)`. One task per panel of 16
/// rows, which reads its rows front to back; in order of rows on one worker. Uses no scratch but 16 KiB of stack.
inline void pack_weights(executor_ref workers, const packed_matrix& to, std::byte* out, std::size_t first_row,
                         dtype type, const std::byte* source, std::size_t rows) noexcept {
  BLOCKATTN_EXPECTS(first_row + rows <= to.rows && to.cols % block_elements(type) == 0);
  if (rows == 0) return;
  if (is_quantized(to.type)) {
    BLOCKATTN_EXPECTS(type == to.type);
    pack_code_weights(workers, to, out, first_row, source, rows);
  } else if (to.type == dtype::f32) {
    isa_detail::pack_all(workers, to, reinterpret_cast<float*>(out), first_row, type, source, rows);
  } else if (to.type == dtype::f16) {
    isa_detail::pack_all(workers, to, reinterpret_cast<f16*>(out), first_row, type, source, rows);
  } else {
    BLOCKATTN_EXPECTS(to.type == dtype::bf16);
    isa_detail::pack_all(workers, to, reinterpret_cast<bf16*>(out), first_row, type, source, rows);
  }
}

/// Row `row` of a packed matrix as floats: `w.cols` of them. For embeddings that are tied to the output head.
inline void gather_row(const packed_matrix& w, std::size_t row, float* out) noexcept {
  BLOCKATTN_EXPECTS(row < w.rows);
  const std::byte* panel = w.data + row / panel_width * w.panel_bytes();
  const std::size_t slot = row % panel_width;
  if (is_quantized(w.type)) {
    gather_code_row(w, row, out);
  } else if (w.type == dtype::f16) {
    const std::byte* in = panel + 2 * slot;
    for (std::size_t k = 0; k < w.cols; ++k) out[k] = widen(detail::load_f16(in + k * panel_width * 2));
  } else if (w.type == dtype::f32) {
    const float* in = reinterpret_cast<const float*>(panel) + slot;
    for (std::size_t k = 0; k < w.cols; ++k) out[k] = in[k * panel_width];
  } else {
    const bf16* in = reinterpret_cast<const bf16*>(panel) + 2 * slot;
    for (std::size_t k = 0; k < w.cols; ++k) out[k] = widen(in[k / 2 * panel_width * 2 + k % 2]);
  }
}

namespace isa_detail {
template <class T>
void store_kv_as(const kv_shape& shape, const float* k, const float* v, std::size_t stride, std::byte* layer,
                 std::size_t room, std::size_t first, std::size_t n) noexcept {
  constexpr std::size_t lane = lane_elements<T>;
  constexpr std::size_t most = 256;  // the largest head size
  const std::size_t d = shape.head_dim;
  const std::size_t width = round_up(d, panel_width);
  BLOCKATTN_EXPECTS(d <= most);
  T row[most];
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    T* const keys = reinterpret_cast<T*>(layer + shape.key_offset(head, room));
    T* const values = reinterpret_cast<T*>(layer + shape.value_offset(head, room));
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t slot = first + i;
      narrow_run(k + i * stride + head * d, d, row);
      T* out = keys + shape.key_index(slot, 0);
      if (d % lane != 0) row[d] = T{};
      for (std::size_t c = 0; c < d; c += lane, out += panel_width * lane)
        for (std::size_t j = 0; j < lane; ++j) out[j] = row[c + j];
      narrow_run(v + i * stride + head * d, d, row);
      out = values + shape.value_index(slot, 0);
      for (std::size_t c = 0; c < d; ++c) out[c * lane] = row[c];
      for (std::size_t c = d; c < width; ++c) out[c * lane] = T{};
    }
  }
}

template <class T>
void zero_kv_padding_as(const kv_shape& shape, std::byte* layer, std::size_t room, std::size_t tokens) noexcept {
  constexpr std::size_t lane = lane_elements<T>;
  const std::size_t end = round_up(tokens, panel_width);
  const std::size_t width = round_up(shape.head_dim, panel_width);
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    T* const keys = reinterpret_cast<T*>(layer + shape.key_offset(head, room));
    T* const values = reinterpret_cast<T*>(layer + shape.value_offset(head, room));
    for (std::size_t slot = tokens; slot < end; ++slot) {
      T* out = keys + shape.key_index(slot, 0);
      for (std::size_t c = 0; c < shape.head_dim; c += lane, out += panel_width * lane) std::fill_n(out, lane, T{});
      out = values + shape.value_index(slot, 0);
      for (std::size_t c = 0; c < width; ++c) out[c * lane] = T{};
    }
  }
}
}  // namespace isa_detail

/// Writes the keys and values of `n` tokens into slots [first, first + n) of one layer. `k` and `v` are rows of
/// (n, kv_heads * head_dim) floats, `stride` floats apart; `layer` is the start of a layer whose room is `room` tokens
/// (`shape.layer_bytes(room)` bytes). Each element is rounded once. Padding dims of these slots become zero; padding
/// slots do not: see `zero_kv_padding`. Calls for disjoint slots may run at the same time only if the slots are in
/// different lanes (a lane of values keeps two tokens as bf16, four as int8), so split at multiples of four.
inline void store_kv(const kv_shape& shape, const float* k, const float* v, std::size_t stride, std::byte* layer,
                     std::size_t room, std::size_t first, std::size_t n) noexcept {
  BLOCKATTN_EXPECTS(first + n <= kv_shape::tiles(room) * panel_width);
  if (shape.type == dtype::f32) {
    isa_detail::store_kv_as<float>(shape, k, v, stride, layer, room, first, n);
  } else if (shape.type == dtype::i8) {
    store_kv_int8(shape, k, v, stride, layer, room, first, n);
  } else {
    BLOCKATTN_EXPECTS(shape.type == dtype::bf16);
    isa_detail::store_kv_as<bf16>(shape, k, v, stride, layer, room, first, n);
  }
}

/// Zeroes the slots of the last tile that hold no token, when the layer holds `tokens` of them: kernels read whole
/// tiles, and the bytes of a block are hashed and stored.
inline void zero_kv_padding(const kv_shape& shape, std::byte* layer, std::size_t room, std::size_t tokens) noexcept {
  BLOCKATTN_EXPECTS(tokens <= kv_shape::tiles(room) * panel_width);
  if (shape.type == dtype::f32) {
    isa_detail::zero_kv_padding_as<float>(shape, layer, room, tokens);
  } else if (shape.type == dtype::i8) {
    zero_kv_padding_int8(shape, layer, room, tokens);
  } else {
    isa_detail::zero_kv_padding_as<bf16>(shape, layer, room, tokens);
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
