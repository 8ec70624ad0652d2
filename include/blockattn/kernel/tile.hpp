// SPDX-License-Identifier: MIT
/// The register tile: the one inner loop of the library. A projection, a score (query times key) and a weighted sum of
/// values are the same product of rows with panels of sixteen lanes (tensor/kv_panels.hpp):
///
///     out[r][16 g + j]  (+)=  sum over steps k of  rows[r][k] . panel[k][g][j]         "." = product of one lane
///
/// Every output element is one chain of fused multiply-adds in the order of k, started from zero or from `out`. The
/// chain does not depend on the tile that holds it: rows and groups may be split in any way, and a product may be cut
/// along k with the accumulator stored between the parts, without changing a bit.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "../simd/dot.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// How the left operand lies in memory.
/// - `strided`: row r starts at `rows + r * row_stride`; consecutive steps follow each other.
/// - `interleaved`: `[steps][tile rows][lane]`, the rows of one register tile side by side, tile after tile as
///   `row_tiles` cuts them; tile t starts at `rows + row_tiles.begin(t) * row_stride`, with row_stride = elements of
///   one whole row. All rows of a step are then at fixed distances, which large tiles need: a dozen row pointers do
///   not fit the integer registers, and rows a power of two apart collide in the L1 cache.
enum class row_order : std::uint8_t { strided, interleaved };

/// The operands of a product. Strides are in elements of the pointer they belong to.
template <class Panel, class Row>
struct tile_operands {
  const Row* rows = nullptr;
  std::size_t row_stride = 0;
  const Panel* panel = nullptr;
  std::size_t step_stride = 0;   // from one step to the next: 16 * lane for weights and keys, round_up(d, 16) * lane
                                 // for values
  std::size_t group_stride = 0;  // from one group of 16 lanes to the next
  std::size_t steps = 0;         // of `dot_step<Panel, Row>::lane` elements each
  float* out = nullptr;
  std::size_t out_stride = 0;
  bool accumulate = false;       // start from what `out` holds instead of zero
  const void* next = nullptr;    // the panel of the product after this one, if known: it is prefetched
};

/// Rows of the largest register tile. Accumulators take about three quarters of the register file; the rest holds the
/// panel of the step and one broadcast.
#if defined(__AVX512F__)
inline constexpr std::size_t tile_rows = 12;  // x 2 groups = 24 of 32 registers
#elif defined(__FMA__)
inline constexpr std::size_t tile_rows = 6;  // x 1 group = 12 of 16
#elif defined(__aarch64__)
inline constexpr std::size_t tile_rows = 5;  // x 1 group = 20 of 32; with 6, g++ loads the rows early and spills
#elif defined(__AVX__)
inline constexpr std::size_t tile_rows = 4;  // a product and a sum need a register between them
#else
inline constexpr std::size_t tile_rows = 2;
#endif

/// Groups of sixteen columns beside each other in a tile of `rows` rows: the fewer rows, the more groups, so that there
/// are enough independent chains to cover the latency of a fused multiply-add, and enough streams to fill memory
/// bandwidth when one row is multiplied.
[[nodiscard]] constexpr std::size_t tile_groups(std::size_t rows) noexcept {
  constexpr std::size_t chains = tile_rows * (f32x16::registers == 1 ? 2 : 1);
  constexpr std::size_t most = f32x16::registers == 4 ? 3 : 4;
  const std::size_t groups = chains / rows;
  return groups == 0 ? 1 : groups > most ? most : groups;
}

/// `rows` rows cut into tiles of nearly equal height, at most `highest`: none is left over that would run at a fraction
/// of the speed.
struct row_tiles {
  std::size_t count = 0;
  std::size_t height = 0;  // of a tile, rounded down
  std::size_t taller = 0;  // the first so many tiles have one row more
  std::size_t missing = 0;  // the last has so many fewer

  constexpr row_tiles() = default;
  constexpr explicit row_tiles(std::size_t rows, std::size_t highest = tile_rows) noexcept
      : count(ceil_div(rows, highest)),
        height(count == 0 ? 0 : rows / count),
        taller(count == 0 ? 0 : rows % count) {}
  /// The same with tiles of one height, but for the last, which has the rest.
  [[nodiscard]] static constexpr row_tiles of_one_height(std::size_t rows, std::size_t highest) noexcept {
    row_tiles out;
    if (rows == 0) return out;
    out.height = ceil_div(rows, ceil_div(rows, highest));
    out.count = ceil_div(rows, out.height);
    out.missing = out.count * out.height - rows;
    return out;
  }

