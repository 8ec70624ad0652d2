// SPDX-License-Identifier: MIT
/// A question over passages as token ids in blocks: what `answer`, `pack` and `score` share.
#pragma once

#include <blockattn/text/passages.hpp>
#include <blockattn/text/template.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

#include "models.hpp"

namespace cli {

struct prompt {
  token_lists blocks;  // the preamble, then the passages
  std::vector<ba::token> question;
};

/// Every part is tokenised on its own (PAPER 1.6). The begin token belongs to block 0, if the template has one. A part
/// without tokens, such as the preamble of a template that has none, is no block.
inline prompt tokenise(const ba::tokenizer& words, const ba::prompt_template& form,
                       std::span<const ba::passage> passages, std::string_view question) {
  const auto text = ba::render(form, passages, question);
  prompt out;
  out.blocks.push_back(words.encode(text.preamble, {.bos = form.bos && words.add_bos()}));
  for (const std::string& passage : text.passages) out.blocks.push_back(words.encode(passage));
  std::erase_if(out.blocks, [](const auto& ids) { return ids.empty(); });
  out.question = words.encode(text.final);
  return out;
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

inline ba::result<opened> open_with_words(const options& o) {
  auto form = ba::find_template(o.template_name);
  if (!form) return std::move(form).error();
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  if (const auto words = rt->tokenizer(); !words) return words.error();
  return opened{*std::move(rt), *std::move(form)};
}

}  // namespace cli
