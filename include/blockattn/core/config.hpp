// SPDX-License-Identifier: MIT
/// Compiler facts and the few macros of the library. Nothing here changes the layout of a type.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(__cplusplus) || __cplusplus < 202002L
#error "blockattn needs C++20"
#endif

/// A precondition of a function that cannot fail. Define it before the first include to replace it.
/// By default it is `assert`: on in debug builds, nothing under NDEBUG.
#ifndef BLOCKATTN_EXPECTS
#include <cassert>
#define BLOCKATTN_EXPECTS(condition) assert(condition)
#endif

/// Kernels must inline into the loop that was tiled for them, at any optimisation level.
#if defined(_MSC_VER) && !defined(__clang__)
#define BLOCKATTN_INLINE __forceinline
#define BLOCKATTN_LAMBDA_INLINE [[msvc::forceinline]]
#define BLOCKATTN_RESTRICT __restrict
#else
#define BLOCKATTN_INLINE inline __attribute__((always_inline))
#define BLOCKATTN_LAMBDA_INLINE __attribute__((always_inline))
#define BLOCKATTN_RESTRICT __restrict__
#endif

#if defined(__cpp_exceptions) && __cpp_exceptions
#define BLOCKATTN_EXCEPTIONS 1
#else
#define BLOCKATTN_EXCEPTIONS 0
#endif

namespace blockattn::inline v0 {

/// A vocabulary id. Negative ids are never valid.
using token = std::int32_t;

/// Every payload buffer of the library starts on such a boundary: a cache line, and a full AVX-512 register.
inline constexpr std::size_t alignment = 64;

/// The smallest multiple of `step` that is not below `n`. `step` must not be zero.
[[nodiscard]] constexpr std::size_t round_up(std::size_t n, std::size_t step) noexcept {
  return (n + step - 1) / step * step;
}

/// `n / step`, rounded up; no n overflows.
[[nodiscard]] constexpr std::size_t ceil_div(std::size_t n, std::size_t step) noexcept {
  return n / step + (n % step != 0 ? 1 : 0);
}

inline namespace literals {
constexpr std::size_t operator""_KiB(unsigned long long n) { return static_cast<std::size_t>(n) << 10; }
constexpr std::size_t operator""_MiB(unsigned long long n) { return static_cast<std::size_t>(n) << 20; }
constexpr std::size_t operator""_GiB(unsigned long long n) { return static_cast<std::size_t>(n) << 30; }
}  // namespace literals

}  // namespace blockattn::inline v0
