// SPDX-License-Identifier: MIT
/// Matrix products of training: C (+)= A B with either factor transposed where it lies.
///
/// B is packed into panels of sixteen or thirty-two columns; A is read in place. A tile of C stays in registers, an element
/// is one chain in the order of the inner index, cut every `depth_step` steps where C is written and read back. Which
/// worker computes a tile changes no bit, nor does the number of rows.
#pragma once

#include <algorithm>
#include <span>

#include "../core/executor.hpp"
#include "../core/memory.hpp"
#include "bf16_product.hpp"
#include "lanes.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// How products of T are cut.
template <class T>
struct product_shape {
  static constexpr bool wide = !std::is_same_v<T, float> || f32x16::registers == 1;
  static constexpr std::size_t vectors = wide ? 2 : 1;  // of sixteen, of a panel
  static constexpr std::size_t panel = 16 * vectors;    // columns
  static constexpr std::size_t tile = std::is_same_v<T, double> ? 4 : wide ? 12 : vector_registers == 32 ? 6 : f32x16::registers == 2 ? 6 : 3;
  static constexpr std::size_t depth_step = 256;  // a panel of so many steps lies in the L1 cache
};

/// Elements of a packed factor of `depth` rows and `cols` columns. Products of type bf16 keep bf16 in the place of T.
template <class T>
[[nodiscard]] constexpr std::size_t packed_elements(std::size_t depth, std::size_t cols,
                                                    product_type type = product_type::f32) noexcept {
  if (type == product_type::bf16) return ceil_div(bf16_elements(depth, cols) * sizeof(bf16), sizeof(T));
  return depth * round_up(cols, product_shape<T>::panel);
}

/// Packs panel `p` of B (depth, cols), as [depth][panel], zeros beyond the last column.
template <class T>
void pack_panel(const factor<T>& b, std::size_t depth, std::size_t cols, std::size_t p, T* out) noexcept {
  constexpr std::size_t width = product_shape<T>::panel;
  const std::size_t first = p * width, n = std::min(width, cols - first);
  if (!b.transposed) {
    const T* from = b.data + first;
    for (std::size_t k = 0; k < depth; ++k, from += b.stride, out += width) {
      if (n == width) {
        for (std::size_t v = 0; v < width; v += 16) lanes<T>::store(out + v, lanes<T>::load(from + v));
      } else {
        std::copy_n(from, n, out);
        std::fill_n(out + n, width - n, T(0));
      }
    }
    return;
  }
  const T* from = b.data + first * b.stride;
  if (n < width) std::fill_n(out, depth * width, T(0));
  // Columns in fours: one line of `out` takes four neighbours at a time.
  std::size_t j = 0;
  for (; j + 4 <= n; j += 4, from += 4 * b.stride) {
    const T *a = from, *c = a + b.stride, *d = c + b.stride, *e = d + b.stride;
    T* to = out + j;
    for (std::size_t k = 0; k < depth; ++k, to += width) to[0] = a[k], to[1] = c[k], to[2] = d[k], to[3] = e[k];
  }
  for (; j < n; ++j, from += b.stride)
    for (std::size_t k = 0; k < depth; ++k) out[k * width + j] = from[k];
}

/// Packs all of B. Products of type bf16 are those of floats.
template <class T>
void pack_factor(const factor<T>& b, std::size_t depth, std::size_t cols, T* out,
                 product_type type = product_type::f32) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    if (type == product_type::bf16) return pack_bf16(b, depth, cols, reinterpret_cast<bf16*>(out));
  }
  constexpr std::size_t width = product_shape<T>::panel;
  for (std::size_t p = 0; p * width < cols; ++p) pack_panel(b, depth, cols, p, out + p * depth * width);
}

namespace isa_detail {
// The same number, of which the optimiser knows nothing: else it computes every address of C before the loop, keeps them on
// the stack, and a short product spends as long on them as on its sums.
template <class N>
BLOCKATTN_INLINE N unknown(N n) noexcept {
#if defined(__GNUC__)
  asm("" : "+r"(n));
#endif
  return n;
}

// Rows x (16 Vectors) of C in registers; of the last vector the first `last` columns are C's.
template <class T, std::size_t Rows, std::size_t Vectors, bool Transposed>
void product_tile(const T* a, std::size_t stride, const T* panel, std::size_t depth, T* c, std::size_t c_stride,
                  std::size_t last, bool accumulate) noexcept {
  using l = lanes<T>;
  constexpr std::size_t width = product_shape<T>::panel, tail = 16 * (Vectors - 1);
  typename l::vec acc[Rows][Vectors];
  unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
    unroll<Vectors>([&](auto v) BLOCKATTN_LAMBDA_INLINE { acc[r][v] = l::zero(); });
  });
  if (accumulate) {
    const T* at = c;
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      unroll<Vectors - 1>([&](auto v) BLOCKATTN_LAMBDA_INLINE { acc[r][v] = l::load(at + 16 * v); });
      acc[r][Vectors - 1] = last == 16 ? l::load(at + tail) : l::load(at + tail, last);
      at = unknown(at + c_stride);
    });
  }
  for (std::size_t k = 0; k < depth; ++k) {
    typename l::vec b[Vectors];
    unroll<Vectors>([&](auto v) BLOCKATTN_LAMBDA_INLINE { b[v] = l::load(panel + 16 * v); });
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      const auto x = l::broadcast(Transposed ? a[r] : a[r * stride]);
      unroll<Vectors>([&](auto v) BLOCKATTN_LAMBDA_INLINE { acc[r][v] = fma(x, b[v], acc[r][v]); });
    });
    a += Transposed ? stride : 1;
    panel += width;
  }
  T* at = unknown(c);
  unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
    unroll<Vectors - 1>([&](auto v) BLOCKATTN_LAMBDA_INLINE { l::store(at + 16 * v, acc[r][v]); });
    if (last == 16) l::store(at + tail, acc[r][Vectors - 1]);
    else l::store(at + tail, acc[r][Vectors - 1], last);
    at = unknown(at + c_stride);
  });
}