  [[nodiscard]] constexpr std::size_t begin(std::size_t tile) const noexcept {
    return tile * height + (tile < taller ? tile : taller);
  }
  [[nodiscard]] constexpr std::size_t size(std::size_t tile) const noexcept {
    return height + (tile < taller ? 1 : 0) - (tile + 1 == count ? missing : 0);
  }
};

/// The micro-kernel: `Rows` x 16 * `Groups` outputs in registers, over all steps. Here `o.rows` is the first row of the
/// tile, in either order, and `o.next` is prefetched, `next_step` bytes for each step (interleaved rows only: strided
/// ones need the integer registers).
template <class Panel, class Row, row_order Order, std::size_t Rows, std::size_t Groups>
void register_tile(const tile_operands<Panel, Row>& o, std::size_t next_step) noexcept {
  using step = dot_step<Panel, Row>;
  constexpr bool interleaved = Order == row_order::interleaved;
  const std::size_t row_stride = interleaved ? step::lane : o.row_stride;
  constexpr std::size_t row_step = interleaved ? Rows * step::lane : step::lane;
  const std::size_t step_stride = o.step_stride, group_stride = o.group_stride, out_stride = o.out_stride;
  float* const out = o.out;

  f32x16 acc[Rows][Groups];
  if (o.accumulate) {
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      unroll<Groups>([&](auto g) BLOCKATTN_LAMBDA_INLINE { acc[r][g] = load(out + r * out_stride + 16 * g); });
    });
  } else {
    unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      unroll<Groups>([&](auto g) BLOCKATTN_LAMBDA_INLINE { acc[r][g] = zero16(); });
    });
  }
  const Row* row = o.rows;
  const Panel* panel = o.panel;
  std::uintptr_t next = reinterpret_cast<std::uintptr_t>(o.next);  // a number: it may pass the end of an array
  for (std::size_t k = o.steps; k != 0; --k) {
    step::template apply<Rows, Groups>(acc, row, row_stride, panel, group_stride);
    if constexpr (interleaved) {
      prefetch(reinterpret_cast<const void*>(next));
      next += next_step;
    }
    row += row_step;
    panel += step_stride;
  }
  unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
    unroll<Groups>([&](auto g) BLOCKATTN_LAMBDA_INLINE { store(out + r * out_stride + 16 * g, acc[r][g]); });
  });
}

namespace isa_detail {
template <class Panel, class Row>
using tile_function = void (*)(const tile_operands<Panel, Row>&, std::size_t) noexcept;

// The tallest tile that is compiled: halves are multiplied as they lie for few rows only (kernel/gemm.hpp).
template <class Panel>
inline constexpr std::size_t tallest = std::is_same_v<Panel, f16> ? std::min<std::size_t>(4, tile_rows) : tile_rows;

// The micro-kernels of one height: as wide as the height allows, two groups wide, one group wide.
template <class Panel, class Row>
struct tile_kernels {
  tile_function<Panel, Row> wide, two, one;
};

// Those of every height. Its instances are most of what a compiler does with the kernels, so they are made once where
// kernels are compiled once (below): hence a function, and not a constant that every use would instantiate.
template <class Panel, class Row, row_order Order>
const tile_kernels<Panel, Row>& kernels_of(std::size_t height) noexcept {
  constexpr auto make = []<std::size_t Rows>(std::integral_constant<std::size_t, Rows>) {
    constexpr std::size_t widest = tile_groups(Rows);
    return tile_kernels<Panel, Row>{&register_tile<Panel, Row, Order, Rows, widest>,
                                    &register_tile<Panel, Row, Order, Rows, widest < 2 ? 1 : 2>,
                                    &register_tile<Panel, Row, Order, Rows, 1>};
  };
  static constexpr auto by_height = [make]<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<tile_kernels<Panel, Row>, sizeof...(I)>{{make(std::integral_constant<std::size_t, I + 1>{})...}};
  }(std::make_index_sequence<tallest<Panel>>{});
  return by_height[height - 1];
}
}  // namespace isa_detail

