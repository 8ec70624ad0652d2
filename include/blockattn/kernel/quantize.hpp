// SPDX-License-Identifier: MIT
/// Stored rows of weights as codes, scales and floats. Plain C++: what runs once per tensor at load needs no intrinsics.
///
/// A quantised block is cut into groups of 32 elements (16 for `q6_k`) that share a scale and an offset:
///
///     element = scale * (code - zero) + offset        code: unsigned; zero: a constant of the type
///
/// `split_block` gives a block in these terms, whatever its type; `decode_row` and the panels of kernel/pack_codes.hpp
/// follow from it. Scales are products of a half and a small integer, so they are exact floats, and so is scale * code:
/// an element takes one rounding, in the sum, and none where the type has no offset. An infinite or NaN scale field is
/// taken as it is: the elements of its block become infinite or NaN, as arithmetic has it, and no others.
#pragma once

#include <cstring>

#include "../core/element.hpp"

namespace blockattn::inline v0 {

/// Elements of a quantised type that share a scale and an offset.
[[nodiscard]] constexpr std::size_t group_elements(dtype type) noexcept { return type == dtype::q6_k ? 16 : 32; }

/// Whether the groups of a quantised type have offsets.
[[nodiscard]] constexpr bool has_offsets(dtype type) noexcept {
  return type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k;
}

/// Bits of a code.
[[nodiscard]] constexpr std::size_t code_bits(dtype type) noexcept {
  switch (type) {
    case dtype::q4_0:
    case dtype::q4_1:
    case dtype::q4_k: return 4;
    case dtype::q5_0:
    case dtype::q5_1:
    case dtype::q5_k: return 5;
    case dtype::q6_k: return 6;
    default: return 8;
  }
}

/// The code that stands for zero: the middle of the range, or 0 for types with offsets.
[[nodiscard]] constexpr int code_zero(dtype type) noexcept {
  return has_offsets(type) ? 0 : 1 << (code_bits(type) - 1);
}

/// One quantised block: at most 256 codes, and the fields that make the scales of its groups.
struct split_codes {
  std::uint8_t code[256];
  f16 scale;
  f16 minimum;              // zero for types without offsets
  std::uint8_t factor[16];  // of each group's scale: k-types only
  std::uint8_t least[16];   // of each group's offset: `q4_k`, `q5_k`
};

/// The scale of group `g` of a block.
[[nodiscard]] constexpr float scale_of(dtype type, const split_codes& block, std::size_t g) noexcept {
  const float scale = widen(block.scale);
  if (type == dtype::q6_k) return scale * static_cast<float>(static_cast<std::int8_t>(block.factor[g]));
  return block_elements(type) == 256 ? scale * static_cast<float>(block.factor[g]) : scale;
}

/// The offset of group `g` of a block. Offsets of k-types are negated minimums.
[[nodiscard]] constexpr float offset_of(dtype type, const split_codes& block, std::size_t g) noexcept {
  const float minimum = widen(block.minimum);
  return block_elements(type) == 256 ? -(minimum * static_cast<float>(block.least[g])) : minimum;
}

namespace detail {
[[nodiscard]] inline f16 load_f16(const std::byte* at) noexcept {
  f16 x;
  std::memcpy(&x, at, 2);
  return x;
}

// Sixteen bytes of two nibbles each: the lower ones are the first sixteen elements. `high` holds the fifth bits.
inline void split_nibbles(const std::byte* nibbles, std::uint32_t high, split_codes& out) noexcept {
  for (std::size_t i = 0; i < 16; ++i) {
    const auto pair = static_cast<unsigned>(nibbles[i]);
    out.code[i] = static_cast<std::uint8_t>((pair & 15u) | (high >> i & 1u) << 4);
    out.code[i + 16] = static_cast<std::uint8_t>(pair >> 4 | (high >> (i + 16) & 1u) << 4);
  }
}

// `q4_k` and `q5_k`: two halves, twelve bytes of eight 6-bit scales and eight 6-bit minimums, 32 bytes of fifth bits for
// `q5_k`, nibbles. Of 64 elements, the lower nibbles of 32 bytes come first.
inline void split_k45(const std::byte* block, bool fifth, split_codes& out) noexcept {
  out.scale = load_f16(block);
  out.minimum = load_f16(block + 2);
  const std::byte* const packed = block + 4;
  const std::byte* const high = block + 16;
  const std::byte* const nibbles = fifth ? block + 48 : block + 16;
  const auto field = [&](std::size_t i) { return static_cast<unsigned>(packed[i]); };
  for (std::size_t g = 0; g < 8; ++g) {
    // The first four of each are the lower six bits of a byte; the others are four bits here and two bits there.
    const unsigned s = g < 4 ? field(g) & 63u : (field(g + 4) & 15u) | (field(g - 4) >> 6) << 4;
    const unsigned m = g < 4 ? field(g + 4) & 63u : field(g + 4) >> 4 | (field(g) >> 6) << 4;
    out.factor[g] = static_cast<std::uint8_t>(s);
    out.least[g] = static_cast<std::uint8_t>(m);
    for (std::size_t i = 0; i < 32; ++i) {
      unsigned code = static_cast<unsigned>(nibbles[g / 2 * 32 + i]) >> (g % 2 * 4) & 15u;
      if (fifth) code |= (static_cast<unsigned>(high[i]) >> g & 1u) << 4;
      out.code[g * 32 + i] = static_cast<std::uint8_t>(code);
    }
  }
}

// `q6_k`: 128 bytes of nibbles, 64 bytes of upper bit pairs, sixteen signed 8-bit scales, a half. Each half of the block
// is four runs of 32 elements.
inline void split_k6(const std::byte* block, split_codes& out) noexcept {
  out.scale = load_f16(block + 208);
  out.minimum = f16{};
  std::memcpy(out.factor, block + 192, 16);
  for (std::size_t i = 0; i < 256; ++i) {
    const std::size_t half = i / 128, run = i % 128 / 32, at = i % 32;
    const unsigned nibble = static_cast<unsigned>(block[half * 64 + run % 2 * 32 + at]) >> (run / 2 * 4) & 15u;
    const unsigned upper = static_cast<unsigned>(block[128 + half * 32 + at]) >> (run * 2) & 3u;
    out.code[i] = static_cast<std::uint8_t>(nibble | upper << 4);
  }
}
}  // namespace detail

/// Splits one block of `block_elements(type)` elements. Fields that the type has not are left alone, but for `minimum`.
inline void split_block(dtype type, const std::byte* block, split_codes& out) noexcept {
  BLOCKATTN_EXPECTS(is_quantized(type));
  if (type == dtype::q4_k || type == dtype::q5_k) return detail::split_k45(block, type == dtype::q5_k, out);
  if (type == dtype::q6_k) return detail::split_k6(block, out);

  out.scale = detail::load_f16(block);
  out.minimum = has_offsets(type) ? detail::load_f16(block + 2) : f16{};
  const std::byte* at = block + (has_offsets(type) ? 4 : 2);
  if (type == dtype::q8_0) {  // signed bytes
    for (std::size_t i = 0; i < 32; ++i) out.code[i] = static_cast<std::uint8_t>(static_cast<unsigned>(at[i]) ^ 0x80u);
    return;
  }
  std::uint32_t high = 0;
  if (code_bits(type) == 5) {
    for (std::size_t i = 0; i < 4; ++i) high |= static_cast<std::uint32_t>(at[i]) << (8 * i);
    at += 4;
  }
  detail::split_nibbles(at, high, out);
}

/// Decodes `n` elements of a row; `n` must be a multiple of `block_elements(type)`. Exact for f32, f16, bf16 and the
/// quantised types without offsets; one rounding for those with.
inline void decode_row(dtype type, const std::byte* row, std::size_t n, float* out) noexcept {
  BLOCKATTN_EXPECTS(is_weight_type(type) && n % block_elements(type) == 0);
  if (type == dtype::f32) {
    if (n != 0) std::memcpy(out, row, n * sizeof(float));
  } else if (type == dtype::f16) {
    for (std::size_t i = 0; i < n; ++i) out[i] = widen(detail::load_f16(row + 2 * i));
  } else if (type == dtype::bf16) {
    for (std::size_t i = 0; i < n; ++i) {
      bf16 x;
      std::memcpy(&x, row + 2 * i, 2);
      out[i] = widen(x);
    }
  } else {
    const std::size_t group = group_elements(type);
    const int zero = code_zero(type);
    split_codes block;
    for (std::size_t i = 0; i < n; i += block_elements(type), row += block_bytes(type)) {
      split_block(type, row, block);
      for (std::size_t k = 0; k < block_elements(type); ++k) {
        const float product = scale_of(type, block, k / group) * static_cast<float>(static_cast<int>(block.code[k]) - zero);
        out[i + k] = has_offsets(type) ? product + offset_of(type, block, k / group) : product;
      }
    }
  }
}

}  // namespace blockattn::inline v0
