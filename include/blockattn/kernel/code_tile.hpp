// SPDX-License-Identifier: MIT
/// The register tile of quantised weights: rows of 8-bit codes times panels of codes.
///
///     out[r][j]  (+)=  sum over groups g of  scale[g][j] * row_scale[r][g] * dot(r, j, g)  +  offset[g][j] * row_sum[r][g]
///
/// dot: the exact integer sum over the group of row code * (code - zero). In the order of g, an output takes one fused
/// multiply-add of the dot, as a float, times the rounded product of the two scales, then one for the offset. The chain
/// does not depend on the tile, and a product may be cut between groups with the accumulator stored: as in kernel/tile.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "code_rows.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// The operands of a product. Rows: as `pack_code_rows` lays out one tile.
struct code_operands {
  const std::byte* rows = nullptr;
  const std::uint8_t* codes = nullptr;  // [groups][steps][16][4] of the first panel
  std::size_t panel_stride = 0;         // bytes from the codes of one panel to those of the next
  const float* scales = nullptr;        // [groups][16] of the first panel
  const float* offsets = nullptr;       // the same, or null
  std::size_t scale_stride = 0;         // floats from the scales of one panel to those of the next
  std::size_t groups = 0;
  float* out = nullptr;
  std::size_t out_stride = 0;
  bool accumulate = false;
  const void* next = nullptr;           // prefetched, `next_step` bytes for each step
  std::size_t next_step = 0;
};

/// Rows of the largest tile. Integer accumulators take up to half of the register file; where it has room, the float ones
/// take the other half, else they stay in the L1 cache.
#if defined(__AVX512F__)
inline constexpr std::size_t code_tile_rows = 6;  // x 2 panels: 12 + 12 of 32 registers
#elif defined(__aarch64__)
inline constexpr std::size_t code_tile_rows = 5;  // 20 of 32
#elif defined(__AVX2__)
inline constexpr std::size_t code_tile_rows = 4;  // 8 of 16
#else
inline constexpr std::size_t code_tile_rows = 2;
#endif

/// Panels beside each other in a tile of `rows` rows.
[[nodiscard]] constexpr std::size_t code_tile_panels(std::size_t rows) noexcept {
  if (f32x16::registers == 1) return 2;
  return std::clamp<std::size_t>(code_tile_rows / rows, 1, 4);
}

/// What a type asks of the micro-kernel: steps of a group, and whether groups have offsets.
enum class code_kind : std::uint8_t { plain, with_offsets, halves };

[[nodiscard]] constexpr code_kind code_kind_of(dtype type) noexcept {
  return group_elements(type) == 16 ? code_kind::halves : has_offsets(type) ? code_kind::with_offsets : code_kind::plain;
}

