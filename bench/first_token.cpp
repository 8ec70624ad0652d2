// SPDX-License-Identifier: MIT
// The first token of a question over blocks that a folder holds, beside the same over blocks in memory: what a request
// pays for its passages having outlived the process. A whole request is timed: lookup, restoring, placing, prefill,
// sampling. Each round asks another question in every way, with a new store over the folder (page cache warm), and
// compares all logits; medians, and the median over rounds of each way's time by the warm one's.
//
//     first_token [shape = llama-3.2-1b] [context = 8192] [rounds = 9] [folder = the temporary folder]
#include <blockattn/cache/directory_storage.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/model/random_weights.hpp>
#include <blockattn/model/session.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace ba = blockattn;

namespace {

constexpr std::size_t block_tokens = 512, question_tokens = 50;
using lists = std::vector<std::vector<ba::token>>;
using session = ba::session<ba::llama<>, ba::executor_ref>;

double now_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}
std::vector<ba::token> numbered(std::size_t n, std::uint64_t number, std::uint32_t vocab) {
  std::vector<ba::token> out(n);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = static_cast<ba::token>(ba::hasher(number).number(i).finish().low % vocab);
  return out;
}

struct timed {
  double all_ms = 0, blocks_ms = 0;
  std::vector<float> logits;
};
template <class Store>
timed ask(session& chat, Store& store, ba::context& at, const lists& blocks, const std::vector<ba::token>& question) {
  timed t;
  const double start = now_ms();
  const auto handles = store.find_or_encode(std::span<const std::vector<ba::token>>(blocks), chat).value();
  t.blocks_ms = now_ms() - start;
  at.assemble(handles).value();
  chat.prefill(at, question).value();
  (void)ba::greedy{}(at.logits());
  t.all_ms = now_ms() - start;
  t.logits.assign(at.logits().begin(), at.logits().end());
  at.assemble({}).value();
  return t;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string shape = argc > 1 ? argv[1] : "llama-3.2-1b";
  const std::size_t context = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 8192;
  const std::size_t rounds = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 9;
  const std::filesystem::path folder =
      (argc > 4 ? std::filesystem::path(argv[4]) : std::filesystem::temp_directory_path()) / "blockattn_first_token";
  if (context < block_tokens || rounds == 0) return std::fprintf(stderr, "expected a block and a round at least\n"), 2;

  const auto config = ba::published_shape(shape);
  if (!config) return std::fprintf(stderr, "%s\n", config.error().message.c_str()), 2;
  ba::thread_executor pool(std::thread::hardware_concurrency());
  const auto weights = ba::random_weights(*config, ba::dtype::bf16);
  const auto model = ba::llama<>::bind(weights, {.workers = ba::executor_ref(pool), .fingerprint = ba::hash128{1, 1}}).value();
  session chat(model, pool, {.kv = ba::dtype::bf16});
  ba::context at(chat.layout(), {.room = question_tokens + 64});

  lists blocks;
  for (std::size_t i = 0; i < context / block_tokens; ++i) blocks.push_back(numbered(block_tokens, i + 1, config->vocab));
  ba::kv_store<> memory({.budget_bytes = std::size_t{64} << 30});
  const auto made = memory.find_or_encode(std::span<const std::vector<ba::token>>(blocks), chat).value();
  std::filesystem::remove_all(folder);
  const auto open = [&](ba::verify_when when, std::optional<ba::executor_ref> workers) {
    return ba::directory_storage<>::open({.folder = folder, .isa = ba::isa_name(), .verify = when, .workers = workers}).value();
  };
  {
    auto to = open(ba::verify_when::before_use, {});
    for (const auto& block : made) to.save(chat.realm(), block).value();
  }

  struct way {
    const char* name;
    ba::verify_when verify;
    bool by_workers;
    std::vector<double> all, found, ratio;
  } ways[] = {{"warm: blocks in memory", {}, false, {}, {}, {}},
              {"restored, verified by the asking thread", ba::verify_when::before_use, false, {}, {}, {}},
              {"restored, verified by the workers", ba::verify_when::before_use, true, {}, {}, {}},
              {"restored, verified when first read", ba::verify_when::by_layer, false, {}, {}, {}}};
  bool same = true;
  for (std::size_t r = 0; r <= rounds; ++r) {  // the first round warms up and is not counted
    const auto question = numbered(question_tokens, (std::uint64_t{1} << 32) + r, config->vocab);
    const timed warm = ask(chat, memory, at, blocks, question);
    for (std::size_t w = 0; w < std::size(ways); ++w) {
      timed t = warm;
      if (w != 0) {
        ba::tiered_store<ba::tiers<ba::directory_storage<>>> store(
            {.budget_bytes = std::size_t{64} << 30, .save = ba::write_back::never},
            ba::tiers(open(ways[w].verify, ways[w].by_workers ? std::optional<ba::executor_ref>(pool) : std::nullopt)));
        t = ask(chat, store, at, blocks, question);
        same = same && store.counters().loads == blocks.size() &&
               std::memcmp(t.logits.data(), warm.logits.data(), t.logits.size() * sizeof(float)) == 0;
      }
      if (r == 0) continue;
      ways[w].all.push_back(t.all_ms);
      ways[w].found.push_back(t.blocks_ms);
      ways[w].ratio.push_back(t.all_ms / warm.all_ms);
    }
  }
  std::filesystem::remove_all(folder);
  std::printf("%s, %zu tokens in %zu blocks, %zu MiB of bf16 keys and values, a question of %zu, %zu workers, %s\n",
              shape.c_str(), context, blocks.size(), chat.shape().payload_bytes(context) >> 20, question_tokens,
              pool.concurrency(), ba::isa_name());
  for (const way& w : ways)
    std::printf("  %-42s first token %7.1f ms, %.3f of warm; the blocks took %6.2f ms\n", w.name, median(w.all),
                median(w.ratio), median(w.found));
  std::printf("  logits of all %s\n", same ? "equal in every bit" : "DIFFER");
  return same ? 0 : 1;
}
