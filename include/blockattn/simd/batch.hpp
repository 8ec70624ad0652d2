// SPDX-License-Identifier: MIT
/// Sixteen floats: the unit of every kernel. It is 1 zmm, 2 ymm, 4 xmm or 4 NEON registers, so that one kernel body and
/// one layout of stored keys serve every instruction set.
///
/// This is the shim over xsimd 8.1 to 14: it owns fused multiply-add (8.1 leaves it to the compiler's contraction on
/// AVX-512), horizontal reductions in a fixed order, and loads and stores that widen and narrow. No operation here relies
/// on IEEE specials or on rounding tricks that `-ffast-math` would remove.
#pragma once

#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>
#include <xsimd/xsimd.hpp>

#include "../core/element.hpp"
#include "isa.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <immintrin.h>
#endif

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
#error "blockattn needs an instruction set that xsimd knows: SSE2 or better, or NEON64"
#endif

using native_f32 = xsimd::batch<float>;
using native_i32 = xsimd::batch<std::int32_t>;

static_assert(16 % native_f32::size == 0 && native_f32::size <= 16);

/// Sixteen floats in registers.
struct f32x16 {
  static constexpr std::size_t registers = 16 / native_f32::size;
  native_f32 r[registers];
};

/// Architectural vector registers, for choosing register tiles.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr std::size_t vector_registers = 32;
#else
inline constexpr std::size_t vector_registers = 16;
#endif

/// Calls `f(std::integral_constant<std::size_t, i>)` for i in [0, N), written out: accumulators that are indexed by
/// the argument stay in registers at any optimisation level, which a loop does not promise.
template <std::size_t N, class F>
BLOCKATTN_INLINE void unroll(F&& f) noexcept {
  [&]<std::size_t... I>(std::index_sequence<I...>) BLOCKATTN_LAMBDA_INLINE {
    (f(std::integral_constant<std::size_t, I>{}), ...);
  }(std::make_index_sequence<N>{});
}

namespace isa_detail {
template <class F>
BLOCKATTN_INLINE f32x16 make16(F&& f) noexcept {
  f32x16 out;
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE { out.r[i] = f(std::size_t{i}); });
  return out;
}
BLOCKATTN_INLINE native_f32 as_f32(native_i32 x) noexcept { return std::bit_cast<native_f32>(x); }
BLOCKATTN_INLINE native_i32 as_i32(native_f32 x) noexcept { return std::bit_cast<native_i32>(x); }

// Shifts of 32-bit lanes by a constant, zeros moving in. Spelled out for AVX-512, where g++ 12 warns of an uninitialised
// register inside its own unmasked intrinsics.
template <int N>
BLOCKATTN_INLINE native_i32 shift_left(native_i32 x) noexcept {
#if defined(__AVX512F__)
  return _mm512_maskz_slli_epi32(static_cast<__mmask16>(-1), x, N);
#elif defined(__aarch64__)
  return vshlq_n_s32(x, N);  // xsimd's is a call
#else
  return x << N;
#endif
}
template <int N>
BLOCKATTN_INLINE native_i32 shift_right(native_i32 x) noexcept {
#if defined(__AVX512F__)
  return _mm512_maskz_srli_epi32(static_cast<__mmask16>(-1), x, N);
#elif defined(__AVX2__)
  return _mm256_srli_epi32(x, N);
#elif defined(__aarch64__)
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x), N));
#elif defined(__SSE2__) && !defined(__AVX__)
  return _mm_srli_epi32(x, N);
#else
  return (x >> N) & native_i32(static_cast<std::int32_t>(0xffffffffu >> N));
#endif
}

// The value, of which the optimiser knows nothing.
BLOCKATTN_INLINE native_f32 opaque(native_f32 x) noexcept {
#if defined(__SSE2__) && defined(__GNUC__)
  asm("" : "+x"(x.data));
#endif
  return x;
}

// x * y + z with one rounding where the ISA has it, spelled out so that no compiler flag decides.
BLOCKATTN_INLINE native_f32 fused(native_f32 x, native_f32 y, native_f32 z) noexcept {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(x, y, z);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(x, y, z);
#elif defined(__aarch64__)
  return vfmaq_f32(z, x, y);
#else
  // A product and a sum, each opaque: under -ffast-math the compiler would regroup the terms of a chain, another way in
  // every tile.
  return opaque(opaque(x * y) + z);
#endif
}
}  // namespace isa_detail

