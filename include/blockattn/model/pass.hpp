// SPDX-License-Identifier: MIT
/// What one forward pass is asked to do, as plain data: rows of several sequences, what each attends to, where its
/// keys and values go, and which rows want logits. A session fills it; `llama::forward` reads it.
#pragma once

#include <cstdint>
#include <span>

#include "../core/config.hpp"
#include "../kernel/kernel_set.hpp"
#include "../tensor/kv_panels.hpp"

namespace blockattn::inline v0 {

/// Keys and values of all layers that a sequence attends to: a placed block, or a run of its own tokens.
struct kv_source {
  const std::byte* payload = nullptr;   // layer 0, in the layout of tensor/kv_panels.hpp
  std::size_t room = 0;                 // tokens that layout was made for
  std::size_t slot = 0;                 // first token of this source in it, a multiple of 16
  const std::byte* turned_keys = nullptr;  // key panels of all layers and heads instead of the payload's, or null
  std::size_t tokens = 0;
  std::int64_t start = 0;               // global position of its first token
  const float* turn = nullptr;          // what queries turn by (kernel_set.hpp), or null
};

/// Consecutive rows of a pass that belong to one context or one passage.
struct pass_sequence {
  std::size_t first_row = 0;
  std::size_t rows = 0;
  std::span<const kv_source> sources;  // in order; among them the run that `target` extends, its new tokens counted
  std::byte* target = nullptr;         // payload that takes the keys and values of these rows
  std::size_t room = 0;                // tokens that the target's layout was made for
  std::size_t slot = 0;                // where the first row goes
};

/// Logits that are wanted: of one row, into `out` (vocab floats).
struct pass_logits {
  std::size_t row = 0;
  float* out = nullptr;
};

/// One forward pass. Rows of different sequences do not see each other: the block-diagonal mask is never built.
struct forward_pass {
  std::span<const token> ids;                 // (rows)
  std::span<const std::int64_t> positions;    // (rows) where queries and keys are rotated to
  std::span<const pass_sequence> sequences;   // cover the rows in order
  std::span<const pass_logits> logits;        // rows ascending
  const float* key_factors = nullptr;         // (layers, kv_heads, head_dim): keys are divided by them, queries
                                              // multiplied; null: all are 1
  bool decodes = false;                       // one row of each sequence: projections read weights rather than multiply
};

namespace detail {
/// The keys and values of one layer of a source, as the attention kernel takes them.
/// `turn_offset`: where the turn table of this kind of layers begins.
[[nodiscard]] inline kv_segment segment_of(const kv_source& from, const kv_shape& kv, std::size_t layer,
                                           std::size_t turn_offset) noexcept {
  const std::size_t bytes = kv.element_bytes();
  const std::size_t tile = from.slot / panel_width;
  const std::byte* base = from.payload + layer * kv.layer_bytes(from.room);
  kv_segment to;
  to.keys = base + tile * kv.key_tile() * bytes;
  to.key_stride = kv.key_panel(from.room) * bytes;
  if (from.turned_keys != nullptr) {
    to.key_stride = kv.key_panel(from.tokens) * bytes;
    to.keys = from.turned_keys + layer * kv.kv_heads * to.key_stride;
  }
  to.values = base + kv.value_offset(0, from.room) + tile * kv.value_tile() * bytes;
  to.value_stride = kv.value_panel(from.room) * bytes;
  to.tokens = from.tokens;
  to.start = from.start;
  to.turn = from.turn == nullptr ? nullptr : from.turn + turn_offset;
  if (kv.type == dtype::i8) {
    const auto scales_at = [&](std::size_t offset) {
      return reinterpret_cast<const float*>(base + offset) + tile * panel_width;
    };
    to.key_scales = scales_at(kv.key_scale_offset(0, from.room));
    to.value_scales = scales_at(kv.value_scale_offset(0, from.room));
    to.scale_stride = kv.scales(from.room);
  }
  return to;
}
}  // namespace detail

}  // namespace blockattn::inline v0
