// SPDX-License-Identifier: MIT
// `score`: how often a model answers right, and how likely it finds the right answer.
#include "score.hpp"

#include <blockattn/cache/kv_store.hpp>
#include <blockattn/text/detokenize.hpp>

#include <cmath>
#include <optional>

#include "interval.hpp"
#include "prompt.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

// Everything that decides a sample's outcome. A result from another model, mode or prompt is not this one's.
std::string key_of(const session& chat, const prompt& p, std::span<const ba::token> expected, const ba::sample& s,
                   const options& o) {
  ba::hasher h;
  const ba::hash128 model = chat.model().fingerprint();
  h.number(model.high).number(model.low).number(o.max_tokens);
  h.text(o.common.kv.empty() ? "bf16" : o.common.kv).text(o.common.compute).text(o.common.position);
  h.number(p.blocks.size());
  for (const auto& ids : p.blocks) h.tokens(ids);
  h.tokens(p.question).tokens(expected).number(s.answers.size());
  for (const std::string& answer : s.answers) h.text(answer);
  return h.finish().hex();
}

template <class Store>
ba::result<outcome> judge(opened& all, Store& store, const prompt& p, std::span<const ba::token> expected,
                          const ba::sample& s, const options& o) {
  session& chat = *all.rt.chat;
  const ba::tokenizer& words = all.words();
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(p.blocks), chat);
  if (!handles) return handles.error();
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
  out.output = ba::to_valid_utf8(words.decode(std::span<const ba::token>(ids), {.continues = true}));
  out.right = ba::best_subspan_em(out.output, s.answers);
  out.exact = ba::exact_match(out.output, s.answers);
  // The right answer, token by token, whatever the model would have said.
  for (std::size_t k = 0; k < expected.size(); ++k, ++out.tokens) {
    out.nll += negative_log_likelihood(teacher.logits(), expected[k]);
    if (k + 1 < expected.size())
      if (auto done = chat.decode(teacher, expected[k]); !done) return done.error();
  }
  if (!std::isfinite(out.nll))
    return ba::fail(ba::errc::bad_format, "nll: expected a finite number, found ", out.nll);
  return out;
}

}  // namespace

result<json> score(const options& o) {
  const auto format = ba::find_dataset_format(o.dataset_format);
  if (!format) return format.error();
  auto samples = ba::open_dataset(o.dataset, *format);
  if (!samples) return samples.error();
  for (ba::sample& s : *samples)
    if (o.top_passages != 0 && s.passages.size() > o.top_passages) s.passages.resize(o.top_passages);
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  std::map<std::string, outcome> known;
  std::optional<result_log> log, out_file;
  if (!o.resume.empty()) {
    auto opened = result_log::resume(o.resume, known);
    if (!opened) return std::move(opened).error();
    log.emplace(*std::move(opened));
  }
  if (!o.out.empty()) {
    auto opened = result_log::create(o.out);
    if (!opened) return std::move(opened).error();
    out_file.emplace(*std::move(opened));
  }

  struct tally {
    std::size_t right = 0, n = 0;
  };
  std::map<std::string, tally> kinds;
  std::size_t right = 0, exact = 0, tokens = 0, resumed = 0;
  double nll = 0;
  {
    progress bar("scoring");
    ba::kv_store<> store({.budget_bytes = o.budget});
    for (std::size_t i = 0; i < samples->size(); ++i) {
      const ba::sample& s = (*samples)[i];
      prompt p = tokenise(all->words(), all->form, s.passages, s.question);
      join_blocks(p, o.common);
      const std::vector<ba::token> expected = ba::encode_answer(all->words(), all->form, s.answers.front());
      const std::string key = key_of(*all->rt.chat, p, expected, s, o);
      const auto before = known.find(key);
      outcome one;
      if (before != known.end()) {
        one = before->second;
        ++resumed;
      } else {
        auto judged = judge(*all, store, p, expected, s, o);
        if (!judged) return ba::fail(judged.error().code, o.dataset, ", sample ", i + 1, ": ", judged.error().message);
        one = *std::move(judged);
        if (log)
          if (auto kept = log->add(result_line(key, i, s, one)); !kept) return std::move(kept).error();
      }
      if (out_file)
        if (auto kept = out_file->add(result_line(key, i, s, one)); !kept) return std::move(kept).error();
      if (!s.kind.empty()) kinds[s.kind].right += one.right ? 1u : 0u, ++kinds[s.kind].n;
      right += one.right ? 1u : 0u;
      exact += one.exact ? 1u : 0u;
      nll += one.nll;
      tokens += one.tokens;
      bar(i + 1, samples->size());
    }
  }
  const auto mean = [](double sum, std::size_t n) { return n == 0 ? 0.0 : sum / static_cast<double>(n); };
  json out = {{"accuracy", mean(static_cast<double>(right), samples->size())},
              {"exact_match", mean(static_cast<double>(exact), samples->size())},
              {"nll", mean(nll, tokens)},
              {"n", samples->size()}};
  const auto [low, high] = wilson(right, samples->size());
  out["low"] = low, out["high"] = high;
  for (const auto& [name, kind] : kinds) {
    const auto [from, to] = wilson(kind.right, kind.n);
    out["kinds"][name] = {
        {"accuracy", mean(static_cast<double>(kind.right), kind.n)}, {"low", from}, {"high", to}, {"n", kind.n}};
  }
  if (!o.resume.empty()) out["resumed"] = resumed;
  if (!o.common.json) print(out.dump() + "\n");
  return out;
}

}  // namespace cli