/// Asks for the cache line at `p`, to be in the L2 cache when it is read. Any address is allowed.
BLOCKATTN_INLINE void prefetch(const void* p) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 0, 2);
#elif defined(__SSE2__)
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T1);
#else
  (void)p;
#endif
}

/// Bytes that a run of reading from memory is prefetched ahead.
inline constexpr std::size_t stream_ahead = 4096;

/// The same for the L1 cache.
BLOCKATTN_INLINE void prefetch_near(const void* p) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(p, 0, 3);
#elif defined(__SSE2__)
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
#else
  (void)p;
#endif
}

BLOCKATTN_INLINE f32x16 broadcast(float x) noexcept {
  const native_f32 v(x);
  return isa_detail::make16([&](std::size_t) BLOCKATTN_LAMBDA_INLINE { return v; });
}
BLOCKATTN_INLINE f32x16 zero16() noexcept { return broadcast(0.0f); }
BLOCKATTN_INLINE f32x16 load(const float* p) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return native_f32::load_unaligned(p + i * native_f32::size); });
}
BLOCKATTN_INLINE void store(float* p, f32x16 x) noexcept {
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE { x.r[i].store_unaligned(p + i * native_f32::size); });
}
BLOCKATTN_INLINE f32x16 operator+(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return x.r[i] + y.r[i]; });
}
BLOCKATTN_INLINE f32x16 operator-(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return x.r[i] - y.r[i]; });
}
BLOCKATTN_INLINE f32x16 operator*(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return x.r[i] * y.r[i]; });
}
BLOCKATTN_INLINE f32x16 operator/(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return x.r[i] / y.r[i]; });
}
BLOCKATTN_INLINE f32x16 max(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return xsimd::max(x.r[i], y.r[i]); });
}
BLOCKATTN_INLINE f32x16 min(f32x16 x, f32x16 y) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return xsimd::min(x.r[i], y.r[i]); });
}
/// x * y + z, fused where the instruction set fuses (all but plain SSE and AVX).
BLOCKATTN_INLINE f32x16 fma(f32x16 x, f32x16 y, f32x16 z) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return isa_detail::fused(x.r[i], y.r[i], z.r[i]); });
}

/// Lanes `first` to `last - 1` of x; `otherwise` elsewhere. Bounds outside [0, 16] are clamped by the comparison.
BLOCKATTN_INLINE f32x16 keep_lanes(f32x16 x, float otherwise, std::ptrdiff_t first, std::ptrdiff_t last) noexcept {
  alignas(alignment) static constexpr float lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  // 24 bits of float hold any clamped bound.
  const auto clamp = [](std::ptrdiff_t n) { return static_cast<float>(n < 0 ? 0 : n > 16 ? 16 : n); };
  const native_f32 low(clamp(first)), high(clamp(last)), other(otherwise);
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const native_f32 index = native_f32::load_aligned(lane + i * native_f32::size);
    return xsimd::select((index >= low) & (index < high), x.r[i], other);
  });
}

/// The sum of all lanes, as a fixed tree: halves first, down to neighbours.
BLOCKATTN_INLINE float reduce_add(f32x16 x) noexcept {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const __m512 all = x.r[0];
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_maskz_extractf32x8_ps(static_cast<__mmask8>(-1), all, 1));
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
#else
  alignas(alignment) float v[16];
  store(v, x);
  for (std::size_t step = 8; step > 0; step /= 2)
    for (std::size_t i = 0; i < step; ++i) v[i] += v[i + step];
  return v[0];
#endif
}
/// The largest lane.
BLOCKATTN_INLINE float reduce_max(f32x16 x) noexcept {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x.r[0]);
#elif defined(__AVX__)
  __m256 m = _mm256_max_ps(x.r[0], x.r[1]);
  __m128 h = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
  h = _mm_max_ps(h, _mm_movehl_ps(h, h));
  return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
#elif defined(__aarch64__)
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.r[0], x.r[1]), vmaxq_f32(x.r[2], x.r[3])));
#else
  alignas(alignment) float v[16];
  store(v, x);
  for (std::size_t step = 8; step > 0; step /= 2)
    for (std::size_t i = 0; i < step; ++i) v[i] = v[i] < v[i + step] ? v[i + step] : v[i];
  return v[0];
