// SPDX-License-Identifier: MIT
/// Into and out of panels of quantised weights (kernel/code_panels.hpp). No SIMD: bytes are moved, none is computed.
#pragma once

#include <algorithm>
#include <cstring>

#include "../core/executor.hpp"
#include "kernel_set.hpp"

namespace blockattn::inline v0 {

namespace detail {
// One row of a source into row `slot` of a panel; zero codes with zero scales if there is none.
inline void pack_code_row(const code_panels& layout, const std::byte* row, std::byte* panel, std::size_t slot) noexcept {
  constexpr std::size_t run = code_panels::run, step = code_panels::step_bytes;
  const dtype type = layout.type;
  const std::size_t bits = code_bits(type);
  split_codes block = {};
  for (std::size_t k = 0; k < layout.cols; k += block_elements(type)) {
    if (row != nullptr) split_block(type, row + k / block_elements(type) * block_bytes(type), block);
    for (std::size_t at = 0; at < block_elements(type); at += run) {
      const std::uint8_t* const code = block.code + at;
      const std::size_t r = (k + at) / run;
      std::byte* const to = panel + r * layout.code_bytes() + 4 * slot;
      std::byte* const upper = panel + layout.upper_at() + r * layout.upper_bytes() + 4 * slot;
      if (bits == 8) {
        for (std::size_t s = 0; s < code_panels::steps; ++s) std::memcpy(to + s * step, code + 4 * s, 4);
      } else {
        for (std::size_t i = 0; i < 16; ++i)
          to[i / 4 * step + i % 4] = static_cast<std::byte>((code[i] & 15u) | (code[i + 16] & 15u) << 4);
      }
      if (bits == 5)
        for (std::size_t j = 0; j < 4; ++j) {
          unsigned byte = 0;
          for (std::size_t s = 0; s < 8; ++s) byte |= (code[4 * s + j] >> 4 & 1u) << s;
          upper[j] = static_cast<std::byte>(byte);
        }
      if (bits == 6)
        for (std::size_t j = 0; j < 8; ++j) {  // byte j % 4 of half j / 4
          unsigned byte = 0;
          for (std::size_t t = 0; t < 4; ++t) byte |= (code[16 * (j / 4) + 4 * t + j % 4] >> 4 & 3u) << (2 * t);
          upper[j / 4 * step + j % 4] = static_cast<std::byte>(byte);
        }

      std::byte* const scales = panel + layout.scales_at() + r * layout.scale_bytes();
      if (type == dtype::q6_k) {
        scales[slot] = static_cast<std::byte>(block.factor[at / 16]);
        scales[16 + slot] = static_cast<std::byte>(block.factor[at / 16 + 1]);
      } else if (layout.k_type()) {
        scales[slot] = static_cast<std::byte>(block.factor[at / 32]);
        scales[16 + slot] = static_cast<std::byte>(block.least[at / 32]);
      } else {
        std::memcpy(scales + 2 * slot, &block.scale, 2);
        if (has_offsets(type)) std::memcpy(scales + 32 + 2 * slot, &block.minimum, 2);
      }
    }
    if (layout.k_type()) {
      std::byte* const halves = panel + layout.blocks_at() + k / 256 * layout.block_scale_bytes();
      std::memcpy(halves + 2 * slot, &block.scale, 2);
      if (has_offsets(type)) std::memcpy(halves + 32 + 2 * slot, &block.minimum, 2);
    }
  }
}
}  // namespace detail

/// `pack_weights` (kernel/pack.hpp) for a matrix of a quantised type, from rows of that type. Rows may come in any order
/// of calls; two calls that share a panel must not run at the same time.
inline void pack_code_weights(executor_ref workers, const packed_matrix& to, std::byte* out, std::size_t first_row,
                              const std::byte* source, std::size_t rows) noexcept {
  BLOCKATTN_EXPECTS(is_quantized(to.type) && first_row + rows <= to.rows && to.cols % block_elements(to.type) == 0);
  if (rows == 0) return;
  const code_panels layout{to.type, to.cols};
  const std::size_t row_bytes = to.cols / block_elements(to.type) * block_bytes(to.type);
  const std::size_t first_panel = first_row / panel_width;
  workers.for_each(ceil_div(first_row + rows, panel_width) - first_panel, [&](std::size_t, std::size_t i) {
    const std::size_t top = (first_panel + i) * panel_width;  // the matrix row of the panel's row 0
    const std::size_t begin = std::max(top, first_row), end = std::min(top + panel_width, first_row + rows);
    std::byte* const panel = out + (first_panel + i) * layout.bytes();
    for (std::size_t r = begin; r < end; ++r)
      detail::pack_code_row(layout, source + (r - first_row) * row_bytes, panel, r - top);
    if (end == to.rows)
      for (std::size_t r = end; r < top + panel_width; ++r) detail::pack_code_row(layout, nullptr, panel, r - top);
    // What lies between the arrays, so that equal matrices are equal bytes.
    const std::size_t scales_end = layout.scales_at() + layout.runs() * layout.scale_bytes();
    const std::size_t blocks_end = layout.blocks_at() + ceil_div(layout.runs(), 8) * layout.block_scale_bytes();
    std::fill(panel + scales_end, panel + layout.blocks_at(), std::byte{0});
    std::fill(panel + blocks_end, panel + layout.bytes(), std::byte{0});
  });
}

/// `gather_row` (kernel/pack.hpp) for a matrix of a quantised type: the bits of `decode_row`.
inline void gather_code_row(const packed_matrix& w, std::size_t row, float* out) noexcept {
  BLOCKATTN_EXPECTS(is_quantized(w.type) && row < w.rows);
  constexpr std::size_t run = code_panels::run, step = code_panels::step_bytes;
  const code_panels layout{w.type, w.cols};
  const std::byte* const panel = w.data + row / panel_width * layout.bytes();
  const std::size_t slot = row % panel_width, bits = code_bits(w.type), group = group_elements(w.type);
  const int zero = code_zero(w.type);
  split_codes block = {};  // one run of it
  for (std::size_t r = 0; r < layout.runs(); ++r, out += run) {
    const std::byte* const codes = panel + r * layout.code_bytes() + 4 * slot;
    const std::byte* const upper = panel + layout.upper_at() + r * layout.upper_bytes() + 4 * slot;
    const std::byte* const scales = panel + layout.scales_at() + r * layout.scale_bytes();
    const std::byte* const halves =
        layout.k_type() ? panel + layout.blocks_at() + r / 8 * layout.block_scale_bytes() : scales;
    block.scale = detail::load_f16(halves + 2 * slot);
    if (has_offsets(w.type)) block.minimum = detail::load_f16(halves + 32 + 2 * slot);
    if (layout.k_type()) {
      block.factor[0] = static_cast<std::uint8_t>(scales[slot]);
      block.factor[1] = block.least[0] = static_cast<std::uint8_t>(scales[16 + slot]);
    }
    for (std::size_t k = 0; k < run; ++k) {
      const std::size_t s = k / 4, j = k % 4;
      unsigned code = static_cast<unsigned>(codes[(bits == 8 ? s : s % 4) * step + j]);
      if (bits != 8) code = code >> (s / 4 * 4) & 15u;
      if (bits == 5) code |= (static_cast<unsigned>(upper[j]) >> s & 1u) << 4;
      if (bits == 6) code |= (static_cast<unsigned>(upper[s / 4 * step + j]) >> (s % 4 * 2) & 3u) << 4;
      const float product = scale_of(w.type, block, k / group) * static_cast<float>(static_cast<int>(code) - zero);
      out[k] = has_offsets(w.type) ? product + offset_of(w.type, block, 0) : product;
    }
  }
}

}  // namespace blockattn::inline v0
