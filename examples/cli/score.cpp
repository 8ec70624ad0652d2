// SPDX-License-Identifier: MIT
// `score`: how often a model answers right, and how likely it finds the right answer.
#include "score.hpp"

#include <blockattn/cache/kv_store.hpp>
#include <blockattn/text/detokenize.hpp>

#include <cmath>

#include "prompt.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

struct outcome {
  bool right = false;
  double nll = 0;  // of all tokens of the first answer
  std::size_t tokens = 0;
};

template <class Store>
ba::result<outcome> judge(opened& all, Store& store, const sample& s, const options& o) {
  session& chat = *all.rt.chat;
  const ba::tokenizer& words = all.words();
  prompt p = tokenise(words, all.form, s.passages, s.question);
  join_blocks(p, o.common);
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(p.blocks), chat);
  if (!handles) return handles.error();
  const std::vector<ba::token> expected = words.encode(s.answers.front());
  auto context = make_context(chat, p.question.size(), std::max(o.max_tokens, expected.size()), o.common);
  if (!context) return std::move(context).error();
  if (auto placed = context->assemble(*handles); !placed) return placed.error();
  if (auto done = chat.prefill(*context, p.question); !done) return done.error();
  ba::context teacher = context->fork();

  outcome out;
  std::vector<ba::token> ids;
  auto tokens = chat.generate(*context, ba::greedy{}, {.max_tokens = o.max_tokens, .stop = all.rt.stops()});
  for (const ba::token id : tokens) ids.push_back(id);
  if (tokens.error()) return *tokens.error();
  out.right = best_subspan_em(words.decode(std::span<const ba::token>(ids), {.continues = true}), s.answers);
  // The right answer, token by token, whatever the model would have said.
  for (std::size_t k = 0; k < expected.size(); ++k, ++out.tokens) {
    out.nll += negative_log_likelihood(teacher.logits(), expected[k]);
    if (k + 1 < expected.size())
      if (auto done = chat.decode(teacher, expected[k]); !done) return done.error();
  }
  return out;
}

}  // namespace

result<json> score(const options& o) {
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  const auto samples = read_samples(o.dataset);
  if (!samples) return samples.error();
  std::size_t right = 0, tokens = 0;
  double nll = 0;
  {
    progress bar("scoring");
    ba::kv_store<> store({.budget_bytes = o.budget});
    for (std::size_t i = 0; i < samples->size(); ++i) {
      const auto one = judge(*all, store, (*samples)[i], o);
      if (!one) return ba::fail(one.error().code, o.dataset, ", sample ", i + 1, ": ", one.error().message);
      right += one->right ? 1u : 0u;
      nll += one->nll;
      tokens += one->tokens;
      bar(i + 1, samples->size());
    }
  }
  if (!std::isfinite(nll))
    return ba::fail(ba::errc::bad_format, o.common.model, ": nll: expected a finite number, found ", nll);
  const auto mean = [](double sum, std::size_t n) { return n == 0 ? 0.0 : sum / static_cast<double>(n); };
  json out = {{"accuracy", mean(static_cast<double>(right), samples->size())},
              {"nll", mean(nll, tokens)},
              {"n", samples->size()}};
  if (!o.common.json) print(out.dump() + "\n");
  return out;
}

}  // namespace cli
