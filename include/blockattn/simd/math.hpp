// SPDX-License-Identifier: MIT
/// Elementary functions on sixteen floats.
#pragma once

#include "batch.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// e^x. Exactly 1 at 0, exactly 0 below -87.33 (so that a masked score weighs nothing), clamped to e^88 above.
/// Relative error below 9e-8 between (measured by tests/simd/math_test.cpp). Finite arguments.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by a polynomial of degree 7; 2^n by building the exponent field.
BLOCKATTN_INLINE f32x16 exp(f32x16 x) noexcept {
  constexpr float log2e = 1.44269504088896341f;
  constexpr float ln2_high = 0.693359375f;           // 9 bits: its product with n is exact
  constexpr float ln2_low = -2.12194440054690583e-4f;  // ln 2 - ln2_high
  constexpr float smallest = -87.33654475f;            // ln of the smallest normal float
  const f32x16 clamped = max(min(x, broadcast(88.0f)), broadcast(smallest));
  const native_f32 half(0.5f), minus_half(-0.5f), none(0.0f);
  const native_i32 bias(127);
  f32x16 power, n;
  unroll<f32x16::registers>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
    // Truncation of a value moved by one half rounds to nearest without depending on the rounding mode.
    const native_f32 scaled = clamped.r[i] * native_f32(log2e);
    const native_i32 whole = xsimd::to_int(scaled + xsimd::select(scaled < none, minus_half, half));
    n.r[i] = xsimd::to_float(whole);
    power.r[i] = isa_detail::as_f32(isa_detail::shift_left<23>(whole + bias));
  });
  const f32x16 r = fma(n, broadcast(-ln2_low), fma(n, broadcast(-ln2_high), clamped));
  f32x16 p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  const f32x16 one = broadcast(1.0f);
  const f32x16 value = fma(p, r * r, r) + one;
  const native_f32 low(smallest);
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return xsimd::select(x.r[i] < low, none, value.r[i] * power.r[i]); });
}

namespace isa_detail {
// 2^x for x <= 0, from a polynomial for 2^r with |r| <= 1/2 whose constant term is 1.
//
// x = n + r; n goes into the exponent of the polynomial's value. Two ways, whose results are the same bits from -126 on:
// AVX-512 takes x apart and puts the result together with an instruction each, and a comparison keeps denormals, which are
// slow to make, from arising. Elsewhere n is added to the exponent field: at the lower clamp r is 0 and the field becomes
// 0, which is +0.
template <class Polynomial>
BLOCKATTN_INLINE f32x16 exp2_by(f32x16 x, Polynomial&& polynomial) noexcept {
#if defined(__AVX512DQ__)
  const __m512 all = x.r[0], r = _mm512_reduce_ps(all, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __mmask16 is_normal = _mm512_cmp_ps_mask(all, _mm512_set1_ps(-126.0f), _CMP_GE_OQ);
  const __m512 p = polynomial(native_f32(r));
  return make16([&](std::size_t) BLOCKATTN_LAMBDA_INLINE {
    return native_f32(_mm512_maskz_scalef_ps(is_normal, p, _mm512_sub_ps(all, r)));
  });
#else
  const native_f32 lowest(-127.0f);
  return make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const native_f32 clamped = xsimd::max(x.r[i], lowest);
    const native_i32 n = xsimd::nearbyint_as_int(clamped);
    return as_f32(as_i32(polynomial(clamped - xsimd::to_float(n))) + shift_left<23>(n));
  });
#endif
}
}  // namespace isa_detail

/// 2^x for x <= 0: the weight of a score in a softmax that works in base 2. Exactly 1 at 0, exactly 0 at and below -127.
/// Relative error below 2.5e-7 down to -126 (measured by tests/kernel/attention_test.cpp); absolute error below 2^-126
/// from there on. Finite arguments.
BLOCKATTN_INLINE f32x16 exp2_nonpositive(f32x16 x) noexcept {
  const native_f32 c5(1.3264727217853652e-3f), c4(9.671512639577428e-3f), c3(5.5507337431886954e-2f);
  const native_f32 c2(2.4022242085377920e-1f), c1(6.931469775991955e-1f), one(1.0f);
  return isa_detail::exp2_by(x, [&](native_f32 r) BLOCKATTN_LAMBDA_INLINE {
    native_f32 p = isa_detail::fused(c5, r, c4);
    p = isa_detail::fused(p, r, c3);
    p = isa_detail::fused(p, r, c2);
    p = isa_detail::fused(p, r, c1);
    return isa_detail::fused(p, r, one);
  });
}

/// The same for weights that are rounded to bf16 next: relative error below 1.1e-4, a fortieth of what rounding adds
/// (tests/simd/math_test.cpp), from a polynomial of degree 3. Exactly 1 at 0, exactly 0 at and below -127.
BLOCKATTN_INLINE f32x16 exp2_for_bf16(f32x16 x) noexcept {
  const native_f32 c3(5.5009131e-2f), c2(2.4221146e-1f), c1(6.9328296e-1f), one(1.0f);
  return isa_detail::exp2_by(x, [&](native_f32 r) BLOCKATTN_LAMBDA_INLINE {
    native_f32 p = isa_detail::fused(c3, r, c2);
    p = isa_detail::fused(p, r, c1);
    return isa_detail::fused(p, r, one);
  });
}

/// The square root, rounded as the instruction set rounds it: correctly, on all that have one.
BLOCKATTN_INLINE f32x16 square_root(f32x16 x) noexcept {
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return xsimd::sqrt(x.r[i]); });
}

/// 1 / (1 + e^-x).
BLOCKATTN_INLINE f32x16 sigmoid(f32x16 x) noexcept {
  const f32x16 one = broadcast(1.0f);
  return one / (one + exp(zero16() - x));
}

/// x * sigmoid(x): the gate of SwiGLU.
BLOCKATTN_INLINE f32x16 silu(f32x16 x) noexcept { return x * sigmoid(x); }

/// x (1 + tanh(u)) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), the gate of GeGLU as Gemma has it; (1 + tanh(u)) / 2 is
/// sigmoid(2u). Large arguments give x or -0 times a number, as silu does. (Gaussian Error Linear Units, section 2.)
BLOCKATTN_INLINE f32x16 gelu_tanh(f32x16 x) noexcept {
  constexpr float a = 1.5957691216057308f;      // 2 sqrt(2/pi)
  constexpr float b = 0.07135481282553542f;     // a * 0.044715
  // Past 40 in size the sigmoid is 0 or 1 long since, and the cube stays finite.
  const f32x16 y = max(min(x, broadcast(40.0f)), broadcast(-40.0f));
  return x * sigmoid(y * fma(y * y, broadcast(b), broadcast(a)));
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
