// SPDX-License-Identifier: MIT
/// Parts of a panel, widened into a buffer of the L1 cache: codes to bytes and scales to floats for integer products, or
/// all of it to floats. Everything here is exact but for the one rounding of types with offsets; see kernel/quantize.hpp.
#pragma once

#include "../simd/code_dot.hpp"
#include "code_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Sixteen bytes as floats, unsigned or signed.
template <class Byte>
BLOCKATTN_INLINE f32x16 load_bytes(const std::byte* p) noexcept {
  [[maybe_unused]] constexpr bool is_signed = std::is_signed_v<Byte>;
#if defined(__AVX512F__)
  const __m128i raw = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __mmask16 all = static_cast<__mmask16>(-1);
  const __m512i wide = is_signed ? _mm512_maskz_cvtepi8_epi32(all, raw) : _mm512_maskz_cvtepu8_epi32(all, raw);
  return to_float(i32x16{{native_i32(wide)}});
#elif defined(__AVX2__)
  return isa_detail::make16([&](std::size_t i) BLOCKATTN_LAMBDA_INLINE {
    const __m128i raw = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8 * i));
    return native_f32(_mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(raw) : _mm256_cvtepu8_epi32(raw)));
  });
#else
  alignas(alignment) float v[16];
  for (std::size_t i = 0; i < 16; ++i) v[i] = static_cast<float>(static_cast<Byte>(p[i]));
  return load(v);
#endif
}

namespace isa_detail {
BLOCKATTN_INLINE native_i32 load_lanes(const std::byte* p) noexcept {
  return native_i32::load_unaligned(reinterpret_cast<const std::int32_t*>(p));
}

// Bits `mask` of every byte after moving it up (or down, if negative) by Shift. Bits that cross from one byte to the
// next are outside the mask.
template <int Shift>
BLOCKATTN_INLINE native_i32 move_bits(native_i32 x, std::int32_t mask) noexcept {
  const native_i32 m(mask * 0x01010101);
  if constexpr (Shift > 0) return shift_left<Shift>(x) & m;
  else if constexpr (Shift < 0) return shift_right<-Shift>(x) & m;
  else return x & m;
}

// One run of narrow codes as bytes. Bits: of a code.
template <std::size_t Bits>
BLOCKATTN_INLINE void expand_run(const std::byte* codes, const std::byte* upper, std::uint8_t* out) noexcept {
  constexpr std::size_t step = code_panels::step_bytes;
  for (std::size_t part = 0; part < step; part += sizeof(native_i32)) {  // of each step, one register
    native_i32 high[2] = {};
    if constexpr (Bits == 5) high[0] = load_lanes(upper + part);
    if constexpr (Bits == 6) high[0] = load_lanes(upper + part), high[1] = load_lanes(upper + step + part);
    unroll<4>([&](auto v) BLOCKATTN_LAMBDA_INLINE {
      constexpr int i = static_cast<int>(v);
      const native_i32 pair = load_lanes(codes + v * step + part);
      native_i32 first = move_bits<0>(pair, 0x0f), second = move_bits<-4>(pair, 0x0f);  // steps v and v + 4
      if constexpr (Bits == 5) {
        first = first | move_bits<4 - i>(high[0], 0x10);
        second = second | move_bits<-i>(high[0], 0x10);
      }
      if constexpr (Bits == 6) {
        first = first | move_bits<4 - 2 * i>(high[0], 0x30);
        second = second | move_bits<4 - 2 * i>(high[1], 0x30);
      }
      first.store_unaligned(reinterpret_cast<std::int32_t*>(out + v * step + part));
      second.store_unaligned(reinterpret_cast<std::int32_t*>(out + (v + 4) * step + part));
    });
  }
}
}  // namespace isa_detail

/// Codes of runs [first, first + runs) of a panel as bytes: [runs][8][16][4]. Not for 8-bit codes, which are so already.
inline void expand_codes(const code_panels& layout, const std::byte* panel, std::size_t first, std::size_t runs,
                         std::uint8_t* out) noexcept {
  constexpr std::size_t out_bytes = code_panels::steps * code_panels::step_bytes;
  const std::byte* codes = panel + first * layout.code_bytes();
  const std::byte* upper = panel + layout.upper_at() + first * layout.upper_bytes();
  const auto all = [&](auto bits) BLOCKATTN_LAMBDA_INLINE {
    for (std::size_t i = 0; i < runs; ++i, out += out_bytes, codes += layout.code_bytes(), upper += layout.upper_bytes())
      isa_detail::expand_run<bits>(codes, upper, out);
  };
  switch (code_bits(layout.type)) {
    case 4: return all(std::integral_constant<std::size_t, 4>{});
    case 5: return all(std::integral_constant<std::size_t, 5>{});
    case 6: return all(std::integral_constant<std::size_t, 6>{});
    default: BLOCKATTN_EXPECTS(false && "codes narrower than a byte");
  }
}

