// SPDX-License-Identifier: MIT
/// One step of a product over stored lanes: what GEMM, query times key, and weight times value have in common.
///
/// A panel holds, for each step, sixteen 32-bit lanes (tensor/kv_panels.hpp). The left operand of a row is one 32-bit
/// lane too, broadcast: 1 float against a float panel; 2 floats against a bf16 panel that is widened; 2 bf16 against a
/// bf16 panel where the instruction set multiplies such pairs (AVX-512 BF16, NEON bfdot).
///
/// `dot_step<Panel, Row>` names the pair of types:
///   - `lane`: elements of the panel and of the row that one step consumes;
///   - `apply(acc, row, row_stride, panel, panel_stride)`: acc[r][c] += row r times the sixteen lanes of panel c.
/// Each accumulator is one chain: the order of additions into it depends on nothing but the pair of types.
#pragma once

#include "batch.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

template <class Panel, class Row>
struct dot_step;

namespace isa_detail {
// acc[r][c] += row r's float times sixteen lanes of panel c, of which `part(c, i)` loads native register i. Tall tiles
// hold the panels of the step and broadcast row after row; flat ones hold the broadcasts of all rows and take the panels
// register by register. Either way the register file suffices.
template <std::size_t Rows, std::size_t Cols, class Part>
BLOCKATTN_INLINE void multiply(f32x16 (&acc)[Rows][Cols], const float* row, std::size_t row_stride,
                               Part&& part) noexcept {
  constexpr std::size_t parts = f32x16::registers;
  if constexpr (Rows > Cols * parts) {
    f32x16 b[Cols];
    unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE { b[i / parts].r[i % parts] = part(i / parts, i % parts); });
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      const f32x16 a = broadcast(row[r * row_stride]);
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE { acc[r][c] = fma(a, b[c], acc[r][c]); });
    });
  } else {
    native_f32 a[Rows];
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { a[r] = native_f32(row[r * row_stride]); });
    unroll<Cols * parts>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const native_f32 b = part(i / parts, i % parts);
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        acc[r][i / parts].r[i % parts] = fused(a[r], b, acc[r][i / parts].r[i % parts]);
      });
    });
  }
}
}  // namespace isa_detail

template <>
struct dot_step<float, float> {
  static constexpr std::size_t lane = 1;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const float* row, std::size_t row_stride,
                                     const float* panel, std::size_t panel_stride) noexcept {
    isa_detail::multiply<Rows, Cols>(acc, row, row_stride, [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
      return native_f32::load_unaligned(panel + c * panel_stride + i * native_f32::size);
    });
  }
};

namespace isa_detail {
// Native register i of sixteen lanes of bf16 pairs, one of each pair widened: the lower ones, which are first in memory,
// or the upper ones.
template <bool Upper>
BLOCKATTN_INLINE native_f32 load_half(const bf16* pairs, std::size_t i) noexcept {
  const auto raw = native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(pairs) + i * native_i32::size);
  if constexpr (!Upper) {
    return as_f32(shift_left<16>(raw));
  } else if constexpr (vector_registers == 32) {
    return as_f32(raw & native_i32(static_cast<std::int32_t>(0xffff0000u)));
  } else {
    // Two shifts instead of a mask: with sixteen registers the mask would push an accumulator to the stack.
    return as_f32(shift_left<16>(shift_right<16>(raw)));
  }
}

// Keeps the compiler from moving loads of the upper halves up among the lower ones, which costs accumulators their
// registers: all of sixteen are in use on x86, and g++ hoists the scalars of all rows on ARM.
BLOCKATTN_INLINE void between_halves() noexcept {
#if defined(__GNUC__) && !defined(__AVX512F__)
  asm volatile("" ::: "memory");
#endif
}
}  // namespace isa_detail

/// bf16 storage, float arithmetic: exact products. The lower halves of all lanes go first, then the upper ones.
template <>
struct dot_step<bf16, float> {
  static constexpr std::size_t lane = 2;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const float* row, std::size_t row_stride,
                                     const bf16* panel, std::size_t panel_stride) noexcept {
    isa_detail::multiply<Rows, Cols>(acc, row, row_stride, [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
      return isa_detail::load_half<false>(panel + c * panel_stride, i);
    });
    isa_detail::between_halves();
    isa_detail::multiply<Rows, Cols>(acc, row + 1, row_stride, [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
      return isa_detail::load_half<true>(panel + c * panel_stride, i);
    });
  }
};

/// f16 storage, float arithmetic: exact products. A panel holds sixteen halves for each step.
template <>
struct dot_step<f16, float> {
  static constexpr std::size_t lane = 1;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const float* row, std::size_t row_stride,
                                     const f16* panel, std::size_t panel_stride) noexcept {
    isa_detail::multiply<Rows, Cols>(acc, row, row_stride, [&](std::size_t c, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
      return isa_detail::widen_halves(reinterpret_cast<const std::byte*>(panel + c * panel_stride + i * native_f32::size));
    });
  }
};

#if defined(__AVX512BF16__) && defined(__AVX512VL__)
template <>
struct dot_step<bf16, bf16> {
  static constexpr std::size_t lane = 2;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const bf16* row, std::size_t row_stride,
                                     const bf16* panel, std::size_t panel_stride) noexcept {
    __m512bh b[Cols];
    unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
      b[c] = (__m512bh)_mm512_loadu_si512(panel + c * panel_stride);
    });
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      std::int32_t pair;
      std::memcpy(&pair, row + r * row_stride, 4);
      const auto a = (__m512bh)_mm512_set1_epi32(pair);
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
        acc[r][c].r[0] = _mm512_dpbf16_ps(acc[r][c].r[0], a, b[c]);
      });
    });
  }
};
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
template <>
struct dot_step<bf16, bf16> {
  static constexpr std::size_t lane = 2;
  template <std::size_t Rows, std::size_t Cols>
  static BLOCKATTN_INLINE void apply(f32x16 (&acc)[Rows][Cols], const bf16* row, std::size_t row_stride,
                                     const bf16* panel, std::size_t panel_stride) noexcept {
    bfloat16x8_t b[Cols][4];
    unroll<Cols * 4>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
      const bf16* at = panel + i / 4 * panel_stride + 8 * (i % 4);
      b[i / 4][i % 4] = vreinterpretq_bf16_u16(vld1q_u16(reinterpret_cast<const std::uint16_t*>(at)));
    });
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      std::uint32_t pair;
      std::memcpy(&pair, row + r * row_stride, 4);
      const bfloat16x8_t a = vreinterpretq_bf16_u32(vdupq_n_u32(pair));
      unroll<Cols * 4>([&](auto i) BLOCKATTN_LAMBDA_INLINE {
        acc[r][i / 4].r[i % 4] = vbfdotq_f32(acc[r][i / 4].r[i % 4], a, b[i / 4][i % 4]);
      });
    });
  }
};
#endif

/// The type that rows are rounded to before a product with a panel of the given type.
template <class Panel>
struct row_operand {
  using type = float;
};
template <>
struct row_operand<bf16> {
  using type = std::conditional_t<has_bf16_dot, bf16, float>;
};
template <class Panel>
using row_operand_t = typename row_operand<Panel>::type;

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
