// SPDX-License-Identifier: MIT
// `answer`: a question over passages, from blocks that are encoded once.
#include <blockattn/analysis/flops.hpp>
#include <blockattn/text/detokenize.hpp>

#include <cstdio>

#include "block_folder.hpp"
#include "prompt.hpp"
#include "ttft.hpp"

namespace cli {

namespace {

json flops_json(const ba::model_config& c, const found_blocks& found, std::size_t final_tokens) {
  ba::analysis::request r;
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    r.blocks.push_back(found.handles[i]->tokens().size());
    r.hit.push_back(!found.missed(i));
  }
  r.final_tokens = final_tokens;
  const auto one = [](const ba::analysis::comparison& x) {
    return json{{"full", x.full}, {"block", x.block}, {"reduction", x.reduction()}};
  };
  return {{"paper", one(ba::analysis::paper_comparison(c, r))}, {"exact", one(ba::analysis::exact_comparison(c, r))}};
}

}  // namespace

result<json> answer(const options& o) {
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  const ba::tokenizer& words = all->words();
  session& chat = *all->rt.chat;
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  auto sampler = make_sampler(o);
  if (!sampler) return std::move(sampler).error();
  prompt p = tokenise(words, all->form, *passages, o.question);
  const prompt as_blocks = p;
  join_blocks(p, o.common);
  auto context = make_context(chat, p.question.size(), o.max_tokens, o.common);
  if (!context) return std::move(context).error();

  auto store = open_store(o.store, o.budget);
  if (!store) return std::move(store).error();
  const stopwatch clock;
  auto found = find_blocks(chat, **store, p.blocks);
  if (!found) return std::move(found).error();
  timing t;
  t.encode_ms = clock.milliseconds();
  if (auto placed = context->assemble(found->handles); !placed) return placed.error();
  if (auto done = chat.prefill(*context, p.question); !done) return done.error();
  t.tokens_computed = p.question.size();
  for (std::size_t i = 0; i < p.blocks.size(); ++i)
    (found->missed(i) ? t.tokens_computed : t.tokens_reused) += p.blocks[i].size();

  std::vector<ba::token> ids;
  auto tokens = chat.generate(*context, *sampler, {.max_tokens = o.max_tokens, .stop = all->rt.stops()});
  for (const ba::token id : tokens) {
    if (ids.empty()) t.ttft_ms = clock.milliseconds();
    ids.push_back(id);
  }
  const double end = clock.milliseconds();
  if (tokens.error()) return *tokens.error();
  if (ids.empty()) t.ttft_ms = end;
  t.decode_tok_s = tokens_per_second(ids.size(), end - t.ttft_ms);
  const std::string text = ba::to_valid_utf8(words.decode(std::span<const ba::token>(ids), {.continues = true}));
  if (auto kept = keep_blocks(**store); !kept) return kept.error();

  json out = {{"answer", text},
              {"blocks", describe_blocks(*found, p.question.size())},
              {"timing", t.to_json()},
              {"flops", flops_json(chat.model().config(), *found, p.question.size())},
              {"store", describe_store(**store, *found, !o.store.empty())}};
  if (o.compare) {
    const auto three = compare(chat, as_blocks.blocks, as_blocks.question, o.common);
    if (!three) return three.error();
    out["compare"] = three->to_json();
    if (!o.common.json)
      std::printf("time to first token: full %.2f ms, cold %.2f ms, warm %.2f ms; cold and warm bits %s\n",
                  three->full.ttft_ms, three->cold.ttft_ms, three->warm.ttft_ms, three->same_bits ? "equal" : "DIFFER");
  }
  found->tell_refused();
  if (!o.common.json) print(text + "\n");
  return out;
}

}  // namespace cli
