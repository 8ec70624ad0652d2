// SPDX-License-Identifier: MIT
/// The register tile on AMX (simd/amx.hpp): up to 32 rows by 32 columns, or up to 16 by 64, of products of bf16 pairs.
/// The contract of kernel/tile.hpp holds with another chain: it does not depend on the tile that holds an output, and a
/// product may be cut along k at multiples of sixteen steps.
#pragma once

#include <algorithm>
#include <cstring>

#include "../core/element.hpp"
#include "../simd/amx.hpp"
#include "../simd/batch.hpp"
#include "../tensor/kv_panels.hpp"

#if BLOCKATTN_HAS_AMX

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// The operands of a product on tiles. Strides are in elements of the pointer they belong to. Rows are bf16, in runs of 32
/// elements of K (`amx_depth`): run b of row r starts at `rows + r * row_stride + b * run_stride`. Rows that follow each
/// other in memory have a run stride of 32; rows packed for tiles have a row stride of 32.
struct amx_operands {
  const bf16* rows = nullptr;
  std::size_t row_stride = 0;
  std::size_t run_stride = amx_depth;
  const bf16* panel = nullptr;
  std::size_t step_stride = 0;   // as in tile_operands
  std::size_t group_stride = 0;
  std::size_t steps = 0;         // of two elements; where sixteen do not divide it, rows are readable and zero up to there
  float* out = nullptr;
  std::size_t out_stride = 0;
  bool accumulate = false;
  const bf16* next = nullptr;    // panels multiplied after these, as far apart: of each, the cache lines of `next_lines`
  std::size_t next_lines = 0;    // steps are prefetched for each run
  bool near = false;             // panels stay in the L1 cache: rows are loaded past it, and `next` is fetched into it
};

