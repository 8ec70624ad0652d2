// SPDX-License-Identifier: MIT
/// Steps of a product with panels of int8, four to a lane. Two kinds of rows:
///
/// - `float`: codes are widened, products and sums are those of floats.
/// - `std::int16_t`, *fixed-point*: integers of at most `fixed_most` = 127 * 256 in magnitude. Products and sums are
///   exact in 32 bits, so no order of additions, no tile and no instruction set changes a bit. Sixteen bits and not
///   eight, because a row's largest element sets its step: queries carry the factors that keys were divided by, so their
///   elements differ by two orders of magnitude, and weights of one step do by more.
///
/// The accumulators of fixed-point rows are f32x16 that hold the bits of int32: nothing but `apply` and
/// `fixed_to_float` may look at them. No saturating instruction is used (vpmaddubsw would be one).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "dot.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// The largest magnitude of a fixed-point element. Its high byte, rounded, is a signed byte too. A sum over 256 dims of
/// codes up to 127 stays below 2^31.
inline constexpr std::int32_t fixed_most = 127 * 256;

namespace isa_detail {

// Byte `B` of each 32-bit lane, as a float.
template <int B>
BLOCKATTN_INLINE native_f32 widen_byte(native_i32 x) noexcept {
#if defined(__AVX512F__)
  const native_i32 top = shift_left<24 - 8 * B>(x);
  return xsimd::to_float(native_i32(_mm512_maskz_srai_epi32(static_cast<__mmask16>(-1), top, 24)));
#elif defined(__AVX2__)
  return xsimd::to_float(native_i32(_mm256_srai_epi32(_mm256_slli_epi32(x, 24 - 8 * B), 24)));
#elif defined(__aarch64__)
  return xsimd::to_float(native_i32(vshrq_n_s32(vshlq_n_s32(x, 24 - 8 * B), 24)));
#elif defined(__SSE2__) && !defined(__AVX__)
  return xsimd::to_float(native_i32(_mm_srai_epi32(_mm_slli_epi32(x, 24 - 8 * B), 24)));
#else
  return xsimd::to_float((x << (24 - 8 * B)) >> 24);
#endif
}

#if defined(__SSE2__)
// Sixteen-bit lanes of a register: the even bytes of each 32-bit lane (0 and 2), the odd ones (1 and 3), sign-extended;
// and acc + the sum of the two products in each 32-bit lane.
struct narrow_words {  // 128 bits
  static __m128i even(__m128i x) noexcept { return _mm_srai_epi16(_mm_slli_epi16(x, 8), 8); }
  static __m128i odd(__m128i x) noexcept { return _mm_srai_epi16(x, 8); }
  static __m128i add_products(__m128i acc, __m128i x, __m128i y) noexcept {
    return _mm_add_epi32(acc, _mm_madd_epi16(x, y));
  }
};
template <std::size_t N>
struct quarters {
  __m128i of[N];
};
template <class F, class... X>
BLOCKATTN_INLINE native_i32 by_quarters(F&& f, X... x) noexcept {
  using parts = quarters<native_i32::size / 4>;
  parts out;
  unroll<native_i32::size / 4>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    out.of[i] = f(std::bit_cast<parts>(x).of[i]...);
  });
  return std::bit_cast<native_i32>(out);
}
#if defined(__AVX512BW__)
BLOCKATTN_INLINE native_i32 even_bytes(native_i32 x) noexcept {
  constexpr auto all = static_cast<__mmask32>(-1);
  return _mm512_maskz_srai_epi16(all, _mm512_maskz_slli_epi16(all, x, 8), 8);
}
BLOCKATTN_INLINE native_i32 odd_bytes(native_i32 x) noexcept {
  return _mm512_maskz_srai_epi16(static_cast<__mmask32>(-1), x, 8);
}
BLOCKATTN_INLINE native_i32 add_products(native_i32 acc, native_i32 x, native_i32 y) noexcept {
#if defined(__AVX512VNNI__)
  return _mm512_dpwssd_epi32(acc, x, y);
#else
  return _mm512_add_epi32(acc, _mm512_madd_epi16(x, y));
#endif
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
BLOCKATTN_INLINE native_i32 even_bytes(native_i32 x) noexcept {
  return _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
}
BLOCKATTN_INLINE native_i32 odd_bytes(native_i32 x) noexcept { return _mm256_srai_epi16(x, 8); }
BLOCKATTN_INLINE native_i32 add_products(native_i32 acc, native_i32 x, native_i32 y) noexcept {
#if defined(__AVXVNNI__)
  return _mm256_dpwssd_avx_epi32(acc, x, y);
#else
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x, y));
#endif
}
#else
BLOCKATTN_INLINE native_i32 even_bytes(native_i32 x) noexcept { return by_quarters(narrow_words::even, x); }
BLOCKATTN_INLINE native_i32 odd_bytes(native_i32 x) noexcept { return by_quarters(narrow_words::odd, x); }
BLOCKATTN_INLINE native_i32 add_products(native_i32 acc, native_i32 x, native_i32 y) noexcept {
  return by_quarters(narrow_words::add_products, acc, x, y);
}
#endif
#endif
}  // namespace isa_detail

