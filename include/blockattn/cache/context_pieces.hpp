// SPDX-License-Identifier: MIT
/// The plain parts of a context: its options, and what a session sees of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "../core/config.hpp"
#include "../kernel/rope_config.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"

namespace blockattn::inline v0 {

/// Who turns when a block stands at position s.
enum class position_policy : std::uint8_t {
  query_side,  ///< keys stay as stored, the query turns by R(-s): nothing is copied
  key_side,    ///< the paper's form: the context owns keys turned by R(s)
  none         ///< nobody, the ablation: block keys keep their local positions
};

/// The name of a policy, as on the command line: `"query_side"`.
[[nodiscard]] constexpr const char* to_string(position_policy policy) noexcept {
  switch (policy) {
    case position_policy::query_side: return "query_side";
    case position_policy::key_side: return "key_side";
    case position_policy::none: return "none";
  }
  return "unknown";
}

/// What a context must know of a model. Sessions give it.
struct context_layout {
  kv_shape shape;
  std::shared_ptr<const rope_frequencies> rope;  // never null
  std::size_t vocab = 0;                         // floats of logits()
};

struct context_options {
  std::size_t room = 1024;  ///< tail tokens, rounded up to a multiple of 16; see basic_context
  position_policy position = position_policy::query_side;
};

/// One stretch of keys and values, for a session: a block, or a run of tail tokens.
struct piece_view {
  const kv_block* block = nullptr;  ///< null: a run of the tail
  std::size_t tokens = 0;           ///< never 0
  std::int64_t start = 0;           ///< the position of its first token in the sequence
  const float* turn = nullptr;      ///< R(-start), rope_frequencies::cos_sin; null: the query does not turn
  const std::byte* own_keys =
      nullptr;           ///< key_side: [layers][kv_heads][key_panel(tokens)]; null: the keys of the block
  std::size_t slot = 0;  ///< a run's first slot in the tail, a multiple of 16
};

namespace detail {

// Whether two handles stand for the same keys and values. Equal keys with other tokens are a collision, not a match.
[[nodiscard]] inline bool same_block(const block_handle& a, const block_handle& b) noexcept {
  return a == b || (a->key() == b->key() && std::ranges::equal(a->tokens(), b->tokens()));
}

}  // namespace detail

}  // namespace blockattn::inline v0
