// SPDX-License-Identifier: MIT
/// Keys and values as int8: one scale for each token and head, codes in [-127, 127], in the panels of
/// tensor/kv_panels.hpp.
///
/// scale = largest magnitude / 127; code = x / scale, rounded once, to nearest, ties to even. So an element is off by
/// at most half a scale. A row below 2^-120 becomes zero. A row with a NaN or an infinity gets a NaN as scale, so that
/// whoever sees it sees that.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>

#include "../simd/batch.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// The largest code. -128 is not used: codes and their negatives are then alike, and no product of instructions that
/// take one operand as unsigned leaves its range.
inline constexpr float int8_most = 127.0f;

/// Quantises a row of `n` <= 256 floats; `codes` holds round_up(n, 16) bytes, zero behind n. Returns the scale.
inline float quantize_row(const float* in, std::size_t n, std::int8_t* codes) noexcept {
  constexpr std::size_t most = 256;
  BLOCKATTN_EXPECTS(n <= most);
  const std::size_t width = round_up(n, panel_width);
  alignas(alignment) float x[most];
  alignas(alignment) std::int32_t whole[panel_width];
  std::memcpy(x, in, n * sizeof(float));
  std::fill(x + n, x + width, 0.0f);
  // Magnitudes are compared as integers: their order is that of the floats, NaN above all, under any compiler flag.
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < width; ++i) {
    const std::int32_t bits = std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff;
    largest = largest < bits ? bits : largest;
  }
  const bool is_finite = largest < 0x7f800000;
  if (!is_finite || largest < (127 - 120) << 23) {
    std::memset(codes, 0, width);
    return is_finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const float top = std::bit_cast<float>(largest);
  const f32x16 inverse = broadcast(int8_most / top);
  for (std::size_t i = 0; i < width; i += panel_width) {
    const f32x16 scaled = load(x + i) * inverse;
    unroll<f32x16::registers>([&](auto r) BLOCKATTN_LAMBDA_INLINE {
      xsimd::nearbyint_as_int(scaled.r[r]).store_aligned(whole + r * native_i32::size);
    });
    for (std::size_t j = 0; j < panel_width; ++j) codes[i + j] = static_cast<std::int8_t>(whole[j]);
  }
  return top / int8_most;
}

/// `store_kv` (kernel/pack.hpp) for int8. Calls for disjoint slots may run at the same time only if no four slots of
/// one lane are shared between them: split at multiples of four.
inline void store_kv_int8(const kv_shape& shape, const float* k, const float* v, std::size_t stride, std::byte* layer,
                          std::size_t room, std::size_t first, std::size_t n) noexcept {
  constexpr std::size_t lane = 4;
  const std::size_t d = shape.head_dim, width = round_up(d, panel_width), key_width = round_up(d, lane);
  alignas(alignment) std::int8_t codes[256];
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    std::byte* const keys = layer + shape.key_offset(head, room);
    std::byte* const values = layer + shape.value_offset(head, room);
    std::byte* const key_scales = layer + shape.key_scale_offset(head, room);
    std::byte* const value_scales = layer + shape.value_scale_offset(head, room);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t slot = first + i;
      float scale = quantize_row(k + i * stride + head * d, d, codes);
      std::memcpy(key_scales + slot * sizeof scale, &scale, sizeof scale);
      std::byte* out = keys + shape.key_index(slot, 0);
      for (std::size_t c = 0; c < key_width; c += lane, out += panel_width * lane) std::memcpy(out, codes + c, lane);
      scale = quantize_row(v + i * stride + head * d, d, codes);
      std::memcpy(value_scales + slot * sizeof scale, &scale, sizeof scale);
      out = values + shape.value_index(slot, 0);
      for (std::size_t c = 0; c < width; ++c) out[c * lane] = static_cast<std::byte>(codes[c]);
    }
  }
}

/// `zero_kv_padding` for int8: codes and scales of the last tile's slots that hold no token.
inline void zero_kv_padding_int8(const kv_shape& shape, std::byte* layer, std::size_t room,
                                 std::size_t tokens) noexcept {
  constexpr std::size_t lane = 4;
  const std::size_t end = round_up(tokens, panel_width), width = round_up(shape.head_dim, panel_width);
  const std::size_t key_width = round_up(shape.head_dim, lane);
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    for (std::size_t slot = tokens; slot < end; ++slot) {
      std::byte* out = layer + shape.key_offset(head, room) + shape.key_index(slot, 0);
      for (std::size_t c = 0; c < key_width; c += lane, out += panel_width * lane) std::memset(out, 0, lane);
      out = layer + shape.value_offset(head, room) + shape.value_index(slot, 0);
      for (std::size_t c = 0; c < width; ++c) out[c * lane] = std::byte{0};
    }
    for (const std::size_t scales : {shape.key_scale_offset(head, room), shape.value_scale_offset(head, room)})
      std::memset(layer + scales + tokens * sizeof(float), 0, (end - tokens) * sizeof(float));
  }
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
