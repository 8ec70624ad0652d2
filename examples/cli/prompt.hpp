// SPDX-License-Identifier: MIT
/// A question over passages as token ids in blocks: what `answer`, `pack` and `score` share.
#pragma once

#include <blockattn/text/passages.hpp>
#include <blockattn/text/prompt.hpp>
#include <blockattn/text/sinks.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

#include "models.hpp"

namespace cli {

struct prompt {
  token_lists blocks;  // the preamble, then the passages
  std::vector<ba::token> question;
};

/// Every part is tokenised on its own (PAPER 1.6). Passages and question are text, even where they spell a marker of
/// the template. A part without tokens, such as the preamble of a template that has none, is no block.
inline prompt tokenise(const ba::tokenizer& words, const ba::prompt_template& form,
                       std::span<const ba::passage> passages, std::string_view question) {
  ba::token_prompt out = ba::encode_prompt(words, form, passages, question);
  return {std::move(out.blocks), std::move(out.final)};
}

/// --mode and --local-blocks on the same tokens: blocks that are not local join the final one.
inline void join_blocks(prompt& p, const common_options& o) {
  const std::size_t local = o.mode == "full" ? 0 : std::min(o.local_blocks, p.blocks.size());
  std::vector<ba::token> final_ids;
  for (std::size_t i = local; i < p.blocks.size(); ++i)
    final_ids.insert(final_ids.end(), p.blocks[i].begin(), p.blocks[i].end());
  final_ids.insert(final_ids.end(), p.question.begin(), p.question.end());
  p.blocks.resize(local);
  p.question = std::move(final_ids);
}

/// A model with words, and the template that the options name.
struct opened {
  runtime rt;
  ba::prompt_template form;

  [[nodiscard]] const ba::tokenizer& words() const { return *rt.words; }
};

/// --template: by name, or with `auto` the one that the model's files ask for. Errors: `unsupported` says what to do.
ba::result<ba::prompt_template> choose_template(const options& o);

/// The template with the sinks before each passage that the options or the words ask for.
inline ba::result<ba::prompt_template> add_sinks(ba::prompt_template form, const ba::tokenizer& words, const options& o) {
  const std::size_t has = ba::sinks_of(words).size(), wanted = o.sinks.value_or(has);
  if (wanted > has)
    return ba::fail(ba::errc::invalid_argument, "--sinks: expected at most the ", has, " that the vocabulary has, found ", wanted);
  return ba::with_sinks(std::move(form), wanted);
}

inline ba::result<opened> open_with_words(const options& o) {
  auto form = choose_template(o);
  if (!form) return std::move(form).error();
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  if (const auto words = rt->tokenizer(); !words) return words.error();
  auto whole = add_sinks(*std::move(form), *rt->words, o);
  if (!whole) return std::move(whole).error();
  return opened{*std::move(rt), *std::move(whole)};
}

}  // namespace cli
