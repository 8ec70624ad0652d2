// SPDX-License-Identifier: MIT
/// Parts of panels of quantised weights, of f16 and of int8 keys and values as pairs of bf16: operands of tile registers
/// (kernel/tile_amx.hpp).
///
/// A half is widened, which is exact, and rounded; one that was made from bf16 is that bf16 again. A code becomes a float
/// without a conversion: its byte is put into the mantissa of a power of two B, and
///
///     weight = (B + code) * scale + shift        shift = offset - B * scale, or -(B + zero) * scale
///
/// is one fused multiply-add. Types without offsets have an exact `shift`, so the sum is the weight as it decodes; else two
/// roundings of at most 2^-24 (|offset| + 128 scale) come in. Then it is rounded once to bf16, to nearest, ties to even, with
/// denormals as zero: half a unit in 8 bits. Infinite and NaN scales make all weights of their group NaN.
#pragma once

#include "expand.hpp"

#if BLOCKATTN_HAS_AMX

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Elements of one run of 32 columns of a panel as pairs: one tile.
inline constexpr std::size_t pair_run_elements = code_panels::run * panel_width;

namespace isa_detail {

// For quarter q of a step, four codes of sixteen rows: the byte that goes into each lane of sixteen floats. Rows 8 (q % 2)
// to 8 (q % 2) + 7, and of each the codes 2 (q / 2) and the one behind it.
struct pair_bytes {
  alignas(64) std::uint8_t from[4][64] = {};
  constexpr explicit pair_bytes(std::size_t byte) {
    for (std::size_t q = 0; q < 4; ++q)
      for (std::size_t lane = 0; lane < 16; ++lane)
        from[q][4 * lane + byte] = static_cast<std::uint8_t>(4 * (8 * (q % 2) + lane / 2) + 2 * (q / 2) + lane % 2);
  }
};

// Where a code of so many bits lies in a float, and the float that it is put into.
template <std::size_t Bits>
struct pair_form {
  static constexpr std::size_t byte = Bits == 8 ? 1 : 2;
  static constexpr float base = Bits == 8 ? 32768.0f : 128.0f;
  static constexpr __mmask64 lanes = 0x1111111111111111u << byte;
  static constexpr pair_bytes bytes{byte};
};

// Lanes i / 2 and 8 + i / 2 of sixteen floats: each row's number for both codes of a pair.
BLOCKATTN_INLINE void spread(__m512 x, __m512 (&out)[2]) noexcept {
  const __m512i low = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __mmask16 all = static_cast<__mmask16>(-1);
  out[0] = _mm512_maskz_permutexvar_ps(all, low, x);
  out[1] = _mm512_maskz_permutexvar_ps(all, _mm512_or_si512(low, _mm512_set1_epi32(8)), x);
}

// 64 codes that were put into `form`'s base, and moved and scaled there, as pairs: codes 0 and 1 of each row, then 2 and 3.
BLOCKATTN_INLINE void store_pairs(const __m512 (&x)[4], bf16* first, bf16* second) noexcept {
  _mm512_store_si512(first, std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(x[1], x[0])));
  _mm512_store_si512(second, std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(x[3], x[2])));
}

template <std::size_t Bits>
inline void expand_pairs(const code_panels& layout, const std::byte* panel, std::size_t first, std::size_t runs,
                         const std::byte* next, bf16* out) noexcept {
  using form = pair_form<Bits>;
  constexpr std::size_t most = 32;  // runs whose scales are decoded at a time
  constexpr std::size_t groups = Bits == 6 ? 2 : 1;  // of a run
  constexpr std::size_t group_steps = code_panels::steps / groups;
  alignas(alignment) float scales[most * groups * 16], offsets[most * 16];
  alignas(alignment) std::uint8_t bytes[code_panels::steps * code_panels::step_bytes];
  const bool with_offsets = has_offsets(layout.type);
  const __m512 base = _mm512_set1_ps(form::base);
  const __m512 middle = _mm512_set1_ps(form::base + static_cast<float>(code_zero(layout.type)));
  __m512i from[4];
  for (std::size_t q = 0; q < 4; ++q) from[q] = _mm512_load_si512(form::bytes.from[q]);
  const std::byte* codes = panel + first * layout.code_bytes();
  const std::byte* upper = panel + layout.upper_at() + first * layout.upper_bytes();
  for (std::size_t done = 0; done < runs; done += most) {
    const std::size_t now = std::min(most, runs - done);
    expand_scales(layout, panel, first + done, now, scales, offsets);
    if (next != nullptr) {
      const std::byte* const at = next + layout.scales_at() + (first + done) * layout.scale_bytes();
      for (std::size_t line = 0; line < now * layout.scale_bytes(); line += 64) prefetch(at + line);
      if (layout.k_type()) prefetch(next + layout.blocks_at() + (first + done) / 8 * layout.block_scale_bytes());
    }
    for (std::size_t i = 0; i < now; ++i) {
      const std::uint8_t* at = reinterpret_cast<const std::uint8_t*>(codes);
      if constexpr (Bits != 8) {
        expand_run<Bits>(codes, upper, bytes);
        at = bytes;
      }
      for (std::size_t g = 0; g < groups; ++g) {
        const __m512 scale = _mm512_load_ps(scales + (groups * i + g) * 16);
        const __m512 shift = with_offsets ? _mm512_fnmadd_ps(base, scale, _mm512_load_ps(offsets + 16 * i))
                                          : _mm512_fnmadd_ps(middle, scale, _mm512_setzero_ps());
        __m512 factor[2], term[2];
        spread(scale, factor);
        spread(shift, term);
        unroll<group_steps>([&](auto) BLOCKATTN_LAMBDA_INLINE {
          const __m512i step = _mm512_loadu_si512(at);
          at += code_panels::step_bytes;
          __m512 x[4];
          unroll<4>([&](auto q) BLOCKATTN_LAMBDA_INLINE {
            const __m512i put = _mm512_mask_permutexvar_epi8(_mm512_castps_si512(base), form::lanes, from[q], step);
            x[q] = _mm512_fmadd_ps(_mm512_castsi512_ps(put), factor[q % 2], term[q % 2]);
          });
          store_pairs(x, out, out + 32);
          out += 64;
        });
      }
      if (next != nullptr) {
        for (std::size_t line = 0; line < layout.code_bytes(); line += 64) prefetch(next + (codes - panel) + line);
        for (std::size_t line = 0; line < layout.upper_bytes(); line += 64) prefetch(next + (upper - panel) + line);
      }
      codes += layout.code_bytes();
      upper += layout.upper_bytes();
    }
  }
}

}  // namespace isa_detail

