// SPDX-License-Identifier: MIT
// `demo`: the main job on a model that needs no download. Its weights are random and its tokens are bytes, so the text
// is noise; the path from passages to a first token, the store and the times are the real ones.
#include <blockattn/model/random_weights.hpp>
#include <blockattn/text/passages.hpp>
#include <blockattn/text/template.hpp>

#include <cstdio>

#include "ttft.hpp"

namespace cli {

namespace {

std::vector<ba::token> bytes_as_tokens(std::string_view text) {
  std::vector<ba::token> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

}  // namespace

result<json> demo(const options& o) {
  const auto passages = ba::open_passages(o.passages);
  if (!passages) return passages.error();
  const auto config = ba::published_shape("smollm2-135m");
  if (!config) return config.error();
  const auto words = ba::find_template("plain");
  if (!words) return words.error();

  ba::thread_executor pool(o.common.threads == 0 ? std::thread::hardware_concurrency() : o.common.threads);
  const auto bound = model::bind(ba::random_weights(*config, ba::dtype::bf16), {.workers = ba::executor_ref(pool)});
  if (!bound) return bound.error();
  session chat(*bound, pool);
  const bool people = !o.common.json;
  if (people) {
    std::printf(
        "A model of the shape of SmolLM2-135M with random weights: its text would be noise, so only what it\n"
        "computes and how long that takes is shown. %s, %zu workers, keys and values in bf16.\n\n",
        ba::isa_name(), pool.concurrency());
  }

  const char* const questions[] = {"Who does Tomas Reed owe a coin each week?", "What rings when the market opens?",
                                   "Why does nobody build below the stone?"};
  // The preamble is block 0 (PAPER 1: every block but the last is local), the passages follow.
  const auto prompt = ba::render(*words, *passages, questions[0]);
  token_lists blocks{bytes_as_tokens(prompt.preamble)};
  for (const auto& passage : prompt.passages) blocks.push_back(bytes_as_tokens(passage));
  const std::size_t total = count_tokens(blocks);

  ba::kv_store<> store({.budget_bytes = 256u << 20});
  ba::context at(chat.layout(), {.room = 256});
  ba::context whole(chat.layout(), {.room = total + 256});
  json rows = json::array();
  bool same_bits = true, faster = true;
  const auto show = [&](const char* what, const timing& t, const char* question) {
    rows.push_back({{"question", question}, {"store", what}, {"timing", t.to_json()}});
    if (people)
      std::printf("  %-28s %9.1f ms   %5zu tokens computed, %5zu reused\n", what, t.ttft_ms, t.tokens_computed,
                  t.tokens_reused);
  };
  const auto run_block = [&](const char* what, const char* text, const token_lists& lists) -> ba::result<timing> {
    ba::token first = 0;
    const auto filled = ba::render(*words, {}, text);
    auto t = time_block(chat, store, at, lists, bytes_as_tokens(filled.final), first);
    if (t) show(what, *t, text);
    return t;
  };

  for (std::size_t q = 0; q < 3; ++q) {
    if (people) std::printf("\"%s\"\n", questions[q]);
    const auto final_ids = bytes_as_tokens(ba::render(*words, {}, questions[q]).final);
    if (q == 0) {
      // The first question finds nothing in the store; asked again, it finds everything.
      const auto cold = run_block("block, store empty (cold)", questions[q], blocks);
      if (!cold) return cold.error();
    }
    const std::vector<float> before(at.logits().begin(), at.logits().end());
    const auto warm = run_block("block, from the store (warm)", questions[q], blocks);
    if (!warm) return warm.error();
    if (q == 0) same_bits = std::memcmp(before.data(), at.logits().data(), before.size() * sizeof(float)) == 0;
    ba::token first = 0;
    const auto full = time_full(chat, whole, blocks, final_ids, first);
    if (!full) return full.error();
    show("full attention", *full, questions[q]);
    faster = faster && warm->ttft_ms < full->ttft_ms;
  }
  // One passage changes, and all are laid out in another order: one block is encoded.
  auto edited = blocks;
  edited[2] =
      bytes_as_tokens("The Lowgate ferry\nThe ferry sank last winter. A rope is stretched where it crossed.\n\n");
  std::reverse(edited.begin() + 1, edited.end());
  if (people) std::printf("One passage rewritten, all in reverse order:\n");
  const auto before = store.counters();
  const auto edit = run_block("block, one of them new", questions[0], edited);
  if (!edit) return edit.error();
  const auto after = store.counters();

  if (people) {
    std::printf("\nblocks encoded for the edit: %zu of %zu; cold and warm logits equal in every bit: %s\n",
                static_cast<std::size_t>(after.misses - before.misses), edited.size(), same_bits ? "yes" : "NO");
    std::printf("store: %zu blocks, %.1f MB of %.1f MB\n", after.blocks, static_cast<double>(after.bytes) * 1e-6,
                static_cast<double>(after.budget_bytes) * 1e-6);
  }
  if (!same_bits) return ba::fail(ba::errc::bad_format, "demo: warm logits differ from cold ones");
  if (!faster) return ba::fail(ba::errc::bad_format, "demo: a warm first token was not faster than full attention");
  return json{{"rows", rows}, {"same_bits", same_bits}, {"encoded_for_edit", after.misses - before.misses}};
}

}  // namespace cli
