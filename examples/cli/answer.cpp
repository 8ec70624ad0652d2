// SPDX-License-Identifier: MIT
// `answer`, `pack`, `store`, `score`: passages in, answers, files and scores out.
#include <blockattn/analysis/flops.hpp>
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/passages.hpp>
#include <blockattn/text/read_file.hpp>
#include <blockattn/text/template.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "block_folder.hpp"
#include "score.hpp"
#include "ttft.hpp"

namespace cli {

namespace {

struct prompt {
  token_lists blocks;  // the preamble, then the passages
  std::vector<ba::token> question;
};

// Every part is tokenised on its own (PAPER 1.6). The begin token belongs to block 0, if the template has one.
prompt tokenise(const ba::tokenizer& words, const ba::prompt_template& t, std::span<const ba::passage> passages,
                std::string_view question) {
  const auto text = ba::render(t, passages, question);
  prompt out;
  out.blocks.push_back(words.encode(text.preamble, {.bos = t.bos && words.add_bos()}));
  for (const std::string& passage : text.passages) out.blocks.push_back(words.encode(passage));
  out.question = words.encode(text.final);
  return out;
}

// Full mode and --local-blocks on the same tokens: the later blocks join the final one.
void join_blocks(prompt& p, const common_options& o) {
  const std::size_t local = o.mode == "full" ? 0 : std::min(o.local_blocks, p.blocks.size());
  std::vector<ba::token> final_ids;
  for (std::size_t i = local; i < p.blocks.size(); ++i)
    final_ids.insert(final_ids.end(), p.blocks[i].begin(), p.blocks[i].end());
  final_ids.insert(final_ids.end(), p.question.begin(), p.question.end());
  p.blocks.resize(local);
  p.question = std::move(final_ids);
}

json flops_json(const ba::model_config& c, const found_blocks& found, std::size_t final_tokens) {
  ba::analysis::request r;
  for (std::size_t i = 0; i < found.handles.size(); ++i) {
    r.blocks.push_back(found.handles[i]->tokens().size());
    r.hit.push_back(std::string_view(found.from[i]) != "miss");
  }
  r.final_tokens = final_tokens;
  const auto one = [](const ba::analysis::comparison& x) {
    return json{{"full", x.full}, {"block", x.block}, {"reduction", x.reduction()}};
  };
  return {{"paper", one(ba::analysis::paper_comparison(c, r))}, {"exact", one(ba::analysis::exact_comparison(c, r))}};
}

struct opened {
  runtime rt;
  const ba::tokenizer* words = nullptr;
  ba::prompt_template form;
};

ba::result<opened> open_all(const options& o) {
  opened out;
  auto form = ba::find_template(o.template_name);
  if (!form) return ba::fail(ba::errc::invalid_argument, "--template: ", form.error().message);
  out.form = std::move(*form);
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  out.rt = std::move(*rt);
  return out;
}

}  // namespace

result<json> answer(const options& o) {
  auto all = open_all(o);
  if (!all) return std::move(all).error();
  runtime& rt = all->rt;
  const auto words = rt.tokenizer();
  if (!words) return words.error();
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  auto sampler = ba::sampler::make({.temperature = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .min_p = o.min_p, .seed = o.seed});
  if (!sampler) return ba::fail(ba::errc::invalid_argument, "--temperature, --top-p, --min-p: ", sampler.error().message);
  prompt p = tokenise(**words, all->form, *passages, o.question);
  const prompt as_blocks = p;
  join_blocks(p, o.common);

  ba::context context(rt.chat->layout(), {.room = p.question.size() + o.max_tokens + 16, .position = rt.position(o.common)});
  ba::kv_store<> store({.budget_bytes = o.budget});
  const stopwatch clock;
  auto found = find_blocks(*rt.chat, store, o.store, p.blocks);
  if (!found) return std::move(found).error();
  timing t;
  t.encode_ms = clock.milliseconds();
  for (const std::string& why : found->refused) std::fprintf(stderr, "blockattn: encoded again: %s\n", why.c_str());
  if (auto placed = context.assemble(found->handles); !placed) return placed.error();
  if (auto done = rt.chat->prefill(context, p.question); !done) return done.error();
  t.tokens_computed = p.question.size();
  for (std::size_t i = 0; i < p.blocks.size(); ++i)
    (std::string_view(found->from[i]) == "miss" ? t.tokens_computed : t.tokens_reused) += p.blocks[i].size();

  ba::generate_options settings{.max_tokens = o.max_tokens,
                                .stop = {(*words)->stops().begin(), (*words)->stops().end()}};
  std::vector<ba::token> ids;
  auto tokens = rt.chat->generate(context, *sampler, settings);
  for (const ba::token id : tokens) {
    if (ids.empty()) t.ttft_ms = clock.milliseconds();
    ids.push_back(id);
  }
  if (tokens.error()) return *tokens.error();
  const double end = clock.milliseconds();
  if (ids.empty()) t.ttft_ms = end;
  if (ids.size() > 1) t.decode_tok_s = 1000.0 * static_cast<double>(ids.size()) / std::max(end - t.ttft_ms, 1e-3);
  const std::string text = ba::to_valid_utf8((*words)->decode(std::span<const ba::token>(ids), {.continues = true}));

  json out = {{"answer", text},
              {"blocks", describe_blocks(*found, p.question.size())},
              {"timing", t.to_json()},
              {"flops", flops_json(rt.weights->config(), *found, p.question.size())}};
  if (o.compare) {
    auto three = compare(*rt.chat, as_blocks.blocks, as_blocks.question, rt.position(o.common));
    if (!three) return std::move(three).error();
    out["compare"] = three->to_json();
    if (!o.common.json)
      std::printf("time to first token: full %.2f ms, cold %.2f ms, warm %.2f ms; cold and warm bits %s\n",
                  three->full.ttft_ms, three->cold.ttft_ms, three->warm.ttft_ms, three->same_bits ? "equal" : "DIFFER");
  }
  if (!o.common.json) std::printf("%s\n", text.c_str());
  return out;
}

result<json> pack(const options& o) {
  auto all = open_all(o);
  if (!all) return std::move(all).error();
  const auto words = all->rt.tokenizer();
  if (!words) return words.error();
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  const prompt p = tokenise(**words, all->form, *passages, "");
  progress bar("encoding");
  ba::kv_store<> store({.budget_bytes = o.budget});
  std::size_t tokens = 0, bytes = 0, reused = 0;
  const stopwatch clock;
  for (std::size_t i = 0; i < p.blocks.size(); ++i) {
    // One block at a time: memory stays bounded however many passages there are.
    const token_lists one{p.blocks[i]};
    const auto found = find_blocks(*all->rt.chat, store, o.store, one);
    if (!found) return found.error();
    tokens += one[0].size();
    bytes += found->handles[0]->payload_bytes();
    reused += std::string_view(found->from[0]) == "miss" ? 0 : 1;
    bar(i + 1, p.blocks.size());
  }
  const double ms = clock.milliseconds();
  if (!o.common.json)
    std::printf("%zu blocks, %zu tokens, %.1f MB, %.0f ms, %zu of them there already\n", p.blocks.size(), tokens,
                static_cast<double>(bytes) * 1e-6, ms, reused);
  return json{{"blocks", p.blocks.size()}, {"tokens", tokens}, {"bytes", bytes}, {"encode_ms", ms}, {"reused", reused}};
}

result<json> store(const options& o) {
  std::error_code code;
  json files = json::array();
  std::size_t bad = 0, bytes = 0;
  for (std::filesystem::directory_iterator it(o.store, code), end; !code && it != end; it.increment(code)) {
    if (it->path().extension() != ".safetensors") continue;
    const auto size = std::filesystem::file_size(it->path(), code);
    json entry = {{"key", it->path().stem().string()}, {"bytes", size}};
    if (o.store_verb == "verify") {
      const auto whole = ba::verify_block_file(it->path());
      entry["ok"] = whole.has_value();
      if (!whole) entry["reason"] = whole.error().message, ++bad;
    }
    bytes += size;
    if (!o.common.json)
      std::printf("%s %12zu %s\n", entry["key"].get_ref<const std::string&>().c_str(), static_cast<std::size_t>(size),
                  entry.contains("reason") ? entry["reason"].get_ref<const std::string&>().c_str() : "");
    files.push_back(std::move(entry));
  }
  if (code) return ba::fail(ba::errc::io, o.store, ": cannot list: ", code.message());
  return json{{"blocks", files.size()}, {"bytes", bytes}, {"bad", bad}, {"files", files}};
}

result<json> score(const options& o) {
  auto all = open_all(o);
  if (!all) return std::move(all).error();
  runtime& rt = all->rt;
  const auto words = rt.tokenizer();
  if (!words) return words.error();
  const auto samples = read_samples(o.dataset);
  if (!samples) return samples.error();
  progress bar("scoring");
  ba::kv_store<> store({.budget_bytes = o.budget});
  std::size_t right = 0, scored_tokens = 0;
  double nll = 0;
  for (std::size_t i = 0; i < samples->size(); ++i) {
    const sample& s = (*samples)[i];
    prompt p = tokenise(**words, all->form, s.passages, s.question);
    join_blocks(p, o.common);
    const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(p.blocks), *rt.chat);
    if (!handles) return handles.error();
    const auto expected = s.answers.empty() ? std::vector<ba::token>() : (*words)->encode(s.answers[0]);
    ba::context context(rt.chat->layout(), {.room = p.question.size() + std::max(o.max_tokens, expected.size()) + 16,
                                            .position = rt.position(o.common)});
    if (auto placed = context.assemble(*handles); !placed) return placed.error();
    if (auto done = rt.chat->prefill(context, p.question); !done) return done.error();
    ba::context teacher = context.fork();
    std::vector<ba::token> ids;
    auto tokens = rt.chat->generate(context, ba::greedy{},
                                    {.max_tokens = o.max_tokens, .stop = {(*words)->stops().begin(), (*words)->stops().end()}});
    for (const ba::token id : tokens) ids.push_back(id);
    if (tokens.error()) return *tokens.error();
    right += best_subspan_em((*words)->decode(std::span<const ba::token>(ids), {.continues = true}), s.answers) ? 1 : 0;
    // The likelihood of the first answer, token by token.
    for (std::size_t k = 0; k < expected.size(); ++k, ++scored_tokens) {
      nll += negative_log_likelihood(teacher.logits(), expected[k]);
      if (k + 1 < expected.size())
        if (auto done = rt.chat->decode(teacher, expected[k]); !done) return done.error();
    }
    bar(i + 1, samples->size());
  }
  const double n = static_cast<double>(samples->size());
  json out = {{"accuracy", samples->empty() ? 0.0 : static_cast<double>(right) / n},
              {"nll", scored_tokens == 0 ? 0.0 : nll / static_cast<double>(scored_tokens)},
              {"n", samples->size()}};
  if (!o.common.json) std::printf("%s\n", out.dump().c_str());
  return out;
}

}  // namespace cli