/// int8 storage, float arithmetic: exact products. The bytes of all lanes go in order.
template <>
struct dot_step<std::int8_t, float> {
  static constexpr std::size_t lane = 4;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const float* row, std::size_t row_stride,
                                     const std::int8_t* panel, std::size_t panel_stride) noexcept {
    const auto byte = [&](auto b) BLOCKATTN_LAMBDA_INLINE {
      isa_detail::multiply<Rows, Cols>(
          acc, row + b, row_stride, [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
            const auto* at = reinterpret_cast<const std::int32_t*>(panel + c * panel_stride) + i * native_i32::size;
            return isa_detail::widen_byte<static_cast<int>(decltype(b)::value)>(native_i32::load_unaligned(at));
          });
      isa_detail::between_halves();
    };
    unroll<4>(byte);
  }
};

/// int8 storage, fixed-point rows, in lanes of four elements as `store_fixed` writes them.
template <>
struct dot_step<std::int8_t, std::int16_t> {
  static constexpr std::size_t lane = 4;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const std::int16_t* row, std::size_t row_stride,
                                     const std::int8_t* panel, std::size_t panel_stride) noexcept {
    using namespace isa_detail;
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
    // A lane of a row: four high bytes, four low ones, both signed.
    unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
      int8x16_t b[4];
      unroll<4>([&](auto i) BLOCKATTN_LAMBDA_INLINE { b[i] = vld1q_s8(panel + c * panel_stride + 16 * i); });
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        const int8x8_t a = vld1_s8(reinterpret_cast<const std::int8_t*>(row + r * row_stride));
        unroll<4>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
          const int32x4_t high = vdotq_lane_s32(vdupq_n_s32(0), b[i], a, 0);
          const int32x4_t sum = vmlaq_n_s32(as_i32(acc[r][c].r[i]), high, 256);
          acc[r][c].r[i] = as_f32(vdotq_lane_s32(sum, b[i], a, 1));
        });
      });
    });
#elif defined(__aarch64__)
    unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
      int16x8_t dims[2][4];  // of eight keys each
      unroll<2>([&](auto h) BLOCKATTN_LAMBDA_INLINE {
        const std::int8_t* at = panel + c * panel_stride + 32 * h;
        const int16x8_t x = vreinterpretq_s16_s8(vld1q_s8(at)), y = vreinterpretq_s16_s8(vld1q_s8(at + 16));
        const int16x8_t even_x = vshrq_n_s16(vshlq_n_s16(x, 8), 8), even_y = vshrq_n_s16(vshlq_n_s16(y, 8), 8);
        const int16x8_t odd_x = vshrq_n_s16(x, 8), odd_y = vshrq_n_s16(y, 8);
        dims[h][0] = vuzp1q_s16(even_x, even_y);
        dims[h][1] = vuzp1q_s16(odd_x, odd_y);
        dims[h][2] = vuzp2q_s16(even_x, even_y);
        dims[h][3] = vuzp2q_s16(odd_x, odd_y);
      });
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        const int16x4_t a = vld1_s16(row + r * row_stride);
        unroll<2>([&](auto h) BLOCKATTN_LAMBDA_INLINE {
          int32x4_t low = as_i32(acc[r][c].r[2 * h]), high = as_i32(acc[r][c].r[2 * h + 1]);
          unroll<4>([&](auto d) BLOCKATTN_LAMBDA_INLINE {
            low = vmlal_lane_s16(low, vget_low_s16(dims[h][d]), a, d);
            high = vmlal_high_lane_s16(high, dims[h][d], a, d);
          });
          acc[r][c].r[2 * h] = as_f32(low);
          acc[r][c].r[2 * h + 1] = as_f32(high);
        });
      });
    });
