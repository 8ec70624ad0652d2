// SPDX-License-Identifier: MIT
/// Few rows times panels of codes as they lie in memory: bound by reading them, so they are read once, from end to end.
///
/// The bits of kernel/code_tile.hpp: the same integers, the same chain of floats. There codes are widened into a buffer that
/// many rows share; here they go from their panel into registers.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "expanded_gemm.hpp"
#include "product_kind.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

namespace isa_detail {
// So many rows are multiplied with codes as they lie.
inline constexpr std::size_t code_stream_rows = std::min(few_rows, code_tile_rows);

// Where a run lies in the arrays of a panel.
struct code_cursor {
  const std::byte *codes, *upper, *scales, *blocks;
  std::size_t run;

  code_cursor(const code_panels& layout, const std::byte* panel, std::size_t first) noexcept
      : codes(panel + first * layout.code_bytes()), upper(panel + layout.upper_at() + first * layout.upper_bytes()),
        scales(panel + layout.scales_at() + first * layout.scale_bytes()), blocks(panel + layout.blocks_at()), run(first) {}
};

// What a type asks of the micro-kernel.
template <std::size_t Bits, bool KType, bool Offsets>
struct code_format {
  static constexpr std::size_t bits = Bits, code_bytes = (Bits == 8 ? 8 : 4) * code_panels::step_bytes,
                               upper_bytes = Bits == 8 || Bits == 4 ? 0 : (Bits - 4) * code_panels::step_bytes,
                               scale_bytes = (KType || !Offsets ? 2 : 4) * panel_width,
                               block_bytes = KType ? (Offsets ? 4 : 2) * panel_width : 0;
  static constexpr bool k_type = KType, offsets = Offsets;
  static constexpr std::size_t groups = KType && !Offsets ? 2 : 1, steps = code_panels::steps / groups;

  static BLOCKATTN_INLINE const std::byte* block_of(const code_cursor& c) noexcept {
    return c.blocks + c.run / 8 * block_bytes;
  }
  static BLOCKATTN_INLINE void advance(code_cursor& c) noexcept {
    c.codes += code_bytes, c.upper += upper_bytes, c.scales += scale_bytes, ++c.run;
  }
  static BLOCKATTN_INLINE void prefetch_run(const code_cursor& c) noexcept {
    unroll<code_bytes / 64>([&](auto i) BLOCKATTN_LAMBDA_INLINE { prefetch(c.codes + 64 * i); });
    unroll<upper_bytes / 64>([&](auto i) BLOCKATTN_LAMBDA_INLINE { prefetch(c.upper + 64 * i); });
    prefetch(c.scales);
    if constexpr (KType) prefetch(block_of(c));
  }
};

// A run of codes against the rows. `row`: their codes in its first group; `group_bytes` further lie those in the next.
template <class Format, std::size_t Rows>
BLOCKATTN_INLINE void multiply_run(const code_cursor& at, const std::byte* row, std::size_t group_bytes,
                                   i32x16 (&dot)[Format::groups][Rows][1]) noexcept {
  constexpr std::size_t step = code_panels::step_bytes, width = sizeof(native_i32);
  const auto row_of = [&](std::size_t s) BLOCKATTN_LAMBDA_INLINE {
    return row + s / Format::steps * group_bytes + s % Format::steps * Rows * code_step::row_bytes;
  };
  if constexpr (Format::bits == 8) {
    unroll<code_panels::steps>([&](auto s) BLOCKATTN_LAMBDA_INLINE {
      code_step::apply(dot[s / Format::steps], row_of(s), code_step::row_bytes,
                       [&](auto p) BLOCKATTN_LAMBDA_INLINE { return load_lanes(at.codes + s * step + p * width); });
    });
  } else {
    unroll<4>([&](auto v) BLOCKATTN_LAMBDA_INLINE {  // steps v and v + 4
      constexpr int i = static_cast<int>(v);
      code_step::apply(dot[0], row_of(v), code_step::row_bytes, [&](auto p) BLOCKATTN_LAMBDA_INLINE {
        native_i32 code = move_bits<0>(load_lanes(at.codes + v * step + p * width), 0x0f);
        if constexpr (Format::bits == 5) code = code | move_bits<4 - i>(load_lanes(at.upper + p * width), 0x10);
        if constexpr (Format::bits == 6) code = code | move_bits<4 - 2 * i>(load_lanes(at.upper + p * width), 0x30);
        return code;
      });
      code_step::apply(dot[4 / Format::steps], row_of(v + 4), code_step::row_bytes, [&](auto p) BLOCKATTN_LAMBDA_INLINE {
        native_i32 code = move_bits<-4>(load_lanes(at.codes + v * step + p * width), 0x0f);
        if constexpr (Format::bits == 5) code = code | move_bits<-i>(load_lanes(at.upper + p * width), 0x10);
        if constexpr (Format::bits == 6) code = code | move_bits<4 - 2 * i>(load_lanes(at.upper + step + p * width), 0x30);
        return code;
      });
    });
  }
}

// The micro-kernel: `Rows` x 16 outputs, over all columns. `next`: the panel that is read after this one.
template <class Format, std::size_t Rows>
void stream_panel(const code_panels& layout, const std::byte* rows, const std::byte* panel, const std::byte* next, float* out,
                  std::size_t out_stride) noexcept {
  constexpr std::size_t group_bytes = Rows * (12 + Format::steps * code_step::row_bytes);
  const std::size_t runs = layout.runs(), ahead = std::min(runs, stream_ahead / Format::code_bytes);
  f32x16 acc[Rows];
  unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { acc[r] = zero16(); });
  code_cursor at(layout, panel, 0), soon(layout, panel, ahead);
  for (std::size_t left = runs; left != 0;) {
    if (left == ahead) soon = code_cursor(layout, next, 0);
    for (const std::size_t end = left > ahead ? ahead : 0; left != end; --left) {
      i32x16 dot[Format::groups][Rows][1];
      const auto word = [&](std::size_t g, std::size_t i) BLOCKATTN_LAMBDA_INLINE {
        return load_word(rows + g * group_bytes + 4 * i);
      };
      unroll<Format::groups>([&](auto g) BLOCKATTN_LAMBDA_INLINE {
        unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { dot[g][r][0] = broadcast(word(g, r)); });
      });
      multiply_run<Format, Rows>(at, rows + 12 * Rows, group_bytes, dot);
      Format::prefetch_run(soon);
      const run_scales of = load_scales<Format::k_type, Format::offsets>(at.scales, Format::block_of(at));
      unroll<Format::groups>([&](auto g) BLOCKATTN_LAMBDA_INLINE {
        unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
          const f32x16 both = of.scale[g] * broadcast(std::bit_cast<float>(word(g, Rows + r)));
          acc[r] = fma(to_float(dot[g][r][0]), both, acc[r]);
          if constexpr (Format::offsets)
            acc[r] = fma(of.offset, broadcast(std::bit_cast<float>(word(g, 2 * Rows + r))), acc[r]);
        });
      });
      rows += Format::groups * group_bytes;
      Format::advance(at);
      Format::advance(soon);
    }
  }
  unroll<Rows>([&](auto r) BLOCKATTN_LAMBDA_INLINE { store(out + r * out_stride, acc[r]); });
}