#endif
}

/// Sixteen 32-bit lanes of two bf16 each: the lower ones, widened. They are the even elements in memory.
BLOCKATTN_INLINE f32x16 load_even(const bf16* pairs) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const auto raw = native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(pairs) + i * native_i32::size);
    return isa_detail::as_f32(isa_detail::shift_left<16>(raw));
  });
}
/// The upper ones, widened: the odd elements in memory.
BLOCKATTN_INLINE f32x16 load_odd(const bf16* pairs) noexcept {
  const native_i32 mask(static_cast<std::int32_t>(0xffff0000u));
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const auto raw = native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(pairs) + i * native_i32::size);
    return isa_detail::as_f32(raw & mask);
  });
}

/// Sixteen consecutive bf16, widened exactly.
BLOCKATTN_INLINE f32x16 load(const bf16* p) noexcept {
#if defined(__AVX512F__)
  const __m256i raw = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {{native_f32(_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(raw), 16)))}};
#elif defined(__AVX2__)
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8 * i));
    return native_f32(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(raw), 16)));
  });
#else
  alignas(alignment) float v[16];
  for (std::size_t i = 0; i < 16; ++i) v[i] = widen(p[i]);
  return load(v);
#endif
}

/// Whether halves are widened by instructions.
#if defined(__AVX512F__) || defined(__F16C__) || defined(__aarch64__)
inline constexpr bool has_f16 = true;
#else
inline constexpr bool has_f16 = false;
#endif

namespace isa_detail {
// As many halves as a native register has lanes, widened exactly.
BLOCKATTN_INLINE native_f32 widen_halves(const std::byte* p) noexcept {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtph_ps(static_cast<__mmask16>(-1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__aarch64__)
  std::uint16_t bits[4];
  std::memcpy(bits, p, 8);
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(bits)));
#else
  alignas(alignment) float v[native_f32::size];
  for (std::size_t i = 0; i < native_f32::size; ++i) {
    f16 x;
    std::memcpy(&x, p + 2 * i, 2);
    v[i] = widen(x);
  }
  return native_f32::load_aligned(v);
#endif
}
}  // namespace isa_detail

/// Sixteen consecutive halves, widened exactly.
BLOCKATTN_INLINE f32x16 load_f16(const std::byte* p) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    return isa_detail::widen_halves(p + 2 * i * native_f32::size);
  });
}

/// Each lane rounded to bf16, to nearest, ties to even, as a 32-bit lane that holds the float with that value.
/// NaN stays NaN.
BLOCKATTN_INLINE f32x16 round_to_bf16(f32x16 x) noexcept {
  const native_i32 one(1), half(0x7fff), mask(static_cast<std::int32_t>(0xffff0000u));
  const native_i32 magnitude(0x7fffffff), infinity(0x7f800000), quiet(0x00400000);
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const native_i32 u = isa_detail::as_i32(x.r[i]);
    const native_i32 odd = (u >> 16) & one;
    const native_i32 rounded = (u + half + odd) & mask;
    // All ones for NaN. Not xsimd::select: for integers, xsimd 8.1 does not compile with g++ -O0 and AVX-512.
    const native_i32 nan = (infinity - (u & magnitude)) >> 31;
    return isa_detail::as_f32(((u | quiet) & mask & nan) | (rounded & ~nan));
  });
}
/// Rounds to bf16 and stores 16 of them.
BLOCKATTN_INLINE void store(bf16* p, f32x16 x) noexcept {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
  const __m256bh narrow = _mm512_cvtneps_pbh(x.r[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<const __m256i&>(narrow));
#elif defined(__AVX2__)
  const f32x16 rounded = round_to_bf16(x);
  __m256i lanes[2];
#if defined(__AVX512F__)
  const __m512i all = _mm512_srli_epi32(_mm512_castps_si512(rounded.r[0]), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(all));
  (void)lanes;
#else
  for (std::size_t i = 0; i < 2; ++i) lanes[i] = _mm256_srli_epi32(_mm256_castps_si256(rounded.r[i]), 16);
  // packus works within 128-bit halves; the permutation puts the quarters back in order.
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lanes[0], lanes[1]), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
#endif
#else
  alignas(alignment) float v[16];
  store(v, x);
  for (std::size_t i = 0; i < 16; ++i) p[i] = to_bf16(v[i]);
#endif
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
