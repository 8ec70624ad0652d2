// SPDX-License-Identifier: MIT
/// What training does to one row: RMSNorm, rotation, SwiGLU, softmax, and the derivative of each.
#pragma once

#include <cmath>
#include <limits>

#include "../kernel/rope_config.hpp"
#include "lanes.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// <x, y>, over sixteen partial sums.
template <class T>
[[nodiscard]] inline T dot_rows(const T* x, const T* y, std::size_t n) noexcept {
  using l = lanes<T>;
  auto sums = l::zero();
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    sums = fma(l::load(x + i, k), l::load(y + i, k), sums);
  });
  return l::sum(sums);
}

/// x[i] += y[i].
template <class T>
inline void add_row(T* x, const T* y, std::size_t n) noexcept {
  using l = lanes<T>;
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    l::store(x + i, l::load(x + i, k) + l::load(y + i, k), k);
  });
}

/// y = x * w * s with s = 1 / sqrt(mean(x^2) + epsilon); returns s. y may be x.
template <class T>
inline T norm_row(const T* x, const T* w, std::size_t n, T epsilon, T* y) noexcept {
  using l = lanes<T>;
  const T s = T(1) / std::sqrt(dot_rows(x, x, n) / static_cast<T>(n) + epsilon);
  const auto scale = l::broadcast(s);
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    l::store(y + i, l::load(x + i, k) * scale * l::load(w + i, k), k);
  });
  return s;
}

/// The same with a known s.
template <class T>
inline void norm_row_again(const T* x, const T* w, std::size_t n, T s, T* y) noexcept {
  using l = lanes<T>;
  const auto scale = l::broadcast(s);
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    l::store(y + i, l::load(x + i, k) * scale * l::load(w + i, k), k);
  });
}

/// The derivative of `norm_row`: dx (+)= s (w dy - x s^2 <w dy, x> / n), dw += dy x s. Without `Add` dx is written, and may
/// be dy.
template <bool Add, class T>
inline void norm_row_back(const T* dy, const T* x, const T* w, std::size_t n, T s, T* dx, T* dw) noexcept {
  using l = lanes<T>;
  auto sums = l::zero();
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    sums = fma(l::load(dy + i, k) * l::load(w + i, k), l::load(x + i, k), sums);
  });
  const auto scale = l::broadcast(s), pull = l::broadcast(-s * s * s * l::sum(sums) / static_cast<T>(n));
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    const auto d = l::load(dy + i, k) * scale, at = l::load(x + i, k);
    const auto out = fma(at, pull, d * l::load(w + i, k));
    l::store(dw + i, fma(d, at, l::load(dw + i, k)), k);
    if constexpr (Add) {
      l::store(dx + i, l::load(dx + i, k) + out, k);
    } else {
      l::store(dx + i, out, k);
    }
  });
}

/// Turns a head by `table`, cos[pairs] and sin[pairs] with the magnitude of RoPE on both; `Back` applies the transpose,
/// which is the derivative.
template <bool Back, class T>
inline void turn(T* head, const T* table, std::size_t pairs, rope_layout layout) noexcept {
  using l = lanes<T>;
  const T *cosines = table, *sines = table + pairs;
  if (layout == rope_layout::half_split) {
    T *low = head, *high = head + pairs;
    l::for_each(pairs, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
      const auto x = l::load(low + i, k), y = l::load(high + i, k), c = l::load(cosines + i, k);
      const auto s = Back ? l::zero() - l::load(sines + i, k) : l::load(sines + i, k);
      l::store(low + i, x * c - y * s, k);
      l::store(high + i, x * s + y * c, k);
    });
    return;
  }
  for (std::size_t m = 0; m < pairs; ++m) {
    const T x = head[2 * m], y = head[2 * m + 1], c = cosines[m], s = Back ? -sines[m] : sines[m];
    head[2 * m] = x * c - y * s;
    head[2 * m + 1] = x * s + y * c;
  }
}

/// out = silu(gate) * up, of a row [gate | up] of 2n.
template <class T>
inline void swiglu_row(const T* row, std::size_t n, T* out) noexcept {
  using l = lanes<T>;
  const auto one = l::broadcast(T(1));
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    const auto g = l::load(row + i, k);
    l::store(out + i, g / (one + exp(l::zero() - g)) * l::load(row + n + i, k), k);
  });
}

/// Its derivative: replaces `row` by the gradient of it, and `d`, the gradient of out, by out.
template <class T>
inline void swiglu_row_back(T* row, std::size_t n, T* d) noexcept {
  using l = lanes<T>;
  const auto one = l::broadcast(T(1));
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE {
    const auto g = l::load(row + i, k), u = l::load(row + n + i, k), dy = l::load(d + i, k);
    const auto s = one / (one + exp(l::zero() - g)), silu_of_g = g * s;
    l::store(row + i, dy * u * fma(silu_of_g, one - s, s), k);
    l::store(row + n + i, dy * silu_of_g, k);
    l::store(d + i, silu_of_g * u, k);
  });
}

/// The largest of n numbers; a very small one for none.
template <class T>
[[nodiscard]] inline T largest_of(const T* x, std::size_t n, T before) noexcept {
  using l = lanes<T>;
  if (n < 16) {
    for (std::size_t i = 0; i < n; ++i) before = before < x[i] ? x[i] : before;
    return before;
  }
  auto top = l::load(x);
  std::size_t i = 16;
  for (; i + 16 <= n; i += 16) top = max(top, l::load(x + i));
  if (i < n) top = max(top, l::load(x + n - 16));  // some a second time
  const T most = l::top(top);
  return before < most ? most : before;
}

/// x <- exp(scale x - shift); returns the sum.
template <class T>
inline T exp_row(T* x, std::size_t n, T scale, T shift) noexcept {
  using l = lanes<T>;
  const auto factor = l::broadcast(scale), less = l::broadcast(-shift);
  auto sums = l::zero();
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const auto e = exp(fma(l::load(x + i), factor, less));
    l::store(x + i, e);
    sums = sums + e;
  }
  T rest = 0;
  if (i < n) {
    l::store(x + i, exp(fma(l::load(x + i, n - i), factor, less)), n - i);
    for (; i < n; ++i) rest += x[i];
  }
  return l::sum(sums) + rest;
}

/// x <- factor x.
template <class T>
inline void scale_row(T* x, std::size_t n, T factor) noexcept {
  using l = lanes<T>;
  const auto f = l::broadcast(factor);
  l::for_each(n, [&](std::size_t i, auto k) BLOCKATTN_LAMBDA_INLINE { l::store(x + i, l::load(x + i, k) * f, k); });
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
