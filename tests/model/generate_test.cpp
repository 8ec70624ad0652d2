// SPDX-License-Identifier: MIT
#include "support.hpp"

using namespace blockattn_test;

namespace {

struct fixture {
  ba::model_config config = small_config(16, 4, 2);
  random_model weights{config};
  ba::llama<> model = ba::llama<>::bind(weights.source()).value();
  ba::session<> session{model};
  std::vector<ba::token> prompt = random_blocks({9}, config.vocab)[0];

  ba::context prefilled(std::size_t room = 64) {
    ba::context context(session, {.room = room});
    session.prefill(context, prompt).value();
    return context;
  }
  std::vector<ba::token> greedy(std::size_t n) {
    auto context = prefilled();
    std::vector<ba::token> out;
    for (const ba::token id : session.generate(context, ba::greedy{}, {.max_tokens = n})) out.push_back(id);
    return out;
  }
};

}  // namespace

TEST_CASE("a range of tokens equals decoding by hand, and ends by length", "[generate]") {
  fixture f;
  auto context = f.prefilled();
  std::vector<ba::token> by_hand;
  for (int i = 0; i < 12; ++i) {
    by_hand.push_back(ba::greedy{}(context.logits()));
    f.session.decode(context, by_hand.back()).value();
  }
  auto again = f.prefilled();
  auto tokens = f.session.generate(again, ba::greedy{}, {.max_tokens = 12});
  std::vector<ba::token> out;
  for (const ba::token id : tokens) out.push_back(id);
  CHECK(out == by_hand);
  CHECK(tokens.finish() == ba::finish_reason::length);
  CHECK(tokens.count() == 12);
  CHECK_FALSE(tokens.error());
  // All of them are in the context, the last one too: the next turn goes on from there.
  CHECK(again.tokens() == f.prompt.size() + 12);
  CHECK(same_bits({again.logits().begin(), again.logits().end()}, {context.logits().begin(), context.logits().end()}));
}

TEST_CASE("a stop token ends before it is yielded or appended", "[generate]") {
  fixture f;
  const auto all = f.greedy(12);
  const ba::token stop = all[5];
  const auto first = static_cast<std::size_t>(std::find(all.begin(), all.end(), stop) - all.begin());
  auto context = f.prefilled();
  auto tokens = f.session.generate(context, ba::greedy{}, {.stop = {stop}});
  std::vector<ba::token> out;
  for (const ba::token id : tokens) out.push_back(id);
  CHECK(out == std::vector<ba::token>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(first)));
  CHECK(tokens.finish() == ba::finish_reason::stop);
  CHECK(context.tokens() == f.prompt.size() + first);
}

TEST_CASE("a stop string ends after the token that completes it, also across tokens", "[generate]") {
  fixture f;
  const auto all = f.greedy(10);
  const auto text = [](ba::token id) { return "<" + std::to_string(id) + ">"; };
  const std::string across = text(all[3]).substr(1) + text(all[4]).substr(0, 2);  // ends inside the fifth token
  auto context = f.prefilled();
  auto tokens = f.session.generate(context, ba::greedy{}, {.stop_strings = {"never", across}, .text = text});
  std::size_t n = 0;
  for (const ba::token id : tokens) {
    CHECK(id == all[n]);
    ++n;
  }
  CHECK(tokens.finish() == ba::finish_reason::stop);
  // The pair may stand earlier already, but never later.
  CHECK(n <= 5);
  CHECK(n >= 2);
}

TEST_CASE("a full context, a cancel flag and an early exit are visible in the end state", "[generate]") {
  fixture f;
  auto small = f.prefilled(16);
  auto tokens = f.session.generate(small, ba::greedy{}, {.max_tokens = 100});
  std::size_t n = 0;
  for ([[maybe_unused]] const ba::token id : tokens) ++n;
  CHECK(tokens.finish() == ba::finish_reason::failed);
  REQUIRE(tokens.error());
  CHECK(tokens.error()->code == ba::errc::context_full);
  CHECK(n == 16 - f.prompt.size() + 1);

  auto context = f.prefilled();
  std::atomic<bool> cancel{false};
  auto cancelled = f.session.generate(context, ba::greedy{}, {.cancel = &cancel});
  n = 0;
  for ([[maybe_unused]] const ba::token id : cancelled)
    if (++n == 3) cancel = true;
  CHECK(n == 3);
  CHECK(cancelled.finish() == ba::finish_reason::cancelled);

  auto left = f.prefilled();
  const auto reason = f.session.generate(left, ba::greedy{}, {}, [n = 0](ba::token) mutable { return ++n < 4; });
  CHECK(reason.value() == ba::finish_reason::running);
  CHECK(left.tokens() == f.prompt.size() + 3);

  ba::context empty(f.session, {.room = 16});
  CHECK(f.session.generate(empty, ba::greedy{}, {}, [](ba::token) { return true; }).error().code ==
        ba::errc::invalid_argument);
}
