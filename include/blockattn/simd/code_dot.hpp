// SPDX-License-Identifier: MIT
/// One step of a product over small integers: sixteen lanes of four unsigned codes, times four signed codes of a row,
/// summed in 32 bits. Exact: no instruction used here saturates.
///
///     acc[r][c][lane] += sum over j < 4 of  row r's code j * (lane's code j of panel c - code_bias)
///
/// | instruction set | step | `code_bias` |
/// |---|---|---|
/// | AVX-512 VNNI, AVX-VNNI | vpdpbusd | 0 |
/// | other x86 | even and odd codes as 16-bit pairs, vpmaddwd (vpmaddubsw would saturate) | 0 |
/// | NEON i8mm | usdot | 0 |
/// | NEON dotprod | sdot | 128: it multiplies signed codes |
/// | NEON | smull, pairs added in 16 bits, sadalp | 128 |
///
/// Whoever starts a chain of steps takes the bias, and the zero of the codes, out of it: with z = zero - bias the sum of
/// row codes times -z is where the accumulator starts.
#pragma once

#include "batch.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Sixteen 32-bit integers in registers.
struct i32x16 {
  native_i32 r[f32x16::registers];
};

BLOCKATTN_INLINE i32x16 broadcast(std::int32_t x) noexcept {
  const native_i32 v(x);
  i32x16 out;
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE { out.r[i] = v; });
  return out;
}

/// As floats; exact up to 2^24 in magnitude.
BLOCKATTN_INLINE f32x16 to_float(i32x16 x) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
#if defined(__AVX512F__)
    return native_f32(_mm512_maskz_cvtepi32_ps(static_cast<__mmask16>(-1), x.r[i]));
#else
    return xsimd::to_float(x.r[i]);
#endif
  });
}

#if defined(__AVX512VNNI__) || (defined(__AVXVNNI__) && !defined(__AVX512F__)) || \
    defined(__ARM_FEATURE_MATMUL_INT8) || defined(__ARM_FEATURE_DOTPROD)
/// Whether one instruction multiplies and adds four codes.
inline constexpr bool has_code_dot = true;
#else
inline constexpr bool has_code_dot = false;
#endif

#if defined(__aarch64__) && !defined(__ARM_FEATURE_MATMUL_INT8)
inline constexpr int code_bias = 128;
#else
inline constexpr int code_bias = 0;
#endif

namespace isa_detail {
// Whether the four codes of a row lie in memory as 16-bit pairs (0, 2) and (1, 3) instead of bytes.
#if defined(__SSE2__) && !defined(__AVX512VNNI__) && (!defined(__AVXVNNI__) || defined(__AVX512F__))
inline constexpr bool split_row_codes = true;
#else
inline constexpr bool split_row_codes = false;
#endif

#if defined(__SSE2__)
// Products of signed 16-bit pairs, each pair added.
BLOCKATTN_INLINE native_i32 multiply_pairs(native_i32 x, native_i32 y) noexcept {
#if defined(__AVX512BW__)
  return _mm512_madd_epi16(x, y);
#elif defined(__AVX512F__)
  const __m256i low = _mm256_madd_epi16(_mm512_castsi512_si256(x), _mm512_castsi512_si256(y));
  const __m256i high = _mm256_madd_epi16(_mm512_extracti64x4_epi64(x, 1), _mm512_extracti64x4_epi64(y, 1));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
#elif defined(__AVX2__)
  return _mm256_madd_epi16(x, y);
#elif defined(__AVX__)
  const __m128i low = _mm_madd_epi16(_mm256_castsi256_si128(x), _mm256_castsi256_si128(y));
  const __m128i high = _mm_madd_epi16(_mm256_extractf128_si256(x, 1), _mm256_extractf128_si256(y, 1));
  return _mm256_insertf128_si256(_mm256_castsi128_si256(low), high, 1);
#else
  return _mm_madd_epi16(x, y);
#endif
}
#endif
BLOCKATTN_INLINE std::int32_t load_word(const std::byte* at) noexcept {
  std::int32_t word;
  std::memcpy(&word, at, 4);
  return word;
}
}  // namespace isa_detail