/// The micro-kernel: `Rows` x 16 * `Cols` outputs.
template <std::size_t Rows, std::size_t Cols, code_kind Kind>
void code_tile(const code_operands& o) noexcept {
  constexpr bool in_registers = f32x16::registers == 1;
  constexpr std::size_t steps = Kind == code_kind::halves ? 4 : 8;
  constexpr bool with_offsets = Kind == code_kind::with_offsets;
  const std::size_t panel_stride = o.panel_stride, scale_stride = o.scale_stride, out_stride = o.out_stride;
  const std::size_t next_step = o.next_step;
  float* const out = o.out;
  const std::byte* row = o.rows;
  const std::uint8_t* codes = o.codes;
  const float* scales = o.scales;
  const float* offsets = o.offsets;
  std::uintptr_t next = reinterpret_cast<std::uintptr_t>(o.next);

  f32x16 acc[Rows][in_registers ? Cols : 1];  // where floats stay in memory: of one output at a time
  const auto fetch = [&](auto r, auto c, bool anew) BLOCKATTN_LAMBDA_INLINE {
    return anew ? zero16() : load(out + r * out_stride + 16 * c);
  };
  if constexpr (in_registers) {
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE { acc[r][c] = fetch(r, c, !o.accumulate); });
    });
  }
  bool anew = !o.accumulate;
  for (std::size_t g = o.groups; g != 0; --g) {
    const std::byte* const head = row;
    const auto word = [&](std::size_t i) BLOCKATTN_LAMBDA_INLINE { return isa_detail::load_word(head + 4 * i); };
    row += 12 * Rows;
    i32x16 dot[Rows][Cols];
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      const i32x16 start = broadcast(word(r));
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE { dot[r][c] = start; });
    });
    // Written out: a loop would copy all accumulators in every step.
    unroll<steps>([&](auto s) BLOCKATTN_LAMBDA_INLINE {
      code_step::apply<Rows, Cols>(dot, row + s * Rows * code_step::row_bytes, code_step::row_bytes,
                                   codes + s * code_panels::step_bytes, panel_stride);
      prefetch(reinterpret_cast<const void*>(next));
      next += next_step;
    });
    row += steps * Rows * code_step::row_bytes;
    codes += steps * code_panels::step_bytes;
    // Column by column: the scales of one panel are in registers at a time.
    unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE {
      const f32x16 scale = load(scales + c * scale_stride);
      f32x16 offset;
      if constexpr (with_offsets) offset = load(offsets + c * scale_stride);
      unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
        f32x16& sum = acc[r][in_registers ? std::size_t{c} : 0];
        if constexpr (!in_registers) sum = fetch(r, c, anew);
        const f32x16 both = scale * broadcast(std::bit_cast<float>(word(Rows + r)));
        sum = fma(to_float(dot[r][c]), both, sum);
        if constexpr (with_offsets) sum = fma(offset, broadcast(std::bit_cast<float>(word(2 * Rows + r))), sum);
        if constexpr (!in_registers) store(out + r * out_stride + 16 * c, sum);
      });
    });
    anew = false;
    scales += 16;
    if constexpr (with_offsets) offsets += 16;
  }
  if constexpr (in_registers) {
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      unroll<Cols>([&](auto c) BLOCKATTN_LAMBDA_INLINE { store(out + r * out_stride + 16 * c, acc[r][c]); });
    });
  }
}

namespace isa_detail {
// The micro-kernels by height: as wide as the height allows, and one panel wide.
struct code_tile_entry {
  void (*wide)(const code_operands&) noexcept;
  void (*one)(const code_operands&) noexcept;
};
template <code_kind Kind, std::size_t... I>
constexpr std::array<code_tile_entry, code_tile_rows> make_code_tiles(std::index_sequence<I...>) noexcept {
  return {{{&code_tile<I + 1, code_tile_panels(I + 1), Kind>, &code_tile<I + 1, 1, Kind>}...}};
}
template <code_kind Kind>
inline constexpr std::array<code_tile_entry, code_tile_rows> code_tiles =
    make_code_tiles<Kind>(std::make_index_sequence<code_tile_rows>{});
}  // namespace isa_detail

/// One tile of `height` rows (1 to `code_tile_rows`) against `panels` panels, any number. At least one group.
template <code_kind Kind>
void multiply_code_tile(std::size_t height, std::size_t panels, code_operands o) noexcept {
  BLOCKATTN_EXPECTS(height >= 1 && height <= code_tile_rows && o.groups != 0);
  if (o.next_step == 0) o.next = o.codes;
  const auto& kernels = isa_detail::code_tiles<Kind>[height - 1];
  const std::size_t widest = code_tile_panels(height);
  while (panels != 0) {
    const std::size_t now = panels >= widest ? widest : 1;
    (now == widest ? kernels.wide : kernels.one)(o);
    o.codes += now * o.panel_stride;
    o.scales += now * o.scale_stride;
    if constexpr (Kind == code_kind::with_offsets) o.offsets += now * o.scale_stride;
    o.out += now * panel_width;
    panels -= now;
  }
}

// As in kernel/tile.hpp, of the tiles of codes.
#define BLOCKATTN_CODE_TILE_KERNELS(prefix)                                                              \
  prefix void multiply_code_tile<code_kind::plain>(std::size_t, std::size_t, code_operands) noexcept;        \
  prefix void multiply_code_tile<code_kind::with_offsets>(std::size_t, std::size_t, code_operands) noexcept; \
  prefix void multiply_code_tile<code_kind::halves>(std::size_t, std::size_t, code_operands) noexcept;
#if defined(BLOCKATTN_COMPILED_KERNELS)
BLOCKATTN_CODE_TILE_KERNELS(extern template)
#endif

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
