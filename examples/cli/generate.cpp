// SPDX-License-Identifier: MIT
// `generate` and `logits`: ids in, ids or logits out.
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/text/detokenize.hpp>

#include <cmath>
#include <cstdio>

#include "block_folder.hpp"
#include "models.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

// Nothing leaves a store that lives for one command: the handles would pin it anyway.
constexpr ba::kv_store_options unlimited{.budget_bytes = std::size_t{1} << 60};

// The ids in local blocks and a final one, as --blocks cuts them and as --mode and --local-blocks want them.
struct prompt_blocks {
  token_lists local;
  std::vector<ba::token> final_ids;
};

prompt_blocks cut(std::vector<ba::token> ids, const options& o) {
  prompt_blocks out;
  const std::size_t cuts = o.blocks.empty() ? 0 : o.blocks.size() - 1;
  const std::size_t local = o.common.mode == "full" ? 0 : std::min(o.common.local_blocks, cuts);
  auto at = ids.begin();
  for (std::size_t i = 0; i < local; ++i) {
    out.local.emplace_back(at, at + static_cast<std::ptrdiff_t>(o.blocks[i]));
    at += static_cast<std::ptrdiff_t>(o.blocks[i]);
  }
  out.final_ids.assign(at, ids.end());
  return out;
}

// The logits of every id of a sequence, appended to `rows`; the context's tokens come before it.
ba::result<void> append_rows(session& chat, ba::context& context, std::span<const ba::token> ids,
                             std::vector<std::vector<float>>& rows) {
  const std::size_t vocab = chat.model().config().vocab;
  std::vector<float> all(ids.size() * vocab);
  if (auto done = chat.prefill_logits(context, ids, all); !done) return done;
  for (auto at = all.begin(); at != all.end(); at += static_cast<std::ptrdiff_t>(vocab))
    rows.emplace_back(at, at + static_cast<std::ptrdiff_t>(vocab));
  return {};
}

// JSON has no word for what a damaged model computes, and null would hide it.
ba::result<void> check_finite(const std::vector<std::vector<float>>& rows) {
  for (std::size_t r = 0; r < rows.size(); ++r)
    for (std::size_t i = 0; i < rows[r].size(); ++i)
      if (!std::isfinite(rows[r][i]))
        return ba::fail(ba::errc::bad_format, "logits: row ", r, ", id ", i, ": expected a finite number, found ",
                        rows[r][i]);
  return {};
}

}  // namespace

result<json> generate(const options& o) {
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  std::vector<ba::token> ids = o.ids;
  if (!o.has_ids) {
    const auto words = rt->tokenizer();
    if (!words) return words.error();
    ids = (*words)->encode(o.prompt, {.bos = (*words)->add_bos()});
    if (ids.empty())
      return ba::fail(ba::errc::invalid_argument,
                      "prompt: expected text, as this model has no begin token, found none");
  }
  const auto blocks = cut(ids, o);
  auto sampler = make_sampler(o);
  if (!sampler) return std::move(sampler).error();
  auto context = make_context(*rt->chat, blocks.final_ids.size(), o.max_tokens, o.common);
  if (!context) return std::move(context).error();
  ba::kv_store<> store(unlimited);
  const stopwatch clock;
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(blocks.local), *rt->chat);
  if (!handles) return handles.error();
  if (auto placed = context->assemble(*handles); !placed) return placed.error();
  if (auto done = rt->chat->prefill(*context, blocks.final_ids); !done) return done.error();

  // The words go on from the prompt: whether the first one keeps its space depends on what came before.
  std::optional<ba::detokenizer> stream;
  if (rt->words) stream.emplace(*rt->words);
  for (const ba::token id : ids)
    if (stream) (void)stream->push(id);
  std::vector<ba::token> out;
  std::string text;
  const auto show = [&](std::string_view piece) {
    text += piece;
    if (o.common.json) return;
    print(piece);
    std::fflush(stdout);
  };
  double first = 0;
  auto tokens = rt->chat->generate(*context, *sampler, {.max_tokens = o.max_tokens, .stop = rt->stops()});
  for (const ba::token id : tokens) {
    if (out.empty()) first = clock.milliseconds();
    out.push_back(id);
    if (stream) show(stream->push(id));
  }
  const double all = clock.milliseconds();
  if (tokens.error()) return *tokens.error();
  if (out.empty()) first = all;  // the first token was a stop token
  if (stream) show(stream->flush());
  if (!o.common.json) print(stream ? "\n" : json(out).dump() + "\n");
  return json{{"prompt_ids", ids},
              {"ids", out},
              {"text", text},
              {"finish", ba::to_string(tokens.finish())},
              {"timing", {{"ttft_ms", first}, {"decode_tok_s", tokens_per_second(out.size(), all - first)}}}};
}

result<json> logits(const options& o) {
  auto rt = open_runtime(o.common, ba::dtype::f32);
  if (!rt) return std::move(rt).error();
  // A logit costs 4 bytes, 16 as a JSON value and up to 25 as text.
  const double numbers = static_cast<double>(o.all ? o.ids.size() : 1) * rt->weights->config().vocab;
  if (auto fits = check_memory("logits of " + std::to_string(o.ids.size()) + " positions", numbers * 48); !fits)
    return fits.error();
  const auto blocks = cut(o.ids, o);
  auto context = make_context(*rt->chat, blocks.final_ids.size(), 0, o.common);
  if (!context) return std::move(context).error();
  auto store = open_store(o.store, unlimited.budget_bytes);
  if (!store) return std::move(store).error();
  auto found = find_blocks(*rt->chat, **store, blocks.local);
  if (!found) return std::move(found).error();
  if (auto placed = context->assemble(found->handles); !placed) return placed.error();

  std::vector<std::vector<float>> rows;
  if (o.all) {
    // A local block sees itself alone, so its rows are those of a context of its own.
    for (const auto& ids : blocks.local) {
      auto alone = make_context(*rt->chat, ids.size(), 0, o.common);
      if (!alone) return std::move(alone).error();
      if (auto done = append_rows(*rt->chat, *alone, ids, rows); !done) return done.error();
    }
    if (auto done = append_rows(*rt->chat, *context, blocks.final_ids, rows); !done) return done.error();
  } else {
    if (auto done = rt->chat->prefill(*context, blocks.final_ids); !done) return done.error();
    rows.emplace_back(context->logits().begin(), context->logits().end());
  }
  if (auto finite = check_finite(rows); !finite) return finite.error();
  if (auto kept = keep_blocks(**store); !kept) return kept.error();
  found->tell_refused();
  json out = {{"logits", o.all ? json(rows) : json(rows.front())},
              {"tokens", o.ids.size()},
              {"blocks", describe_blocks(*found, blocks.final_ids.size())}};
  if (!o.common.json) print(out["logits"].dump() + "\n");
  return out;
}

}  // namespace cli
