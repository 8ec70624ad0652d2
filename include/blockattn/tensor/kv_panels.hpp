// SPDX-License-Identifier: MIT
/// The canonical layout of stored keys and values. It is the same on every instruction set, so that a block encoded
/// on one machine is read in place on another.
///
/// A *lane* is 32 bits: 1 float, 2 bf16 or 4 int8. For one layer and one key/value head, with head size d and m tokens:
///
///     keys    [ceil(m/16)][ceil(d/lane)][16 keys][lane dims]     a tile holds 16 keys; a lane holds consecutive dims
///     values  [ceil(m/16)*16/lane][round_up(d,16)][lane keys]    a lane holds consecutive keys of one dim
///     scales  [ceil(m/16)][16 keys]                              int8 only, float: one row for keys, one for values
///
/// All are what a register of 16 lanes (1 zmm, 2 ymm, 4 NEON registers) loads without shuffling. Padding is zero.
/// Bytes of a block include it. A layer holds the keys of all heads, the values of all heads and, for int8, the key
/// scales and then the value scales of all heads; each of these begins on a 64-byte boundary.
///
/// int8: an element is code * scale, with one scale for each token and head, codes in [-127, 127]. Scales are floats: a
/// tile's sixteen then fill one register and 64 bytes, need no conversion that SSE2 lacks, and have no range to leave
/// (f16 would save 3 % of a block of head size 64). Keys are divided by `key_factors` before they are rounded.
#pragma once

#include <cstdint>

#include "../core/config.hpp"
#include "../core/element.hpp"

namespace blockattn::inline v0 {

/// Changes whenever the bytes of a panel would. A part of every block key and block file.
inline constexpr std::uint32_t kv_layout_version = 1;

/// Keys of one tile: the lanes of a 512-bit register.
inline constexpr std::size_t panel_width = 16;

/// Elements in one 32-bit lane.
template <element T>
inline constexpr std::size_t lane_elements = 4 / sizeof(T);

/// Elements in one 32-bit lane of a stored type: 1 for f32, 2 for bf16, 4 for i8. Other types have no panels.
[[nodiscard]] constexpr std::size_t lane_elements_of(dtype type) noexcept {
  return type == dtype::f32 ? 1 : type == dtype::i8 ? 4 : 2;
}

/// The shape of stored keys and values: everything but the number of tokens.
struct kv_shape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  dtype type = dtype::bf16;  // f32, bf16 or i8
  /// Names the factors that keys were divided by before they were rounded (model/key_factors.hpp); 0: none. A part of
  /// the shape, so that blocks, contexts and sessions of other factors never meet.
  std::uint64_t key_factors = 0;

  friend constexpr bool operator==(const kv_shape&, const kv_shape&) = default;

  [[nodiscard]] constexpr std::size_t lane() const noexcept { return lane_elements_of(type); }
  [[nodiscard]] constexpr std::size_t element_bytes() const noexcept { return 4 / lane(); }
  [[nodiscard]] static constexpr std::size_t tiles(std::size_t tokens) noexcept { return ceil_div(tokens, panel_width); }

  /// Elements of one tile of 16 keys.
  [[nodiscard]] constexpr std::size_t key_tile() const noexcept { return round_up(head_dim, lane()) * panel_width; }
  /// Elements of the values that belong to one tile of 16 keys.
  [[nodiscard]] constexpr std::size_t value_tile() const noexcept { return round_up(head_dim, 16) * panel_width; }
  /// Elements of the keys of one head, `tokens` of them.
  [[nodiscard]] constexpr std::size_t key_panel(std::size_t tokens) const noexcept { return tiles(tokens) * key_tile(); }
  /// Elements of the values of one head.
  [[nodiscard]] constexpr std::size_t value_panel(std::size_t tokens) const noexcept {
    return tiles(tokens) * value_tile();
  }
  /// Scales (floats) of the keys of one head, and as many of its values; 0 unless int8.
  [[nodiscard]] constexpr std::size_t scales(std::size_t tokens) const noexcept {
    return type == dtype::i8 ? tiles(tokens) * panel_width : 0;
  }
  /// Bytes of one layer: keys, values and scales of all heads. A multiple of 64.
  [[nodiscard]] constexpr std::size_t layer_bytes(std::size_t tokens) const noexcept {
    return kv_heads *
           ((key_panel(tokens) + value_panel(tokens)) * element_bytes() + 2 * scales(tokens) * sizeof(float));
  }
  /// Where the keys and the values of a head start, in bytes from the start of a layer whose room is `tokens`.
  [[nodiscard]] constexpr std::size_t key_offset(std::size_t head, std::size_t tokens) const noexcept {
    return head * key_panel(tokens) * element_bytes();
  }
  [[nodiscard]] constexpr std::size_t value_offset(std::size_t head, std::size_t tokens) const noexcept {
    return (kv_heads * key_panel(tokens) + head * value_panel(tokens)) * element_bytes();
  }
  /// Where the scales of a head's keys and values start; meaningful for int8 only.
  [[nodiscard]] constexpr std::size_t key_scale_offset(std::size_t head, std::size_t tokens) const noexcept {
    return value_offset(kv_heads, tokens) + head * scales(tokens) * sizeof(float);
  }
  [[nodiscard]] constexpr std::size_t value_scale_offset(std::size_t head, std::size_t tokens) const noexcept {
    return key_scale_offset(kv_heads + head, tokens);
  }
  /// Bytes of all layers.
  [[nodiscard]] constexpr std::size_t payload_bytes(std::size_t tokens) const noexcept {
    return layers * layer_bytes(tokens);
  }

  /// The element of key `key`, dim `dim` in a key panel.
  [[nodiscard]] constexpr std::size_t key_index(std::size_t key, std::size_t dim) const noexcept {
    return key / panel_width * key_tile() + dim / lane() * panel_width * lane() + key % panel_width * lane() +
           dim % lane();
  }
  /// The element of key `key`, dim `dim` in a value panel.
  [[nodiscard]] constexpr std::size_t value_index(std::size_t key, std::size_t dim) const noexcept {
    return key / lane() * round_up(head_dim, 16) * lane() + dim * lane() + key % lane();
  }
};

}  // namespace blockattn::inline v0