using stream_function = void (*)(const code_panels&, const std::byte*, const std::byte*, const std::byte*, float*,
                                 std::size_t) noexcept;
template <class Format>
stream_function stream_of(std::size_t rows) noexcept {
  static constexpr auto by_rows = []<std::size_t... I>(std::index_sequence<I...>) {
    return std::array<stream_function, sizeof...(I)>{{&stream_panel<Format, I + 1>...}};
  }(std::make_index_sequence<code_stream_rows>{});
  return by_rows[rows - 1];
}

// As in kernel/tile.hpp, of the codes as they lie.
#define BLOCKATTN_CODE_STREAM_KERNELS(prefix)                   \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 8, false, false)      \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 4, false, false)      \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 4, false, true)       \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 5, false, false)      \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 5, false, true)       \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 4, true, true)        \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 5, true, true)        \
  BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, 6, true, false)
#define BLOCKATTN_CODE_STREAM_KERNEL_OF(prefix, bits, k_type, offsets) \
  prefix isa_detail::stream_function isa_detail::stream_of<isa_detail::code_format<bits, k_type, offsets>>(std::size_t) noexcept;
}  // namespace isa_detail
#if defined(BLOCKATTN_COMPILED_KERNELS)
BLOCKATTN_CODE_STREAM_KERNELS(extern template)
#endif

namespace isa_detail {
inline stream_function stream_of(dtype type, std::size_t rows) noexcept {
  switch (type) {
    case dtype::q8_0: return stream_of<code_format<8, false, false>>(rows);
    case dtype::q4_0: return stream_of<code_format<4, false, false>>(rows);
    case dtype::q4_1: return stream_of<code_format<4, false, true>>(rows);
    case dtype::q5_0: return stream_of<code_format<5, false, false>>(rows);
    case dtype::q5_1: return stream_of<code_format<5, false, true>>(rows);
    case dtype::q4_k: return stream_of<code_format<4, true, true>>(rows);
    case dtype::q5_k: return stream_of<code_format<5, true, true>>(rows);
    case dtype::q6_k: return stream_of<code_format<6, true, false>>(rows);
    default: BLOCKATTN_EXPECTS(false && "quantised weights");
  }
  return nullptr;
}

/// `project_expanded<code_product>` for at most `code_stream_rows` rows.
inline void project_stream(executor_ref workers, const packed_matrix& w, const float* x, std::size_t x_stride, std::size_t rows,
                           float* y, std::size_t y_stride, std::span<std::byte> scratch) noexcept {
  const expanded_plan<code_product> plan(w, rows);
  BLOCKATTN_EXPECTS(rows <= code_stream_rows && scratch.size() >= plan.scratch_bytes(w));
  pack_expanded_rows(workers, plan, w, x, x_stride, scratch.data());
  const code_panels layout{w.type, w.cols};
  const stream_function multiply = stream_of(w.type, rows);
  workers.for_each(plan.column_groups, [&](std::size_t, std::size_t task) {
    const std::size_t begin = task * plan.task_panels, end = std::min(plan.panels, begin + plan.task_panels);
    for (std::size_t p = begin; p < end; ++p) {
      const std::byte* const panel = w.data + p * layout.bytes();
      const std::byte* const next = p + 1 < end ? panel + layout.bytes() : panel;
      const std::size_t columns = std::min(panel_width, w.rows - p * panel_width);
      float* const out = y + p * panel_width;
      if (columns == panel_width) {
        multiply(layout, scratch.data(), panel, next, out, y_stride);
        continue;
      }
      alignas(alignment) float copy[code_stream_rows * panel_width];
      multiply(layout, scratch.data(), panel, next, copy, panel_width);
      for (std::size_t r = 0; r < rows; ++r) std::copy_n(copy + r * panel_width, columns, out + r * y_stride);
    }
  });
}
}  // namespace isa_detail

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