#else
    // A lane of a row: elements 0 and 2, then 1 and 3, as the pairs that the panel's bytes become.
    const auto pair = [](const std::int16_t* at) BLOCKATTN_LAMBDA_INLINE {
      std::int32_t both;
      std::memcpy(&both, at, sizeof both);
      return native_i32(both);
    };
    const auto load_lanes = [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
      const auto* at = reinterpret_cast<const std::int32_t*>(panel + c * panel_stride) + i * native_i32::size;
      return native_i32::load_unaligned(at);
    };
    constexpr std::size_t parts = f32x16::registers;
    if constexpr (parts == 1) {
      native_i32 even[Cols], odd[Cols];
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
        const native_i32 x = load_lanes(c, 0);
        even[c] = even_bytes(x);
        odd[c] = odd_bytes(x);
      });
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        const native_i32 first = pair(row + r * row_stride), second = pair(row + r * row_stride + 2);
        unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
          const native_i32 half = add_products(as_i32(acc[r][c].r[0]), even[c], first);
          acc[r][c].r[0] = as_f32(add_products(half, odd[c], second));
        });
      });
    } else {
      // Register by register: sixteen of them hold no more than the accumulators and one part of the panel.
      unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
        const native_i32 x = load_lanes(i / parts, i % parts);
        const native_i32 even = even_bytes(x), odd = odd_bytes(x);
        unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
          native_f32& sum = acc[r][i / parts].r[i % parts];
          const native_i32 half = add_products(as_i32(sum), even, pair(row + r * row_stride));
          sum = as_f32(add_products(half, odd, pair(row + r * row_stride + 2)));
        });
      });
    }
#endif
  }
};

/// Sixteen accumulated integers as floats, each rounded once.
BLOCKATTN_INLINE f32x16 fixed_to_float(f32x16 sums) noexcept {
  return isa_detail::make16(
      [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return xsimd::to_float(isa_detail::as_i32(sums.r[i])); });
}

/// Rounds sixteen floats of magnitude up to `fixed_most` to integers, to nearest, ties to even, and stores them in the
/// order in which `dot_step` reads the lanes of a row.
BLOCKATTN_INLINE void store_fixed(std::int16_t* out, f32x16 x) noexcept {
  native_i32 n[f32x16::registers];
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE { n[i] = xsimd::nearbyint_as_int(x.r[i]); });
#if defined(__AVX512F__)
  // Elements 0, 2, 1, 3 of each lane.
  const __m512i order = _mm512_maskz_shuffle_epi32(static_cast<__mmask16>(-1), n[0], static_cast<_MM_PERM_ENUM>(0xd8));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_maskz_cvtepi32_epi16(static_cast<__mmask16>(-1), order));
#elif defined(__AVX2__)
  const __m256i a = _mm256_shuffle_epi32(n[0], 0xd8), b = _mm256_shuffle_epi32(n[1], 0xd8);
  // packs works within 128-bit halves; the permutation puts the quarters back in order.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
#elif defined(__SSE2__)
  isa_detail::quarters<4> parts;
  std::memcpy(&parts, n, sizeof parts);
  for (std::size_t i = 0; i < 2; ++i) {
    const __m128i a = _mm_shuffle_epi32(parts.of[2 * i], 0xd8), b = _mm_shuffle_epi32(parts.of[2 * i + 1], 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 8 * i), _mm_packs_epi32(a, b));
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  for (std::size_t i = 0; i < 4; ++i) {
    const int16x4_t whole = vmovn_s32(n[i]);
    const int16x8_t twice = vcombine_s16(whole, whole);
    // The low byte as it is, signed; the high byte of what remains.
    const int8x8_t low = vmovn_s16(twice), high = vrshrn_n_s16(twice, 8);
    vst1_s8(reinterpret_cast<std::int8_t*>(out + 4 * i),
            vreinterpret_s8_s32(vtrn1_s32(vreinterpret_s32_s8(high), vreinterpret_s32_s8(low))));
  }
#else
  for (std::size_t i = 0; i < 4; ++i) vst1_s16(out + 4 * i, vmovn_s32(n[i]));
#endif
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