/// One tile of `height` rows (1 to `tile_rows`) against `groups` groups of sixteen columns, any number. `next_step`: see
/// `register_tile`; without it nothing is prefetched.
template <row_order Order, class Panel, class Row>
inline void multiply_tile(std::size_t height, std::size_t groups, tile_operands<Panel, Row> o,
                          std::size_t next_step = 0) noexcept {
  BLOCKATTN_EXPECTS(height >= 1 && height <= isa_detail::tallest<Panel>);
  if (next_step == 0) o.next = o.panel;  // the loop prefetches something: let it be a line that is there
  const auto& kernels = isa_detail::kernels_of<Panel, Row, Order>(height);
  const std::size_t widest = tile_groups(height);
  while (groups != 0) {
    const std::size_t now = groups >= widest ? widest : groups >= 2 && widest > 2 ? 2 : 1;
    (now == widest ? kernels.wide : now == 2 ? kernels.two : kernels.one)(o, next_step);
    o.panel += now * o.group_stride;
    o.out += now * panel_width;
    groups -= now;
  }
}

/// out(rows, 16 * groups) (+)= rows times panels, any number of both. `out` is written for all 16 * groups columns.
///
/// Panels are the outer loop: the groups of one register tile are read from the nearest cache by all row tiles, while
/// the next ones are on their way from memory, a part with each row tile. Keep `steps` at 512 at most where there are
/// many rows. `steps` may be 0.
template <row_order Order = row_order::strided, class Panel, class Row>
inline void multiply(std::size_t rows, std::size_t groups, const tile_operands<Panel, Row>& o) noexcept {
  if (rows == 0) return;
  const row_tiles tiles(rows);
  const std::size_t widest = tile_groups(tiles.size(0));
  // Row tiles share the prefetching of the next panels: each takes a part of one group.
  const std::size_t sharers = ceil_div(tiles.count, widest);
  const std::size_t next_step = ceil_div(panel_width * 4, sharers);
  for (std::size_t g = 0; g < groups; g += widest) {
    tile_operands<Panel, Row> part = o;
    part.panel += g * o.group_stride;
    const void* next = g + widest < groups ? part.panel + widest * o.group_stride : o.next;
    for (std::size_t t = 0; t < tiles.count; ++t) {
      part.rows = o.rows + tiles.begin(t) * o.row_stride;
      part.out = o.out + tiles.begin(t) * o.out_stride + g * panel_width;
      part.next = reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(next) +
                                                t % widest * o.group_stride * sizeof(Panel) +
                                                t / widest * o.steps * next_step);
      multiply_tile<Order>(tiles.size(t), std::min(widest, groups - g), part, next == nullptr ? 0 : next_step);
    }
  }
}

// Every product that kernels make on vector registers. With `BLOCKATTN_COMPILED_KERNELS` their tiles are instantiated by
// native_definitions.hpp alone.
#define BLOCKATTN_TILE_KERNELS(prefix)                                \
  BLOCKATTN_TILE_KERNELS_OF(prefix, float, float, strided)            \
  BLOCKATTN_TILE_KERNELS_OF(prefix, float, float, interleaved)        \
  BLOCKATTN_TILE_KERNELS_OF(prefix, bf16, float, strided)             \
  BLOCKATTN_TILE_KERNELS_OF(prefix, bf16, float, interleaved)         \
  BLOCKATTN_TILE_KERNELS_OF(prefix, f16, float, strided)              \
  BLOCKATTN_TILE_KERNELS_OF(prefix, f16, float, interleaved)          \
  BLOCKATTN_BF16_TILE_KERNELS(prefix)
#if (defined(__AVX512BF16__) && defined(__AVX512VL__)) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define BLOCKATTN_BF16_TILE_KERNELS(prefix)              \
  BLOCKATTN_TILE_KERNELS_OF(prefix, bf16, bf16, strided) \
  BLOCKATTN_TILE_KERNELS_OF(prefix, bf16, bf16, interleaved)
#else
#define BLOCKATTN_BF16_TILE_KERNELS(prefix)  // rows of bf16 are widened there
#endif
#define BLOCKATTN_TILE_KERNELS_OF(prefix, panel, row, order) \
  prefix const isa_detail::tile_kernels<panel, row>&         \
  isa_detail::kernels_of<panel, row, row_order::order>(std::size_t) noexcept;
#if defined(BLOCKATTN_COMPILED_KERNELS)
BLOCKATTN_TILE_KERNELS(extern template)
#endif

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
