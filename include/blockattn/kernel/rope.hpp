// SPDX-License-Identifier: MIT
/// Rotary position embedding (paper, equations 1 to 3): turn rows to their positions, turn a stored block by one
/// offset, and back.
///
/// A *turn table* of a position p is `cos[pairs], sin[pairs]` (rope_frequencies::cos_sin), and the same for the layers
/// with a window where their frequencies differ. The inverse of a turn is the turn by -p. The magnitude of YaRN belongs
/// to the first rotation of a query or key only (`scaled_table`), never to a move: R(d) R(t) k = R(t + d) k holds for the
/// plain rotation.
#pragma once

#include <span>

#include "../core/executor.hpp"
#include "../simd/batch.hpp"
#include "../tensor/kv_panels.hpp"
#include "../tensor/view.hpp"
#include "rope_config.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Turns one head in place: `head` is (head_dim); dims from 2 * pairs on do not turn.
/// Each output is two products and one rounding of their sum, fused where the instruction set fuses.
inline void turn_head(float* head, const float* table, std::size_t pairs, rope_layout layout) noexcept {
  const float* cosines = table;
  const float* sines = table + pairs;
  std::size_t m = 0;
  if (layout == rope_layout::half_split) {
    float* low = head;
    float* high = head + pairs;
    for (; m + 16 <= pairs; m += 16) {
      const f32x16 x = load(low + m), y = load(high + m), c = load(cosines + m), s = load(sines + m);
      store(low + m, fma(x, c, zero16() - y * s));
      store(high + m, fma(x, s, y * c));
    }
    for (; m < pairs; ++m) {
      const float x = low[m], y = high[m];
      low[m] = x * cosines[m] - y * sines[m];
      high[m] = x * sines[m] + y * cosines[m];
    }
    return;
  }
  for (; m < pairs; ++m) {
    const float x = head[2 * m], y = head[2 * m + 1];
    head[2 * m] = x * cosines[m] - y * sines[m];
    head[2 * m + 1] = x * sines[m] + y * cosines[m];
  }
}

/// Turns all heads of a row, (heads * head_dim), by one table.
inline void turn_row(float* row, std::size_t heads, std::size_t head_dim, const float* table, std::size_t pairs,
                     rope_layout layout) noexcept {
  for (std::size_t h = 0; h < heads; ++h) turn_head(row + h * head_dim, table, pairs, layout);
}

/// Rotates every row to its own position, with magnitude: row r of `rows` (tokens, heads * head_dim) by R(positions[r]).
/// Negative positions give the inverse rotation (of the plain part). `scratch` holds one table, 2 * pairs floats.
inline void rotate(matrix_view<float> rows, std::size_t heads, std::span<const std::int64_t> positions,
                   const rope_frequencies& rope, std::span<float> scratch) noexcept {
  BLOCKATTN_EXPECTS(positions.size() == rows.rows() && heads != 0 && rows.cols() % heads == 0);
  BLOCKATTN_EXPECTS(scratch.size() >= table_floats(rope) && 2 * rope.pairs() <= rows.cols() / heads);
  for (std::size_t r = 0; r < rows.rows(); ++r) {
    scaled_table(rope, positions[r], scratch.data());
    turn_row(rows.row(r), heads, rows.cols() / heads, scratch.data(), rope.pairs(), rope.layout);
  }
}

/// Moves a block: every row by the same offset, without magnitude (paper, equation 3 after 2).
inline void move(matrix_view<float> rows, std::size_t heads, std::int64_t offset, const rope_frequencies& rope,
                 std::span<float> scratch) noexcept {
  BLOCKATTN_EXPECTS(heads != 0 && rows.cols() % heads == 0 && scratch.size() >= table_floats(rope));
  rope.cos_sin(offset, scratch.data());
  for (std::size_t r = 0; r < rows.rows(); ++r)
    turn_row(rows.row(r), heads, rows.cols() / heads, scratch.data(), rope.pairs(), rope.layout);
}

namespace isa_detail {
BLOCKATTN_INLINE f32x16 load_dim(const float* tile, std::size_t dim) noexcept { return load(tile + dim * panel_width); }
BLOCKATTN_INLINE f32x16 load_dim(const bf16* tile, std::size_t dim) noexcept {
  const bf16* pairs = tile + dim / 2 * 2 * panel_width;
  return dim % 2 == 0 ? load_even(pairs) : load_odd(pairs);
}
}  // namespace isa_detail

/// Turns a key panel of one head by one table, from `keys` into `out` (which may be `keys`): the key side of position
/// re-encoding. Sixteen keys at a time, in float, rounded once when T is bf16.
template <element T>
void turn_key_panel(const T* keys, std::size_t tokens, std::size_t head_dim, const float* table, std::size_t pairs,
                    rope_layout layout, T* out) noexcept {
  const std::size_t tile = round_up(head_dim, lane_elements<T>) * panel_width;
  alignas(alignment) float turned[256][16];
  BLOCKATTN_EXPECTS(head_dim <= 256 && 2 * pairs <= head_dim);
  for (std::size_t t = 0; t < kv_shape::tiles(tokens); ++t, keys += tile, out += tile) {
    for (std::size_t m = 0; m < pairs; ++m) {
      const std::size_t i = layout == rope_layout::half_split ? m : 2 * m;
      const std::size_t j = layout == rope_layout::half_split ? m + pairs : 2 * m + 1;
      const f32x16 x = isa_detail::load_dim(keys, i), y = isa_detail::load_dim(keys, j);
      const f32x16 c = broadcast(table[m]), s = broadcast(table[pairs + m]);
      store(turned[i], fma(x, c, zero16() - y * s));
      store(turned[j], fma(x, s, y * c));
    }
    for (std::size_t d = 2 * pairs; d < head_dim; ++d) store(turned[d], isa_detail::load_dim(keys, d));
    if constexpr (std::is_same_v<T, float>) {
      for (std::size_t d = 0; d < head_dim; ++d) store(out + d * panel_width, load(turned[d]));
    } else {
      for (std::size_t d = 0; d < head_dim; d += 2)
        for (std::size_t k = 0; k < panel_width; ++k) {
          out[(d / 2 * panel_width + k) * 2] = element_traits<T>::narrow(turned[d][k]);
          out[(d / 2 * panel_width + k) * 2 + 1] = element_traits<T>::narrow(turned[d + 1][k]);
        }
    }
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
