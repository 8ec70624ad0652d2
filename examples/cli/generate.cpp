// SPDX-License-Identifier: MIT
// `generate` and `logits`: ids in, ids or logits out.
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/text/detokenize.hpp>

#include <cstdio>
#include <numeric>

#include "block_folder.hpp"
#include "models.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

// The ids in blocks, as --blocks cuts them and as --mode and --local-blocks want them: local blocks and a final one.
struct prompt_blocks {
  token_lists local;
  std::vector<ba::token> final_ids;
  std::vector<std::size_t> lengths;  // as given
};

ba::result<prompt_blocks> cut(const std::vector<ba::token>& ids, const options& o) {
  prompt_blocks out;
  if (ids.empty()) return ba::fail(ba::errc::invalid_argument, "--ids: expected at least one id, found none");
  if (o.blocks.empty()) {
    out.lengths = {ids.size()};
  } else {
    auto lengths = parse_list<std::size_t>("--blocks", o.blocks);
    if (!lengths) return std::move(lengths).error();
    out.lengths = std::move(*lengths);
    // Each is compared before the sum, which could wrap.
    std::size_t sum = 0;
    for (const std::size_t n : out.lengths) sum = n > ids.size() - sum ? ids.size() + 1 : sum + n, sum = std::min(sum, ids.size() + 1);
    if (sum != ids.size())
      return ba::fail(ba::errc::invalid_argument, "--blocks: expected lengths whose sum is that of --ids, ", ids.size(),
                      ", found another");
    if (out.lengths.empty() || out.lengths.back() == 0)
      return ba::fail(ba::errc::invalid_argument, "--blocks: expected at least one token in the final block, found none");
  }
  const std::size_t local = o.common.mode == "full" ? 0 : std::min(o.common.local_blocks, out.lengths.size() - 1);
  auto at = ids.begin();
  for (std::size_t i = 0; i < local; ++i) {
    out.local.emplace_back(at, at + static_cast<std::ptrdiff_t>(out.lengths[i]));
    at += static_cast<std::ptrdiff_t>(out.lengths[i]);
  }
  out.final_ids.assign(at, ids.end());
  return out;
}

}  // namespace

result<json> generate(const options& o) {
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  std::vector<ba::token> ids;
  if (o.ids.empty()) {
    const auto words = rt->tokenizer();
    if (!words) return words.error();
    ids = (*words)->encode(o.prompt, {.bos = (*words)->add_bos()});
    if (ids.empty()) return ba::fail(ba::errc::invalid_argument, "--prompt: expected text, found none");
  } else {
    auto parsed = parse_list<ba::token>("--ids", o.ids);
    if (!parsed) return std::move(parsed).error();
    ids = std::move(*parsed);
  }
  const auto blocks = cut(ids, o);
  if (!blocks) return blocks.error();
  auto sampler = ba::sampler::make({.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .min_p = o.min_p, .seed = o.seed});
  if (!sampler) return ba::fail(ba::errc::invalid_argument, "--temperature, --top-p, --min-p: ", sampler.error().message);

  ba::context context(rt->chat->layout(),
                      {.room = blocks->final_ids.size() + o.max_tokens + 16, .position = rt->position(o.common)});
  ba::kv_store<> store({.budget_bytes = std::size_t{1} << 40});
  const stopwatch clock;
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(blocks->local), *rt->chat);
  if (!handles) return handles.error();
  if (auto placed = context.assemble(*handles); !placed) return placed.error();
  if (auto done = rt->chat->prefill(context, blocks->final_ids); !done) return done.error();

  ba::generate_options settings{.max_tokens = o.max_tokens};
  if (rt->words) settings.stop.assign(rt->words->stops().begin(), rt->words->stops().end());
  std::vector<ba::token> out;
  double first = 0;
  std::optional<ba::detokenizer> stream;
  if (rt->words && !o.common.json) stream.emplace(*rt->words, ba::decode_options{.continues = true});
  auto tokens = rt->chat->generate(context, *sampler, settings);
  for (const ba::token id : tokens) {
    if (out.empty()) first = clock.milliseconds();
    out.push_back(id);
    if (stream) {
      const auto text = stream->push(id);
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    }
  }
  const double all = clock.milliseconds();
  if (first == 0) first = all;
  if (tokens.error()) return *tokens.error();
  if (stream) std::printf("%s\n", std::string(stream->flush()).c_str());
  const std::string text =
      rt->words ? ba::to_valid_utf8(rt->words->decode(std::span<const ba::token>(out), {.continues = true})) : "";
  const double speed = out.size() < 2 ? 0 : 1000.0 * static_cast<double>(out.size()) / std::max(all - first, 1e-3);
  return json{{"prompt_ids", ids},
              {"ids", out},
              {"text", text},
              {"finish", ba::to_string(tokens.finish())},
              {"timing", {{"ttft_ms", first}, {"decode_tok_s", speed}}}};
}

result<json> logits(const options& o) {
  auto rt = open_runtime(o.common, ba::dtype::f32);
  if (!rt) return std::move(rt).error();
  const auto ids = parse_list<ba::token>("--ids", o.ids);
  if (!ids) return ids.error();
  const auto blocks = cut(*ids, o);
  if (!blocks) return blocks.error();
  const std::size_t vocab = rt->weights->config().vocab;

  ba::context context(rt->chat->layout(), {.room = blocks->final_ids.size() + 16, .position = rt->position(o.common)});
  ba::kv_store<> store({.budget_bytes = std::size_t{1} << 40});
  auto found = find_blocks(*rt->chat, store, o.store, blocks->local);
  if (!found) return std::move(found).error();
  if (auto placed = context.assemble(found->handles); !placed) return placed.error();
  json rows = json::array();
  if (o.all) {
    std::vector<float> all(blocks->final_ids.size() * vocab);
    if (auto done = rt->chat->prefill_logits(context, blocks->final_ids, all); !done) return done.error();
    for (std::size_t r = 0; r < blocks->final_ids.size(); ++r)
      rows.push_back(std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(r * vocab),
                                        all.begin() + static_cast<std::ptrdiff_t>((r + 1) * vocab)));
  } else {
    if (auto done = rt->chat->prefill(context, blocks->final_ids); !done) return done.error();
    rows = std::vector<float>(context.logits().begin(), context.logits().end());
  }
  json described = describe_blocks(*found, blocks->final_ids.size());
  if (!o.common.json) std::printf("%s\n", rows.dump().c_str());
  return json{{"logits", rows}, {"tokens", ids->size()}, {"blocks", described}};
}

}  // namespace cli
