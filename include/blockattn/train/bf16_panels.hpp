// SPDX-License-Identifier: MIT
/// Factors of a product rounded to bf16, as kernel/tile.hpp and kernel/tile_amx.hpp read them.
///
/// B becomes groups of sixteen columns, [depth / 2][16 columns][2]; A becomes rows in runs of 32. Both are zero from the
/// last element on up to a multiple of 32 in depth and of 16 in rows or columns, so that a run is always a whole tile.
/// A factor that lies across is turned sixteen by sixteen pairs at a time, in registers where there are 32 of them.
#pragma once

#include <algorithm>

#include "../kernel/tile_amx.hpp"
#include "../simd/dot.hpp"
#include "product_type.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Elements of depth in a run, and the rows or columns in a group.
inline constexpr std::size_t bf16_run = 32, bf16_group = 16;

/// What the rows of A are rounded to: bf16, or floats of such values where pairs have no instruction.
using bf16_row = row_operand_t<bf16>;

/// bf16 elements of packed columns: `depth` and `cols` rounded up.
[[nodiscard]] constexpr std::size_t bf16_elements(std::size_t depth, std::size_t cols) noexcept {
  return round_up(depth, bf16_run) * round_up(cols, bf16_group);
}

namespace isa_detail {

// Sixteen 32-bit lanes.
struct lanes16 {
  native_i32 r[f32x16::registers];
};

BLOCKATTN_INLINE void store(bf16* p, const lanes16& x) noexcept {
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    x.r[i].store_unaligned(reinterpret_cast<std::int32_t*>(p) + i * native_i32::size);
  });
}

BLOCKATTN_INLINE lanes16 load_lanes(const bf16* p) noexcept {
  lanes16 out;
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    out.r[i] = native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(p) + i * native_i32::size);
  });
  return out;
}

// Lane i: the pair (x[i], y[i]), rounded.
BLOCKATTN_INLINE lanes16 pair_up(const f32x16& x, const f32x16& y) noexcept {
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
  alignas(64) static constexpr std::uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512bh both = _mm512_cvtne2ps_pbh(y.r[0], x.r[0]);
  return {{native_i32(_mm512_maskz_permutexvar_epi16(static_cast<__mmask32>(-1), _mm512_load_si512(order),
                                                     reinterpret_cast<const __m512i&>(both)))}};
#else
  const f32x16 low = round_to_bf16(x), high = round_to_bf16(y);
  lanes16 out;
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    out.r[i] = shift_right<16>(as_i32(low.r[i])) | as_i32(high.r[i]);
  });
  return out;
#endif
}

// The first n of sixteen floats, zeros beside them.
BLOCKATTN_INLINE f32x16 load_some(const float* p, std::size_t n) noexcept {
#if defined(__AVX512F__)
  return {{native_f32(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p))}};
#else
  if (n == 16) return load(p);
  alignas(alignment) float all[16] = {};
  std::memcpy(all, p, n * sizeof(float));
  return load(all);
#endif
}

