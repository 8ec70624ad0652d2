// SPDX-License-Identifier: MIT
/// Rows rounded to 8-bit codes, as products with quantised weights read them.
///
/// A run of 32 elements shares one scale: the largest magnitude / 127; a code is element / scale, to nearest, ties to even.
/// So an element moves by at most half a scale, whatever the other runs and rows hold. Magnitudes below 2^-100 count as
/// zero. A run that holds a NaN or an infinity gets a scale that is not finite, and so do the outputs of its row.
#pragma once

#include <algorithm>
#include <bit>

#include "../simd/code_dot.hpp"
#include "code_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Thirty-two rounded elements: scale * code each, codes in [-127, 127] if the elements are finite.
struct code_run {
  std::int8_t code[code_panels::run];
  float scale;
  std::int32_t sum[2];  // of the codes of each half
};

inline code_run round_to_codes(const float* x) noexcept {
  constexpr std::int32_t magnitude = 0x7fffffff, least = 0x0d800000;  // 2^-100
  constexpr std::int32_t shifter = 0x4b400000;  // 1.5 * 2^23: a sum with it has an integer in its low bits
  static_assert(code_panels::run == 32);
  code_run out;
  const f32x16 half[2] = {load(x), load(x + 16)};
  // Magnitudes are compared as integers: NaN is the largest, whatever a host's flags make of comparisons.
#if defined(__AVX512F__)
  const __m512i mask = _mm512_set1_epi32(magnitude);
  const __m512i a = _mm512_and_si512(_mm512_castps_si512(half[0].r[0]), mask);
  const __m512i b = _mm512_and_si512(_mm512_castps_si512(half[1].r[0]), mask);
  const std::int32_t largest = _mm512_reduce_max_epi32(_mm512_max_epi32(a, b));
#else
  alignas(alignment) std::int32_t bits[16];
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    const native_i32 mask(magnitude);
    const native_i32 a = isa_detail::as_i32(half[0].r[i]) & mask, b = isa_detail::as_i32(half[1].r[i]) & mask;
    xsimd::max(a, b).store_aligned(bits + i * native_i32::size);
  });
  std::int32_t largest = 0;
  for (const std::int32_t b : bits) largest = std::max(largest, b);
#endif
  const bool zero = largest < least;
  const float top = zero ? 1.0f : std::bit_cast<float>(largest);
  const float inverse = zero ? 0.0f : 127.0f / top;
  out.scale = zero ? 0.0f : top / 127.0f;
  const native_f32 factor(inverse), shift(std::bit_cast<float>(shifter));
  for (std::size_t h = 0; h < 2; ++h) {
#if defined(__AVX512F__)
    // The low byte of the sum is the code.
    const __m512i codes = _mm512_castps_si512(isa_detail::fused(half[h].r[0], factor, shift));
    const __m128i bytes = _mm512_maskz_cvtepi32_epi8(static_cast<__mmask16>(-1), codes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.code + 16 * h), bytes);
    out.sum[h] = _mm512_reduce_add_epi32(_mm512_sub_epi32(codes, _mm512_set1_epi32(shifter)));
#else
    unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const native_i32 codes = isa_detail::as_i32(isa_detail::fused(half[h].r[i], factor, shift));
      codes.store_aligned(bits + i * native_i32::size);
    });
    out.sum[h] = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      out.code[16 * h + i] = static_cast<std::int8_t>(bits[i] & 0xff);
      out.sum[h] += out.code[16 * h + i];
    }
#endif
  }
  return out;
}

/// Rows of one register tile, by groups of the weights' type:
///
///     [groups][ start[height] | scale[height] | sum[height] | [steps][height][code_step::row_bytes] ]
///
/// start: what the integer accumulator of the row starts from; scale: of the row's codes; sum: of the codes, times scale.
struct code_row_layout {
  std::size_t steps;  // of a group

  explicit code_row_layout(dtype type) noexcept : steps(group_elements(type) / 4) {}
  /// Bytes of one row of `columns` columns.
  [[nodiscard]] std::size_t row_bytes(std::size_t columns) const noexcept {
    return columns / (4 * steps) * (12 + steps * code_step::row_bytes);
  }
};

/// Rounds `height` rows of `columns` elements, `stride` floats apart, for products with weights of type `type`.
/// `columns`: a multiple of 32. `out`: height * row_bytes(columns) bytes, 4-byte aligned.
inline void pack_code_rows(dtype type, const float* x, std::size_t stride, std::size_t height, std::size_t columns,
                           std::byte* out) noexcept {
  const code_row_layout layout(type);
  const std::size_t group_bytes = height * layout.row_bytes(4 * layout.steps);
  const std::int32_t zero = code_zero(type) - code_bias;
  const bool halves = group_elements(type) == 16;
  for (std::size_t r = 0; r < height; ++r) {
    std::byte* group = out;
    for (std::size_t k = 0; k < columns; k += code_panels::run) {
      const code_run run = round_to_codes(x + r * stride + k);
      for (std::size_t part = 0; part < (halves ? 2u : 1u); ++part, group += group_bytes) {
        const std::int32_t sum = halves ? run.sum[part] : run.sum[0] + run.sum[1];
        const std::int32_t start = -zero * sum;
        const float scaled = run.scale * static_cast<float>(sum);
        std::memcpy(group + 4 * r, &start, 4);
        std::memcpy(group + 4 * (height + r), &run.scale, 4);
        std::memcpy(group + 4 * (2 * height + r), &scaled, 4);
        std::byte* to = group + 12 * height + r * code_step::row_bytes;
        for (std::size_t s = 0; s < layout.steps; ++s, to += height * code_step::row_bytes)
          code_step::store_row(to, run.code + part * 16 + 4 * s);
      }
    }
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
