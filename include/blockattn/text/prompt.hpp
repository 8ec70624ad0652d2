// SPDX-License-Identifier: MIT
/// A question over passages as token ids in blocks.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "template.hpp"
#include "tokenizer.hpp"

namespace blockattn::inline v0 {

/// Block 0 is the preamble, then comes one block for each passage; the final block attends to all of them.
struct token_prompt {
  std::vector<std::vector<token>> blocks;
  std::vector<token> final;
};

/// How to encode what `t` renders; `first`: it begins the sequence. Borrows from `t`.
[[nodiscard]] inline marked_options options_of(const prompt_template& t, const tokenizer& words, bool first) {
  return {.bos = first && (t.bos_always || (t.bos && words.add_bos())), .markers = t.markers, .eos = t.eos};
}

/// Every part is encoded on its own (PAPER 1.6), so a passage's block never depends on its neighbours. The begin token
/// belongs to block 0 of a first question, if the template has one. A part without tokens is no block. Passages and
/// question are text, whatever they spell.
[[nodiscard]] inline token_prompt encode_prompt(const tokenizer& words, const prompt_template& t,
                                                std::span<const passage> passages, std::string_view question,
                                                turn_kind turn = turn_kind::first) {
  const marked_prompt text = render_marked(t, passages, question, turn);
  const marked_options plain = options_of(t, words, false);
  token_prompt out;
  out.blocks.reserve(passages.size() + 1);
  out.blocks.push_back(encode(words, text.preamble, options_of(t, words, turn == turn_kind::first)));
  for (const marked_text& p : text.passages) out.blocks.push_back(encode(words, p, plain));
  std::erase_if(out.blocks, [](const std::vector<token>& ids) { return ids.empty(); });
  out.final = encode(words, text.final, plain);
  return out;
}

/// The ids of an answer as the model would write it behind the final block, without what ends it.
[[nodiscard]] inline std::vector<token> encode_answer(const tokenizer& words, const prompt_template& t,
                                                      std::string_view answer) {
  const marked_text text = detail::filled(t.answer, {{"{answer}", answer}}, t.markers);
  std::string_view rest = text.text;
  // The space that a vocabulary writes before a stretch of text stands for the template's.
  if (words.strips_at_start({}) && !rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  std::vector<token> out;
  detail::encode_plain(words, rest, {}, out);
  return out;
}

}  // namespace blockattn::inline v0