// Turns sixteen lines of sixteen lanes; line i of the result goes to out + i * stride elements (two to a lane).
#if defined(__AVX512F__)
BLOCKATTN_INLINE void turn_lines(const lanes16 (&in)[16], bf16* out, std::size_t stride) noexcept {
  constexpr auto all = static_cast<__mmask16>(-1);
  constexpr auto half = static_cast<__mmask8>(-1);
  __m512i a[16], b[16];
  unroll<8>([&](auto i) BLOCKATTN_LAMBDA_INLINE {  // a[2i], a[2i+1]: lanes of lines 2i and 2i+1
    a[2 * i] = _mm512_maskz_unpacklo_epi32(all, in[2 * i].r[0], in[2 * i + 1].r[0]);
    a[2 * i + 1] = _mm512_maskz_unpackhi_epi32(all, in[2 * i].r[0], in[2 * i + 1].r[0]);
  });
  unroll<4>([&](auto i) BLOCKATTN_LAMBDA_INLINE {  // b[4i + j]: lane j of each quarter, of lines 4i to 4i+3
    b[4 * i] = _mm512_maskz_unpacklo_epi64(half, a[4 * i], a[4 * i + 2]);
    b[4 * i + 1] = _mm512_maskz_unpackhi_epi64(half, a[4 * i], a[4 * i + 2]);
    b[4 * i + 2] = _mm512_maskz_unpacklo_epi64(half, a[4 * i + 1], a[4 * i + 3]);
    b[4 * i + 3] = _mm512_maskz_unpackhi_epi64(half, a[4 * i + 1], a[4 * i + 3]);
  });
  unroll<4>([&](auto j) BLOCKATTN_LAMBDA_INLINE {  // quarters 0, 2 and 1, 3 of the upper and the lower eight lines
    a[j] = _mm512_maskz_shuffle_i32x4(all, b[j], b[4 + j], 0x88);
    a[4 + j] = _mm512_maskz_shuffle_i32x4(all, b[j], b[4 + j], 0xdd);
    a[8 + j] = _mm512_maskz_shuffle_i32x4(all, b[8 + j], b[12 + j], 0x88);
    a[12 + j] = _mm512_maskz_shuffle_i32x4(all, b[8 + j], b[12 + j], 0xdd);
  });
  unroll<4>([&](auto j) BLOCKATTN_LAMBDA_INLINE {
    const auto put = [&](std::size_t line, __m512i x) BLOCKATTN_LAMBDA_INLINE { _mm512_storeu_si512(out + line * stride, x); };
    put(j, _mm512_maskz_shuffle_i32x4(all, a[j], a[8 + j], 0x88));
    put(8 + j, _mm512_maskz_shuffle_i32x4(all, a[j], a[8 + j], 0xdd));
    put(4 + j, _mm512_maskz_shuffle_i32x4(all, a[4 + j], a[12 + j], 0x88));
    put(12 + j, _mm512_maskz_shuffle_i32x4(all, a[4 + j], a[12 + j], 0xdd));
  });
}
#else
inline void turn_lines(const lanes16 (&in)[16], bf16* out, std::size_t stride) noexcept {
  alignas(alignment) std::int32_t all[16][16];
  for (std::size_t i = 0; i < 16; ++i) store(reinterpret_cast<bf16*>(all[i]), in[i]);
  for (std::size_t j = 0; j < 16; ++j)
    for (std::size_t i = 0; i < 16; ++i) std::memcpy(static_cast<void*>(out + j * stride + 2 * i), &all[i][j], 4);
}
#endif

// Pairs of 32 steps of n lines that lie across, a[k * stride + i]: pairs[s] has steps 2s and 2s+1 of all lines.
BLOCKATTN_INLINE void pairs_across(const float* a, std::size_t stride, std::size_t steps, std::size_t n,
                                   lanes16 (&pairs)[16]) noexcept {
  for (std::size_t s = 0; s < 16; ++s) {
    const std::size_t k = 2 * s;
    const f32x16 x = k < steps ? load_some(a + k * stride, n) : zero16();
    const f32x16 y = k + 1 < steps ? load_some(a + (k + 1) * stride, n) : zero16();
    pairs[s] = pair_up(x, y);
  }
}

// Asks for n elements of the line some lines ahead: a part of each line is read, in strides that no processor foresees.
BLOCKATTN_INLINE void ask_ahead(const float* line, std::size_t stride, std::size_t n) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(line) + 32 * stride * sizeof(float);  // a number: it may lie past the end
  for (std::size_t i = 0; i < n * sizeof(float); i += 64) prefetch_near(reinterpret_cast<const void*>(at + i));
}

