// SPDX-License-Identifier: MIT
/// Sixteen numbers of the type that training runs in: f32x16 of simd/batch.hpp, and the same of doubles in plain C++, by
/// which gradients are checked. The names are those of f32x16, so that one body serves both.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "../simd/math.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// Sixteen doubles. Slow: for proofs.
struct f64x16 {
  double v[16];

  template <class F>
  static f64x16 each(F&& f) noexcept {
    f64x16 out;
    for (std::size_t i = 0; i < 16; ++i) out.v[i] = f(i);
    return out;
  }
  friend f64x16 operator+(const f64x16& x, const f64x16& y) noexcept {
    return each([&](std::size_t i) { return x.v[i] + y.v[i]; });
  }
  friend f64x16 operator-(const f64x16& x, const f64x16& y) noexcept {
    return each([&](std::size_t i) { return x.v[i] - y.v[i]; });
  }
  friend f64x16 operator*(const f64x16& x, const f64x16& y) noexcept {
    return each([&](std::size_t i) { return x.v[i] * y.v[i]; });
  }
  friend f64x16 operator/(const f64x16& x, const f64x16& y) noexcept {
    return each([&](std::size_t i) { return x.v[i] / y.v[i]; });
  }
  friend f64x16 max(const f64x16& x, const f64x16& y) noexcept {
    return each([&](std::size_t i) { return x.v[i] < y.v[i] ? y.v[i] : x.v[i]; });
  }
  friend f64x16 fma(const f64x16& x, const f64x16& y, const f64x16& z) noexcept {
    return each([&](std::size_t i) { return x.v[i] * y.v[i] + z.v[i]; });
  }
  friend f64x16 exp(const f64x16& x) noexcept {
    return each([&](std::size_t i) { return std::exp(x.v[i]); });
  }
  friend f64x16 square_root(const f64x16& x) noexcept {
    return each([&](std::size_t i) { return std::sqrt(x.v[i]); });
  }
};

/// How many of sixteen numbers there are: all, known to the compiler.
struct all_lanes {};

/// Loads, stores and reductions of T. Tails go through the same vector code, padded with zeros, so that an element has
/// the same bits at any offset.
template <class T>
struct lanes {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
  using vec = std::conditional_t<std::is_same_v<T, float>, f32x16, f64x16>;

  BLOCKATTN_INLINE static vec broadcast(T x) noexcept {
    if constexpr (std::is_same_v<T, float>) return v0::broadcast(x);
    else return vec::each([x](std::size_t) { return x; });
  }
  BLOCKATTN_INLINE static vec zero() noexcept { return broadcast(T(0)); }

  BLOCKATTN_INLINE static vec load(const T* p, all_lanes = {}) noexcept {
    if constexpr (std::is_same_v<T, float>) return v0::load(p);
    else return vec::each([p](std::size_t i) { return p[i]; });
  }
  BLOCKATTN_INLINE static void store(T* p, const vec& x, all_lanes = {}) noexcept {
    if constexpr (std::is_same_v<T, float>) v0::store(p, x);
    else std::memcpy(p, x.v, sizeof(x.v));
  }
  /// The first n of sixteen; the rest is zero, and is not written.
  BLOCKATTN_INLINE static vec load(const T* p, std::size_t n) noexcept {
    alignas(alignment) T all[16] = {};
    std::memcpy(all, p, n * sizeof(T));
    return load(all);
  }
  BLOCKATTN_INLINE static void store(T* p, const vec& x, std::size_t n) noexcept {
    alignas(alignment) T all[16];
    store(all, x);
    std::memcpy(p, all, n * sizeof(T));
  }

  BLOCKATTN_INLINE static T sum(const vec& x) noexcept {
    if constexpr (std::is_same_v<T, float>) {
      return reduce_add(x);
    } else {
      T out = 0;
      for (const T e : x.v) out += e;
      return out;
    }
  }
  BLOCKATTN_INLINE static T top(const vec& x) noexcept {
    if constexpr (std::is_same_v<T, float>) {
      return reduce_max(x);
    } else {
      T out = x.v[0];
      for (const T e : x.v) out = out < e ? e : out;
      return out;
    }
  }

  /// Calls f(i, n) for steps of sixteen elements from i, n being `all_lanes`, or the number left in the last step.
  template <class F>
  BLOCKATTN_INLINE static void for_each(std::size_t n, F&& f) noexcept {
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) f(i, all_lanes{});
    if (i < n) f(i, n - i);
  }
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