template <class T, std::size_t Rows, bool Transposed>
void product_rows(const T* a, std::size_t stride, const T* panel, std::size_t depth, std::size_t n, T* c,
                  std::size_t c_stride, bool accumulate) noexcept {
  if constexpr (product_shape<T>::vectors == 2) {
    if (n > 16) return product_tile<T, Rows, 2, Transposed>(a, stride, panel, depth, c, c_stride, n - 16, accumulate);
  }
  product_tile<T, Rows, 1, Transposed>(a, stride, panel, depth, c, c_stride, n, accumulate);
}

// One panel of at most `product_shape::panel` columns, n of them C's, under all rows.
template <class T, bool Transposed>
void product_panel(const T* a, std::size_t stride, std::size_t rows, const T* panel, std::size_t depth, std::size_t n,
                   T* c, std::size_t c_stride, bool accumulate) noexcept {
  constexpr std::size_t tile = product_shape<T>::tile;
  std::size_t r = 0;
  const auto step = [&](auto height) {
    for (; r + height <= rows; r += height)
      product_rows<T, height, Transposed>(a + r * (Transposed ? 1 : stride), stride, panel, depth, n, c + r * c_stride,
                                          c_stride, accumulate);
  };
  step(std::integral_constant<std::size_t, tile>{});
  if constexpr (tile > 6) step(std::integral_constant<std::size_t, 6>{});
  if constexpr (tile > 2) step(std::integral_constant<std::size_t, 2>{});
  step(std::integral_constant<std::size_t, 1>{});
}
}  // namespace isa_detail

namespace isa_detail {
// Of a transposed A, so many of its columns and rows are copied at a time.
inline constexpr std::size_t copied_rows = 96, copied_steps = 128;

template <class T, bool Transposed>
void product_step(const T* a, std::size_t stride, std::size_t rows, const T* panels, std::size_t packed_depth,
                  std::size_t depth, std::size_t cols, T* c, std::size_t c_stride, bool accumulate) noexcept {
  constexpr std::size_t width = product_shape<T>::panel;
  for (std::size_t j = 0; j < cols; j += width)
    product_panel<T, Transposed>(a, stride, rows, panels + j * packed_depth, depth, std::min(width, cols - j), c + j,
                                 c_stride, accumulate);
}
}  // namespace isa_detail

/// C (rows, cols) (+)= A (rows, depth) B, on this thread. `packed` is B, of at least `cols` columns and `packed_depth`
/// rows, of which the first `depth` are used. Columns of C beyond `cols` are not touched. With depth 0, C is 0.
template <class T>
void multiply_packed(const factor<T>& a, std::size_t rows, const T* packed, std::size_t packed_depth, std::size_t depth,
                     std::size_t cols, T* c, std::size_t c_stride, bool accumulate,
                     product_type type = product_type::f32) noexcept {
  if constexpr (std::is_same_v<T, float>) {
    if (type == product_type::bf16)
      return multiply_bf16(a, rows, reinterpret_cast<const bf16*>(packed), packed_depth, depth, cols, c, c_stride, accumulate);
  }
  using shape = product_shape<T>;
  const std::size_t step = a.transposed ? isa_detail::copied_steps : shape::depth_step;
  for (std::size_t k = 0; k < depth || (k == 0 && !accumulate); k += step) {
    const std::size_t steps = std::min(step, depth - k);
    const T* const panels = packed + k * shape::panel;
    const bool add = accumulate || k != 0;
    if (!a.transposed) {
      isa_detail::product_step<T, false>(a.data + k, a.stride, rows, panels, packed_depth, steps, cols, c, c_stride, add);
      continue;
    }
    // Columns of a row-major matrix often lie a multiple of 4 KiB apart, where a cache keeps few of them: a copy first.
    alignas(alignment) T copy[isa_detail::copied_rows * isa_detail::copied_steps];
    for (std::size_t r = 0; r < rows; r += isa_detail::copied_rows) {
      const std::size_t n = std::min(isa_detail::copied_rows, rows - r);
      const std::size_t width = round_up(n, 16);
      for (std::size_t i = 0; i < steps; ++i) {
        const T* const line = a.data + (k + i) * a.stride + r;
        for (std::size_t j = 0; j < n; j += 64 / sizeof(T)) prefetch_near(line + 12 * a.stride + j);
        lanes<T>::for_each(n, [&](std::size_t j, auto m) BLOCKATTN_LAMBDA_INLINE {
          lanes<T>::store(copy + i * width + j, lanes<T>::load(line + j, m));
        });
      }
      isa_detail::product_step<T, true>(copy, width, n, panels, packed_depth, steps, cols, c + r * c_stride, c_stride, add);
    }
  }
}

