// SPDX-License-Identifier: MIT
/// Element types: `float`, `bf16`, `f16`, and their names in files. Widening is exact; narrowing rounds once, to
/// nearest, ties to even. A NaN stays a NaN.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "config.hpp"

namespace blockattn::inline v0 {

/// The upper half of an IEEE float: 8 bits of exponent, 7 of fraction.
struct bf16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(bf16, bf16) = default;
};

/// IEEE binary16.
struct f16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(f16, f16) = default;
};

[[nodiscard]] constexpr float widen(float x) noexcept { return x; }

[[nodiscard]] constexpr float widen(bf16 x) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

[[nodiscard]] constexpr float widen(f16 x) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1fu;
  std::uint32_t fraction = x.bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  if (fraction == 0) return std::bit_cast<float>(sign);
  // A subnormal half is a normal float: shift the leading one into place.
  const auto shift = static_cast<std::uint32_t>(std::countl_zero(fraction)) - 21;
  fraction = (fraction << shift) & 0x3ffu;
  return std::bit_cast<float>(sign | ((113 - shift) << 23) | (fraction << 13));
}

/// Rounds a float to bf16.
[[nodiscard]] constexpr bf16 to_bf16(float x) noexcept {
  const auto u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return bf16{static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return bf16{static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

/// Rounds a float to IEEE half precision. Values past the range become infinity.
[[nodiscard]] constexpr f16 to_f16(float x) noexcept {
  const auto u = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return f16{static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return f16{static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x33000001u) return f16{sign};
  const std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
  // Bits of the 24-bit significand that do not fit: 13, and one more for each power of two below the normal range.
  const std::uint32_t drop = exponent >= 113 ? 13 : 126 - exponent;
  const std::uint32_t kept = fraction >> drop;
  const std::uint32_t rest = fraction & ((1u << drop) - 1);
  const std::uint32_t half = 1u << (drop - 1);
  const std::uint32_t rounded = kept + ((rest > half || (rest == half && (kept & 1u))) ? 1 : 0);
  const std::uint32_t bits = exponent >= 113 ? rounded + ((exponent - 113) << 10) : rounded;
  return f16{static_cast<std::uint16_t>(sign | bits)};
}

/// The element types of files and buffers. The quantised ones are block formats: see `block_elements`.
/// Their numbers are hashed into fingerprints: new ones go to the end.
enum class dtype : std::uint8_t {
  f32, f16, bf16, q8_0, f64, i8, i16, i32, i64, u8, u16, u32, u64, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k
};

/// The name of an element type, as in file metadata and JSON: `"bf16"`.
[[nodiscard]] constexpr std::string_view to_string(dtype type) noexcept {
  switch (type) {
    case dtype::f32: return "f32";
    case dtype::f16: return "f16";
    case dtype::bf16: return "bf16";
    case dtype::q8_0: return "q8_0";
    case dtype::f64: return "f64";
    case dtype::i8: return "i8";
    case dtype::i16: return "i16";
    case dtype::i32: return "i32";
    case dtype::i64: return "i64";
    case dtype::u8: return "u8";
    case dtype::u16: return "u16";
    case dtype::u32: return "u32";
    case dtype::u64: return "u64";
    case dtype::q4_0: return "q4_0";
    case dtype::q4_1: return "q4_1";
    case dtype::q5_0: return "q5_0";
    case dtype::q5_1: return "q5_1";
    case dtype::q4_k: return "q4_k";
    case dtype::q5_k: return "q5_k";
    case dtype::q6_k: return "q6_k";
  }
  return "unknown";
}

/// Elements that are stored together: 1 for plain types, 32 for `q8_0` and its narrower kin, 256 for the k-types.
[[nodiscard]] constexpr std::size_t block_elements(dtype type) noexcept {
  switch (type) {
    case dtype::q8_0:
    case dtype::q4_0:
    case dtype::q4_1:
    case dtype::q5_0:
    case dtype::q5_1: return 32;
    case dtype::q4_k:
    case dtype::q5_k:
    case dtype::q6_k: return 256;
    default: return 1;
  }
}

/// Bytes of one such group.
[[nodiscard]] constexpr std::size_t block_bytes(dtype type) noexcept {
  switch (type) {
    case dtype::q8_0: return 34;
    case dtype::q4_0: return 18;
    case dtype::q4_1: return 20;
    case dtype::q5_0: return 22;
    case dtype::q5_1: return 24;
    case dtype::q4_k: return 144;
    case dtype::q5_k: return 176;
    case dtype::q6_k: return 210;
    case dtype::f64:
    case dtype::i64:
    case dtype::u64: return 8;
    case dtype::f32:
    case dtype::i32:
    case dtype::u32: return 4;
    case dtype::f16:
    case dtype::bf16:
    case dtype::i16:
    case dtype::u16: return 2;
    case dtype::i8:
    case dtype::u8: return 1;
  }
  return 1;
}

/// Whether elements are small integer codes behind scales that a block shares.
[[nodiscard]] constexpr bool is_quantized(dtype type) noexcept { return block_elements(type) != 1; }

/// Whether a tensor of weights may have that type.
[[nodiscard]] constexpr bool is_weight_type(dtype type) noexcept {
  return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16 || is_quantized(type);
}

/// What a kernel asks of an element type: exact widening to float, rounding from float, a name in files.
template <class T>
struct element_traits;

template <>
struct element_traits<float> {
  static constexpr dtype type = dtype::f32;
  static constexpr float narrow(float x) noexcept { return x; }
};
template <>
struct element_traits<bf16> {
  static constexpr dtype type = dtype::bf16;
  static constexpr bf16 narrow(float x) noexcept { return to_bf16(x); }
};
template <>
struct element_traits<f16> {
  static constexpr dtype type = dtype::f16;
  static constexpr f16 narrow(float x) noexcept { return to_f16(x); }
};

template <class T>
concept element = std::is_trivially_copyable_v<T> && requires(T x, float y) {
  { element_traits<T>::type } -> std::convertible_to<dtype>;
  { widen(x) } -> std::same_as<float>;
  { element_traits<T>::narrow(y) } -> std::same_as<T>;
};

}  // namespace blockattn::inline v0
