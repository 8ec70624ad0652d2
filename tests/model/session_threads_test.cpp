// SPDX-License-Identifier: MIT
// Sessions of several threads over one model and one store (PAPER section 7, invariant 23): run under ThreadSanitizer.
#include <thread>

#include "support.hpp"

using namespace blockattn_test;

TEST_CASE("two threads answer with the same blocks at different offsets", "[session][threads]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({20, 33, 9}, config.vocab);
  const auto& question = blocks[2];
  for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
    const auto answer = [&](ba::session<>& session, const std::vector<ba::block_handle>& order) {
      ba::context context(session, {.room = 64, .position = policy});
      (void)context.assemble(order).value();
      session.prefill(context, question).value();
      std::vector<float> out;
      for (int i = 0; i < 4; ++i) {
        out.insert(out.end(), context.logits().begin(), context.logits().end());
        session.decode(context, ba::greedy{}(context.logits())).value();
      }
      return out;
    };
    ba::session<> alone(model);
    ba::kv_store<> store({.budget_bytes = 32u << 20});
    const token_lists lists{blocks[0], blocks[1]};
    const auto handles = store.find_or_encode(lists, alone).value();
    const std::vector<ba::block_handle> forward{handles[0], handles[1]}, backward{handles[1], handles[0]};
    const auto expected_forward = answer(alone, forward), expected_backward = answer(alone, backward);

    std::vector<float> got[4];
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        ba::session<> session(model);
        const auto mine = store.find_or_encode(lists, session).value();
        got[t] = answer(session, t % 2 == 0 ? std::vector{mine[0], mine[1]} : std::vector{mine[1], mine[0]});
      });
    for (auto& thread : threads) thread.join();
    for (std::size_t t = 0; t < 4; ++t) CHECK(same_bits(got[t], t % 2 == 0 ? expected_forward : expected_backward));
    CHECK(store.counters().misses == 2);
  }
}

TEST_CASE("concurrent misses of many sessions encode each block once", "[session][threads]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({20, 33, 9, 40, 17}, config.vocab);
  ba::kv_store<> store({.budget_bytes = 32u << 20});
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      ba::thread_executor pool(2);
      ba::session session(model, pool);
      auto mine = blocks;
      std::rotate(mine.begin(), mine.begin() + static_cast<std::ptrdiff_t>(t), mine.end());
      for (int round = 0; round < 3; ++round) (void)store.find_or_encode(mine, session).value();
    });
  for (auto& thread : threads) thread.join();
  const auto counters = store.counters();
  CHECK(counters.misses == blocks.size());
  CHECK(counters.hits + counters.waits == 4 * 3 * blocks.size() - blocks.size());
}

TEST_CASE("forks of one context prefill on two threads", "[session][threads]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  const auto blocks = random_blocks({20, 33, 9, 7}, config.vocab);
  // key_side: the forks share blocks whose turned keys nobody has computed yet.
  for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
    ba::session<> first(model), second(model);
    ba::context context(first, {.room = 64, .position = policy});
    (void)context.assemble(std::vector{first.encode(blocks[0]).value(), first.encode(blocks[1]).value()}).value();
    ba::context fork = context.fork();
    std::thread other([&] { second.prefill(fork, blocks[3]).value(); });
    first.prefill(context, blocks[2]).value();
    other.join();
    ba::context again(first, {.room = 64, .position = policy});
    (void)again.assemble(std::vector{context.block(0), context.block(1)}).value();
    first.prefill(again, blocks[3]).value();
    CHECK(same_bits({fork.logits().begin(), fork.logits().end()}, {again.logits().begin(), again.logits().end()}));
  }
}