/// The scales of one run: of the run, or of its halves; and its offsets.
struct run_scales {
  f32x16 scale[2], offset;
};

/// From what a panel holds for a run (`at`), and for k-types for its block of 256 columns (`block`).
template <bool KType, bool Offsets>
BLOCKATTN_INLINE run_scales load_scales(const std::byte* at, [[maybe_unused]] const std::byte* block) noexcept {
  run_scales out = {};
  if constexpr (!KType) {
    out.scale[0] = load_f16(at);
    if constexpr (Offsets) out.offset = load_f16(at + 32);
  } else {
    const f32x16 scale = load_f16(block);
    if constexpr (Offsets) {
      out.scale[0] = scale * load_bytes<std::uint8_t>(at);
      out.offset = zero16() - load_f16(block + 32) * load_bytes<std::uint8_t>(at + 16);
    } else {
      out.scale[0] = scale * load_bytes<std::int8_t>(at);
      out.scale[1] = scale * load_bytes<std::int8_t>(at + 16);
    }
  }
  return out;
}

/// Scales of the groups of these runs, [groups][16], and offsets where the type has them.
inline void expand_scales(const code_panels& layout, const std::byte* panel, std::size_t first, std::size_t runs,
                          float* scales, float* offsets) noexcept {
  const std::byte* const at = panel + layout.scales_at() + first * layout.scale_bytes();
  const std::size_t scale_bytes = layout.scale_bytes(), block_bytes = layout.block_scale_bytes();
  const auto all = [&](auto k_type, auto with_offsets) BLOCKATTN_LAMBDA_INLINE {
    constexpr std::size_t groups = k_type && !with_offsets ? 2 : 1;
    for (std::size_t i = 0; i < runs; ++i) {
      const auto of =
          load_scales<k_type, with_offsets>(at + i * scale_bytes, panel + layout.blocks_at() + (first + i) / 8 * block_bytes);
      for (std::size_t g = 0; g < groups; ++g) store(scales + 16 * (groups * i + g), of.scale[g]);
      if constexpr (with_offsets) store(offsets + 16 * i, of.offset);
    }
  };
  if (layout.k_type()) has_offsets(layout.type) ? all(std::true_type{}, std::true_type{}) : all(std::true_type{}, std::false_type{});
  else has_offsets(layout.type) ? all(std::false_type{}, std::true_type{}) : all(std::false_type{}, std::false_type{});
}

/// Floats of these runs, column by column: [runs * 32][16]. The bits of `decode_row`, zeros of either sign excepted.
inline void expand_floats(const code_panels& layout, const std::byte* panel, std::size_t first, std::size_t runs,
                          float* out) noexcept {
  alignas(alignment) std::uint8_t bytes[code_panels::steps * code_panels::step_bytes];
  alignas(alignment) float scales[2 * 16], offsets[16];
  const bool narrow = code_bits(layout.type) != 8, with_offsets = has_offsets(layout.type);
  const bool halves = group_elements(layout.type) == 16;
  const native_i32 zero(code_zero(layout.type)), low(0xff);
  for (std::size_t i = 0; i < runs; ++i) {
    const std::byte* codes = panel + (first + i) * layout.code_bytes();
    if (narrow) {
      expand_codes(layout, panel, first + i, 1, bytes);
      codes = reinterpret_cast<const std::byte*>(bytes);
    }
    expand_scales(layout, panel, first + i, 1, scales, offsets);
    for (std::size_t s = 0; s < code_panels::steps; ++s) {
      const f32x16 scale = load(scales + (halves ? s / 4 * 16 : 0));
      i32x16 four;
      unroll<f32x16::registers>([&](auto p) BLOCKATTN_LAMBDA_INLINE {
        four.r[p] = isa_detail::load_lanes(codes + s * code_panels::step_bytes + p * sizeof(native_i32));
      });
      unroll<4>([&](auto j) BLOCKATTN_LAMBDA_INLINE {
        i32x16 code;
        unroll<f32x16::registers>([&](auto p) BLOCKATTN_LAMBDA_INLINE {
          code.r[p] = (j == 0 ? four.r[p] : isa_detail::shift_right<j == 0 ? 8 : 8 * static_cast<int>(j)>(four.r[p]));
          code.r[p] = (code.r[p] & low) - zero;
        });
        f32x16 value = to_float(code) * scale;
        if (with_offsets) value = value + load(offsets);
        store(out, value);
        out += 16;
      });
    }
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