/// Runs [first, first + runs) of a quantised panel as bf16, [runs][16 steps][16 rows][2], on a 64-byte boundary. `next`:
/// the panel of which the same runs are prefetched while this goes on, or null.
inline void expand_pairs(const code_panels& layout, const std::byte* panel, std::size_t first, std::size_t runs,
                         const std::byte* next, bf16* out) noexcept {
  switch (code_bits(layout.type)) {
    case 4: return isa_detail::expand_pairs<4>(layout, panel, first, runs, next, out);
    case 5: return isa_detail::expand_pairs<5>(layout, panel, first, runs, next, out);
    case 6: return isa_detail::expand_pairs<6>(layout, panel, first, runs, next, out);
    default: return isa_detail::expand_pairs<8>(layout, panel, first, runs, next, out);
  }
}

/// `n` columns of f16, [n][16], as bf16, [ceil(n/2) steps][16 rows][2], on a 64-byte boundary; behind an odd last one a
/// column of zeros. `next`: as above.
inline void expand_half_pairs(const std::byte* columns, std::size_t n, const std::byte* next, bf16* out) noexcept {
  constexpr std::size_t column = 2 * panel_width;
  const __m512i lanes = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const auto load_half = [](const std::byte* at) BLOCKATTN_LAMBDA_INLINE {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  };
  for (std::size_t k = 0; k < n; k += 2, out += 2 * panel_width) {
    const std::byte* const at = columns + k * column;
    const __m512 second = k + 1 < n ? load_half(at + column) : _mm512_setzero_ps();
    const __m512i both = std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(second, load_half(at)));
    _mm512_store_si512(out, _mm512_permutexvar_epi16(lanes, both));
    if (next != nullptr) prefetch(next + k * column);
  }
}

/// Rows of sixteen lanes of four int8 (tensor/kv_panels.hpp) as twice as many of two bf16, which hold the codes exactly.
/// Lane by lane: `rows` rows of `lanes` times sixteen; the first two codes of a row's lanes are one row of pairs, the others
/// the next. `out` on a 64-byte boundary.
inline void expand_int8(const std::int8_t* in, std::size_t rows, std::size_t lanes, bf16* out) noexcept {
  using form = isa_detail::pair_form<8>;
  const __m512 base = _mm512_set1_ps(form::base), zero = _mm512_set1_ps(form::base + 128);
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i from[4];
  for (std::size_t q = 0; q < 4; ++q) from[q] = _mm512_load_si512(form::bytes.from[q]);
  const std::size_t width = lanes * 2 * panel_width;  // of a row of pairs
  for (std::size_t r = 0; r < rows; ++r, out += 2 * width)
    for (std::size_t l = 0; l < lanes; ++l, in += 64) {
      const __m512i codes = _mm512_xor_si512(_mm512_loadu_si512(in), sign);
      __m512 x[4];
      unroll<4>([&](auto q) BLOCKATTN_LAMBDA_INLINE {
        const __m512i put = _mm512_mask_permutexvar_epi8(_mm512_castps_si512(base), form::lanes, from[q], codes);
        x[q] = _mm512_sub_ps(_mm512_castsi512_ps(put), zero);
      });
      isa_detail::store_pairs(x, out + l * 2 * panel_width, out + width + l * 2 * panel_width);
    }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#endif