// 32 elements of a line, or as many as there are.
BLOCKATTN_INLINE void round_run(const float* from, std::size_t n, bf16* to) noexcept {
  if (n == bf16_run) {
    v0::store(to, load(from));
    v0::store(to + 16, load(from + 16));
  } else {
    v0::store(to, load_some(from, std::min<std::size_t>(n, 16)));
    v0::store(to + 16, n > 16 ? load_some(from + 16, n - 16) : zero16());
  }
}
BLOCKATTN_INLINE void round_run(const float* from, std::size_t n, float* to) noexcept {
  v0::store(to, round_to_bf16(load_some(from, std::min<std::size_t>(n, 16))));
  v0::store(to + 16, n > 16 ? round_to_bf16(load_some(from + 16, n - 16)) : zero16());
}

}  // namespace isa_detail

/// Packs group `g` of B (depth, cols): `round_up(depth, 32) * 16` elements.
inline void pack_bf16_group(const factor<float>& b, std::size_t depth, std::size_t cols, std::size_t g, bf16* out) noexcept {
  const std::size_t first = g * bf16_group, n = std::min(bf16_group, cols - first);
  isa_detail::lanes16 lines[16];
  for (std::size_t k = 0; k < depth; k += bf16_run, out += bf16_run * bf16_group) {
    const std::size_t steps = std::min(bf16_run, depth - k);
    if (!b.transposed) {
      for (std::size_t s = 0; s < steps; ++s) isa_detail::ask_ahead(b.data + (k + s) * b.stride + first, b.stride, n);
      isa_detail::pairs_across(b.data + k * b.stride + first, b.stride, steps, n, lines);
      for (std::size_t s = 0; s < 16; ++s) isa_detail::store(out + s * 2 * bf16_group, lines[s]);
      continue;
    }
    alignas(alignment) bf16 run[bf16_run];
    const float* from = b.data + first * b.stride + k;
    for (std::size_t j = 0; j < n; ++j) isa_detail::ask_ahead(from + j * b.stride, b.stride, steps);
    for (std::size_t j = 0; j < 16; ++j, from += b.stride) {
      if (j < n) isa_detail::round_run(from, steps, run);
      else std::fill_n(run, bf16_run, bf16{});
      lines[j] = isa_detail::load_lanes(run);
    }
    isa_detail::turn_lines(lines, out, 2 * bf16_group);
  }
}

/// Packs `rows` rows of A, `depth` elements of each: run b of row r goes to `out + r * row_stride + b * run_stride`. Rows up to
/// a multiple of sixteen are written.
template <class Row>
inline void pack_bf16_rows(const factor<float>& a, std::size_t rows, std::size_t depth, Row* out, std::size_t row_stride,
                           std::size_t run_stride) noexcept {
  for (std::size_t first = 0; first < rows; first += bf16_group) {
    const std::size_t n = std::min(bf16_group, rows - first);
    for (std::size_t k = 0; k < depth; k += bf16_run) {
      const std::size_t steps = std::min(bf16_run, depth - k);
      Row* const to = out + first * row_stride + k / bf16_run * run_stride;
      if (!a.transposed) {
        const float* from = a.data + first * a.stride + k;
        for (std::size_t r = 0; r < n; ++r, from += a.stride) {
          isa_detail::ask_ahead(from, a.stride, steps);
          isa_detail::round_run(from, steps, to + r * row_stride);
        }
        for (std::size_t r = n; r < bf16_group; ++r) std::fill_n(to + r * row_stride, bf16_run, Row{});
        continue;
      }
      const float* const from = a.data + k * a.stride + first;
      if constexpr (std::is_same_v<Row, bf16>) {
        isa_detail::lanes16 lines[16];
        isa_detail::pairs_across(from, a.stride, steps, n, lines);
        isa_detail::turn_lines(lines, to, row_stride);
      } else {
        for (std::size_t s = 0; s < bf16_run; ++s) {
          alignas(alignment) float line[16];
          v0::store(line, s < steps ? round_to_bf16(isa_detail::load_some(from + s * a.stride, n)) : zero16());
          for (std::size_t r = 0; r < bf16_group; ++r) to[r * row_stride + s] = line[r];
        }
      }
    }
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