/// An array on a cache line that grows and is kept from pass to pass, by an eighth more than is needed: passes differ a
/// little, and new memory is slow. Its contents are lost when it grows.
template <class T>
class growing_array {
 public:
  T* take(std::size_t elements) {
    if (buffer_.size() < elements * sizeof(T)) {
      buffer_ = aligned_buffer<>();
      buffer_ = aligned_buffer<>((elements + elements / 8) * sizeof(T));
    }
    return data();
  }
  [[nodiscard]] T* data() noexcept { return buffer_.template as<T>(); }

 private:
  aligned_buffer<> buffer_;
};

/// A factor to be packed: (depth, cols) to `packed_elements(depth, cols)` elements.
template <class T>
struct packing {
  factor<T> from;
  std::size_t depth = 0, cols = 0;
  T* to = nullptr;
};

/// Packs several factors over all workers.
template <class T>
void pack_factors(executor_ref workers, std::span<const packing<T>> all, product_type type = product_type::f32) {
  const std::size_t width = type == product_type::bf16 ? bf16_group : product_shape<T>::panel;
  std::size_t panels = 0;
  for (const packing<T>& p : all) panels += ceil_div(p.cols, width);
  workers.for_each(panels, [&](std::size_t, std::size_t i) {
    for (const packing<T>& p : all) {
      const std::size_t n = ceil_div(p.cols, width);
      if (i >= n) {
        i -= n;
        continue;
      }
      if constexpr (std::is_same_v<T, float>) {
        if (type == product_type::bf16)
          return pack_bf16_group(p.from, p.depth, p.cols, i, reinterpret_cast<bf16*>(p.to) + i * bf16_elements(p.depth, 1));
      }
      return pack_panel(p.from, p.depth, p.cols, i, p.to + i * p.depth * width);
    }
  });
}

/// C (rows, cols) (+)= A (rows, depth) B (depth, cols), over all workers. Tasks are fixed parts of C.
template <class T>
void multiply(executor_ref workers, growing_array<T>& space, const factor<T>& a, const factor<T>& b, std::size_t rows,
              std::size_t cols, std::size_t depth, T* c, std::size_t c_stride, bool accumulate = false,
              product_type type = product_type::f32) {
  if (rows == 0 || cols == 0) return;
  // A transposed A is read in pieces of its lines: the wider, the better; but a few tasks there must be. Such products are
  // as deep as there are rows of activations: in parts of them, so that what is packed stays in a cache.
  constexpr std::size_t most = isa_detail::copied_rows, tile = product_shape<T>::tile;
  const bool rounded = type == product_type::bf16;
  const std::size_t down = rounded          ? (rows <= 4 * bf16_rows ? bf16_rows / 2 : bf16_rows)
                           : a.transposed   ? round_up(ceil_div(rows, ceil_div(rows, most)), tile)
                                            : 48;
  const std::size_t across = !rounded && a.transposed && rows <= most ? 3 * product_shape<T>::panel : cols;
  const std::size_t deep = a.transposed ? std::min<std::size_t>(depth, 512) : depth;
  const std::size_t parts = ceil_div(cols, across);
  T* const packed = space.take(packed_elements<T>(deep, cols, type));
  for (std::size_t k = 0; k < depth || k == 0; k += std::max<std::size_t>(deep, 1)) {
    const std::size_t steps = std::min(deep, depth - k);
    const packing<T> only[] = {{{b.data + (b.transposed ? k : k * b.stride), b.stride, b.transposed}, steps, cols, packed}};
    pack_factors<T>(workers, only, type);
    const T* const first = a.data + (a.transposed ? k * a.stride : k);
    workers.for_each(ceil_div(rows, down) * parts, [&](std::size_t, std::size_t i) {
      const std::size_t r = i / parts * down, j = i % parts * across;
      const factor<T> from{first + (a.transposed ? r : r * a.stride), a.stride, a.transposed};
      multiply_packed(from, std::min(down, rows - r), packed + j * steps, steps, steps, std::min(across, cols - j),
                      c + r * c_stride + j, c_stride, accumulate || k != 0, type);
    });
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