namespace isa_detail {

// Groups of sixteen columns of one tile product.
[[nodiscard]] constexpr std::size_t amx_groups(std::size_t height) noexcept { return height > 16 ? 2 : 4; }

template <bool Tall, std::size_t Groups, bool Near>
struct amx_kernel;

// One run of K: both halves of the rows against two panels. Tile numbers are constants of the instructions.
template <std::size_t Groups, bool Near>
struct amx_kernel<true, Groups, Near> {
  static_assert(Groups == 1 || Groups == 2);
  static BLOCKATTN_INLINE void run(const bf16* rows, std::size_t row_bytes, std::size_t lower, const bf16* panel,
                                   std::size_t step_bytes, std::size_t group_stride) noexcept {
    const auto* below = reinterpret_cast<const std::byte*>(rows) + lower * row_bytes;
    _tile_loadd(6, panel, step_bytes);
    if constexpr (Near) _tile_stream_loadd(4, rows, row_bytes);
    else _tile_loadd(4, rows, row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Groups == 2) {
      _tile_loadd(7, panel + group_stride, step_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (Near) _tile_stream_loadd(5, below, row_bytes);
    else _tile_loadd(5, below, row_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (Groups == 2) _tile_dpbf16ps(3, 5, 7);
  }
  static BLOCKATTN_INLINE void begin(const float* out, std::size_t out_bytes, std::size_t lower,
                                     bool accumulate) noexcept {
    const auto* below = reinterpret_cast<const std::byte*>(out) + lower * out_bytes;
    if (accumulate) {
      _tile_loadd(0, out, out_bytes);
      _tile_loadd(2, below, out_bytes);
      if constexpr (Groups == 2) {
        _tile_loadd(1, out + 16, out_bytes);
        _tile_loadd(3, below + 64, out_bytes);
      }
    } else {
      _tile_zero(0);
      _tile_zero(2);
      if constexpr (Groups == 2) {
        _tile_zero(1);
        _tile_zero(3);
      }
    }
  }
  static BLOCKATTN_INLINE void end(float* out, std::size_t out_bytes, std::size_t lower) noexcept {
    auto* below = reinterpret_cast<std::byte*>(out) + lower * out_bytes;
    _tile_stored(0, out, out_bytes);
    if constexpr (Groups == 2) _tile_stored(1, out + 16, out_bytes);
    _tile_stored(2, below, out_bytes);
    if constexpr (Groups == 2) _tile_stored(3, below + 64, out_bytes);
  }
};

// The same for at most sixteen rows against one, two or four panels.
template <std::size_t Groups>
struct amx_kernel<false, Groups, false> {
  static_assert(Groups == 1 || Groups == 2 || Groups == 4);
  static BLOCKATTN_INLINE void run(const bf16* rows, std::size_t row_bytes, std::size_t, const bf16* panel,
                                   std::size_t step_bytes, std::size_t group_stride) noexcept {
    _tile_loadd(4, rows, row_bytes);
    _tile_loadd(6, panel, step_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (Groups >= 2) {
      _tile_loadd(7, panel + group_stride, step_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (Groups == 4) {
      _tile_loadd(5, panel + 2 * group_stride, step_bytes);
      _tile_dpbf16ps(2, 4, 5);
      _tile_loadd(6, panel + 3 * group_stride, step_bytes);
      _tile_dpbf16ps(3, 4, 6);
    }
  }
  static BLOCKATTN_INLINE void begin(const float* out, std::size_t out_bytes, std::size_t, bool accumulate) noexcept {
    if (accumulate) {
      _tile_loadd(0, out, out_bytes);
      if constexpr (Groups >= 2) _tile_loadd(1, out + 16, out_bytes);
      if constexpr (Groups == 4) {
        _tile_loadd(2, out + 32, out_bytes);
        _tile_loadd(3, out + 48, out_bytes);
      }
    } else {
      _tile_zero(0);
      if constexpr (Groups >= 2) _tile_zero(1);
      if constexpr (Groups == 4) {
        _tile_zero(2);
        _tile_zero(3);
      }
    }
  }
  static BLOCKATTN_INLINE void end(float* out, std::size_t out_bytes, std::size_t) noexcept {
    _tile_stored(0, out, out_bytes);
    if constexpr (Groups >= 2) _tile_stored(1, out + 16, out_bytes);
    if constexpr (Groups == 4) {
      _tile_stored(2, out + 32, out_bytes);
      _tile_stored(3, out + 48, out_bytes);
    }
  }
};

template <bool Tall, std::size_t Groups, bool Near = false>
void amx_tile(std::size_t lower, const amx_operands& o) noexcept {
  using kernel = amx_kernel<Tall, Groups, Near>;
  const std::size_t row_bytes = o.row_stride * sizeof(bf16), step_bytes = o.step_stride * sizeof(bf16);
  const std::size_t out_bytes = o.out_stride * sizeof(float), whole = o.steps / amx_steps, rest = o.steps % amx_steps;
  // Compilers take the intrinsics for code that touches no memory.
  asm volatile("" ::: "memory");
  kernel::begin(o.out, out_bytes, lower, o.accumulate);
  const bf16* rows = o.rows;
  const bf16* panel = o.panel;
  auto next = reinterpret_cast<std::uintptr_t>(o.next);  // a number: it may pass the end of an array
  const std::size_t next_stride = o.group_stride * sizeof(bf16);
  for (std::size_t b = 0; b < whole; ++b) {
    kernel::run(rows, row_bytes, lower, panel, step_bytes, o.group_stride);
    for (std::size_t i = 0; i < o.next_lines; ++i, next += step_bytes)
      for (std::size_t g = 0; g < Groups; ++g) {
        const auto* const at = reinterpret_cast<const void*>(next + g * next_stride);
        Near ? prefetch_near(at) : prefetch(at);
      }
    rows += o.run_stride;
    panel += o.step_stride * amx_steps;
  }
  if (rest != 0) {
    // Behind the last step lies another panel, or nothing: the rest of the tile is a copy with zeros.
    alignas(64) bf16 copy[Groups][amx_steps * amx_depth] = {};
    for (std::size_t g = 0; g < Groups; ++g)
      for (std::size_t s = 0; s < rest; ++s)
        std::memcpy(&copy[g][s * amx_depth], panel + g * o.group_stride + s * o.step_stride, 64);
    asm volatile("" ::: "memory");
    kernel::run(rows, row_bytes, lower, copy[0], 64, amx_steps * amx_depth);
  }
  kernel::end(o.out, out_bytes, lower);
  asm volatile("" ::: "memory");
}

}  // namespace isa_detail

/// out(height, 16 * groups) (+)= rows times panels, any number of groups. The calling thread's tiles have the shape of
/// this height (`amx_tiles`).
inline void amx_multiply(std::size_t height, std::size_t groups, amx_operands o) noexcept {
  BLOCKATTN_EXPECTS(height >= 1 && height <= amx_rows);
  const std::size_t lower = amx_tiles::upper_rows(height), widest = isa_detail::amx_groups(height);
  while (groups != 0) {
    std::size_t now = 1;
    if (height > 16) {
      now = groups >= 2 ? 2 : 1;
      (now == 1 ? isa_detail::amx_tile<true, 1>
       : o.near ? isa_detail::amx_tile<true, 2, true>
                : isa_detail::amx_tile<true, 2>)(lower, o);
    } else {
      now = groups >= 4 ? 4 : groups >= 2 ? 2 : 1;
      (now == 4   ? isa_detail::amx_tile<false, 4>
       : now == 2 ? isa_detail::amx_tile<false, 2>
                  : isa_detail::amx_tile<false, 1>)(lower, o);
    }
    o.panel += now * o.group_stride;
    o.out += now * panel_width;
    groups -= now;
    if (now < widest) o.next_lines = 0;
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0

#endif