struct code_step {
  /// Bytes of one row in one step.
  static constexpr std::size_t row_bytes = isa_detail::split_row_codes ? 8 : 4;

  /// Four codes of a row, in [-127, 127], as `apply` reads them.
  static void store_row(std::byte* out, const std::int8_t* codes) noexcept {
    if constexpr (isa_detail::split_row_codes) {
      const std::int16_t pairs[4] = {codes[0], codes[2], codes[1], codes[3]};
      std::memcpy(out, pairs, 8);
    } else {
      std::memcpy(out, codes, 4);
    }
  }

  /// One step for `Rows` rows, `row_stride` bytes apart, and `Cols` panels of sixteen lanes, `panel_stride` bytes apart.
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(i32x16 (&acc)[Rows][Cols], const std::byte* row, std::size_t row_stride,
                                     const std::uint8_t* panel, std::size_t panel_stride) noexcept {
    constexpr std::size_t parts = f32x16::registers;
    apply(acc, row, row_stride, [&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const std::uint8_t* at = panel + i / parts * panel_stride + i % parts * sizeof(native_i32);
      return native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(at));
    });
  }

  /// The same for codes that `part` gives: part(i) is register i % registers of panel i / registers.
  template <std::size_t Rows, std::size_t Cols, class Part>
  static BLOCKATTN_INLINE void apply(i32x16 (&acc)[Rows][Cols], const std::byte* row, std::size_t row_stride,
                                     const Part& part) noexcept {
    [[maybe_unused]] constexpr std::size_t parts = f32x16::registers;
#if defined(__AVX512VNNI__)
    native_i32 codes[Cols];
    unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE { codes[c] = part(c); });
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      const __m512i x = _mm512_set1_epi32(isa_detail::load_word(row + r * row_stride));
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
        acc[r][c].r[0] = _mm512_dpbusd_epi32(acc[r][c].r[0], codes[c], x);
      });
    });
#elif defined(__AVXVNNI__) && !defined(__AVX512F__)
    unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const native_i32 codes = part(i);
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        const __m256i x = _mm256_set1_epi32(isa_detail::load_word(row + r * row_stride));
        native_i32& to = acc[r][i / parts].r[i % parts];
        to = _mm256_dpbusd_avx_epi32(to, codes, x);
      });
    });
#elif defined(__SSE2__)
    const native_i32 bytes(0x00ff00ff);
    unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const native_i32 codes = part(i);
      const native_i32 even = codes & bytes, odd = isa_detail::shift_right<8>(codes) & bytes;
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        native_i32& to = acc[r][i / parts].r[i % parts];
        const native_i32 first(isa_detail::load_word(row + r * row_stride));
        const native_i32 second(isa_detail::load_word(row + r * row_stride + 4));
        to = to + isa_detail::multiply_pairs(even, first);
        to = to + isa_detail::multiply_pairs(odd, second);
      });
    });
#elif defined(__aarch64__)
    int8x16_t x[Rows];
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      x[r] = vreinterpretq_s8_s32(vdupq_n_s32(isa_detail::load_word(row + r * row_stride)));
    });
    unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const uint8x16_t codes = vreinterpretq_u8_s32(part(i));
#if !defined(__ARM_FEATURE_MATMUL_INT8)
      const int8x16_t moved = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(0x80)));
#endif
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        int32x4_t to = acc[r][i / parts].r[i % parts];
#if defined(__ARM_FEATURE_MATMUL_INT8)
        to = vusdotq_s32(to, codes, x[r]);
#elif defined(__ARM_FEATURE_DOTPROD)
        to = vdotq_s32(to, moved, x[r]);
#else
        // 2 * 128 * 127 is below 2^15: a sum of two products fits.
        const int16x8_t low = vmull_s8(vget_low_s8(moved), vget_low_s8(x[r])), high = vmull_high_s8(moved, x[r]);
        to = vpadalq_s16(to, vpaddq_s16(low, high));
#endif
        acc[r][i / parts].r[i % parts] = to;
      });
    });
#else
#error "blockattn: no integer products for this instruction set"
#endif
  }
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
