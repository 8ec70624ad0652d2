// SPDX-License-Identifier: MIT
/// Numbers of GGUF metadata in the type that a caller wants, where that changes nothing.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include "gguf_types.hpp"

namespace blockattn::inline v0 {

namespace detail {

// By bits, because a host program may be compiled with -ffast-math, where comparisons deny that NaN exists.
[[nodiscard]] constexpr bool is_finite(double x) noexcept {
  return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

/// `value` as a `To`, if that is the same number. NaN stays NaN, infinity stays infinity, between floats.
template <class To, class From>
[[nodiscard]] constexpr std::optional<To> exact_number(From value) noexcept {
  using limits = std::numeric_limits<To>;
  if constexpr (std::integral<To> && std::integral<From>) {
    if (!std::in_range<To>(value)) return std::nullopt;
    return static_cast<To>(value);
  } else if constexpr (std::integral<To>) {
    if (!is_finite(static_cast<double>(value))) return std::nullopt;
    // Both bounds are powers of two or zero, so they are exact in any float.
    const auto low = static_cast<From>(limits::min());
    const auto high = static_cast<From>(To{1} << (limits::digits - 1)) * From{2};
    if (value < low || value >= high) return std::nullopt;
    const auto out = static_cast<To>(value);
    if (static_cast<From>(out) != value) return std::nullopt;
    return out;
  } else if constexpr (std::integral<From>) {
    const auto out = static_cast<To>(value);
    const auto back = exact_number<From>(out);
    if (!back || *back != value) return std::nullopt;
    return out;
  } else {
    if constexpr (sizeof(To) < sizeof(From)) {
      if (is_finite(value) && (value > limits::max() || value < limits::lowest())) return std::nullopt;
      const auto out = static_cast<To>(value);
      if (is_finite(value) && static_cast<From>(out) != value) return std::nullopt;
      return out;
    } else {
      return static_cast<To>(value);
    }
  }
}

/// The number of that type stored at `bytes`; nothing for strings and lists, or where it is not exact in `To`.
template <class To>
[[nodiscard]] std::optional<To> gguf_number(gguf_type type, const std::byte* bytes) noexcept {
  const auto as = [bytes]<class From>(std::type_identity<From>) {
    From value;
    std::memcpy(&value, bytes, sizeof value);
    return exact_number<To>(value);
  };
  switch (type) {
    case gguf_type::u8:
    case gguf_type::boolean: return as(std::type_identity<std::uint8_t>{});
    case gguf_type::i8: return as(std::type_identity<std::int8_t>{});
    case gguf_type::u16: return as(std::type_identity<std::uint16_t>{});
    case gguf_type::i16: return as(std::type_identity<std::int16_t>{});
    case gguf_type::u32: return as(std::type_identity<std::uint32_t>{});
    case gguf_type::i32: return as(std::type_identity<std::int32_t>{});
    case gguf_type::f32: return as(std::type_identity<float>{});
    case gguf_type::u64: return as(std::type_identity<std::uint64_t>{});
    case gguf_type::i64: return as(std::type_identity<std::int64_t>{});
    case gguf_type::f64: return as(std::type_identity<double>{});
    case gguf_type::string:
    case gguf_type::array: return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace detail

}  // namespace blockattn::inline v0
