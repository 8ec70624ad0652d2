// SPDX-License-Identifier: MIT
/// Sink tokens: tokens of no meaning before each passage, whose embeddings are learned. What attends to a block may put there
/// the weight that belongs nowhere, as language models do with the first tokens of a text (attention sinks, arXiv 2309.17453).
/// They are tokens of the block like its others; `block_realm::sinks` is for encoders whose blocks see tokens not their own.
///
///     add_sinks(vocabulary, 2);                                // once; `parameters::with_vocabulary` adds rows for them
///     form = with_sinks(std::move(form), sinks_of(words).size());  // whenever prompts are made, in training and after it
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "template.hpp"
#include "tokenizer.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// A passage begins with so many at most.
inline constexpr std::size_t max_sinks = 64;

/// The piece of sink `i`.
[[nodiscard]] inline std::string sink_name(std::size_t i) { return "<|sink_" + std::to_string(i) + "|>"; }

/// The ids of the sinks that a tokenizer has: control pieces, numbered from 0 without a gap.
[[nodiscard]] inline std::vector<token> sinks_of(const tokenizer& words) {
  std::vector<token> out;
  while (out.size() < max_sinks) {
    const std::optional<token> id = words.find(sink_name(out.size()));
    if (!id || words.type(*id) != piece_type::control) break;
    out.push_back(*id);
  }
  return out;
}

/// The template with `n` sinks before each passage. Requires a template without sinks, and `n <= max_sinks`.
[[nodiscard]] inline prompt_template with_sinks(prompt_template t, std::size_t n) {
  BLOCKATTN_EXPECTS(n <= max_sinks);
  std::string before;
  for (std::size_t i = 0; i < n; ++i) before += t.markers.emplace_back(sink_name(i));
  t.passage = before + t.passage;
  return t;
}

/// Appends the sinks that a vocabulary lacks to have `n`, as control pieces: the ids that follow its own. Requires
/// `n <= max_sinks`. Errors: `bad_format` if a piece of a sink's name is of another type. O(n pieces).
[[nodiscard]] inline result<void> add_sinks(vocabulary& v, std::size_t n) {
  BLOCKATTN_EXPECTS(n <= max_sinks);
  for (std::size_t i = 0; i < n; ++i) {
    const std::string name = sink_name(i);
    const auto at = std::find(v.pieces.begin(), v.pieces.end(), name);
    if (at != v.pieces.end()) {
      const std::size_t id = static_cast<std::size_t>(at - v.pieces.begin());
      if (type_of(v, id) == piece_type::control) continue;
      return fail(errc::bad_format, "sinks: expected piece ", name, " to be a control piece, found type ",
                  static_cast<std::int32_t>(type_of(v, id)));
    }
    if (v.types.empty()) v.types.assign(v.pieces.size(), static_cast<std::int32_t>(piece_type::normal));
    v.pieces.push_back(name);
    v.types.push_back(static_cast<std::int32_t>(piece_type::control));
    if (!v.scores.empty()) v.scores.push_back(0);
    if (!v.texts.empty()) v.texts.push_back(name);
  }
  return {};
}

}  // namespace blockattn::inline v0
