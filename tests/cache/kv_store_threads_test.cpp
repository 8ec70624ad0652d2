// SPDX-License-Identifier: MIT
#include <atomic>
#include <blockattn/cache/context.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <future>
#include <random>
#include <thread>
#include <vector>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"
#include "passages.hpp"
#include "thread_work.hpp"

namespace ba = blockattn;
using blockattn_test::allocation_counter;
using blockattn_test::counting_allocator;
using blockattn_test::fake_encoder;
using blockattn_test::has_fake_payload;
using blockattn_test::on_threads;
using blockattn_test::passage;
using blockattn_test::stopped_request;
using blockattn_test::tokens_from;
using blockattn_test::unit;
using list = std::vector<ba::token>;
using lists = std::vector<list>;
using outcome = ba::block_outcome;

namespace {

// Counts payload memory alone, and watches the budget at every single allocation.
struct watched_storage {
  using allocator_type = std::allocator<std::byte>;
  explicit watched_storage(allocation_counter& counter) : heap(counting_allocator<std::byte>(counter)) {}
  ba::result<std::shared_ptr<std::byte>> allocate(std::size_t bytes) { return heap.allocate(bytes); }
  allocator_type get_allocator() const { return {}; }
  ba::heap_storage<counting_allocator<std::byte>> heap;
};

}  // namespace

TEST_CASE("kv_store threads: concurrent misses of one key encode once") {
  ba::kv_store<> store;
  fake_encoder leader, follower;
  stopped_request stop(leader);
  // The follower has claims of its own: when it encodes them, it has already joined the leader's flight.
  follower.during = [&] { stop.go.set_value(); };
  std::vector<ba::block_handle> led, followed;
  std::thread first([&] { led = store.find_or_encode(lists{passage(1), passage(2)}, leader).value(); });
  stop.arrived.get_future().wait();
  CHECK(store.explain(lists{passage(1)}, leader.realm()).at(0).outcome == outcome::in_flight);
  followed = store.find_or_encode(lists{passage(2), passage(3), passage(1)}, follower).value();
  first.join();
  CHECK(leader.encoded == 2);
  CHECK(follower.encoded == 1);
  CHECK(followed[0] == led[1]);
  CHECK(followed[2] == led[0]);
  CHECK(has_fake_payload(*followed[1]));
  const auto c = store.counters();
  CHECK(c.misses == 3);
  CHECK(c.waits == 2);
  CHECK(c.hits == 0);
}

TEST_CASE("kv_store threads: a waiter takes over from a leader that fails, and never sees its error") {
  ba::kv_store<> store;
  fake_encoder leader, follower;
  leader.failures = 1;
  stopped_request stop(leader);
  follower.during = [&, first = true]() mutable {
    if (std::exchange(first, false)) stop.go.set_value();
  };
  std::optional<ba::errc> error;
  std::thread first([&] {
    const auto failed = store.find_or_encode(lists{passage(1), passage(2)}, leader);
    if (!failed) error = failed.error().code;
  });
  stop.arrived.get_future().wait();
  const auto blocks = store.find_or_encode(lists{passage(1), passage(3)}, follower);
  first.join();
  CHECK(error == ba::errc::invalid_argument);
  REQUIRE(blocks);
  CHECK(has_fake_payload(*(*blocks)[0]));
  CHECK(follower.calls == 2);
  CHECK(follower.encoded == 2);
  CHECK(store.counters().blocks == 2);
  CHECK(store.counters().failures == 2);
}

TEST_CASE("kv_store threads: an exception of the leader hands over, too") {
  ba::kv_store<> store;
  fake_encoder leader, follower;
  std::promise<void> arrived, go;
  leader.during = [&] {
    arrived.set_value();
    go.get_future().wait();
    throw std::runtime_error("no");
  };
  follower.during = [&, first = true]() mutable {
    if (std::exchange(first, false)) go.set_value();
  };
  std::atomic<bool> thrown = false;
  std::thread first([&] {
    try {
      (void)store.find_or_encode(lists{passage(1)}, leader);
    } catch (const std::runtime_error&) {
      thrown = true;
    }
  });
  arrived.get_future().wait();
  const auto blocks = store.find_or_encode(lists{passage(1), passage(3)}, follower).value();
  first.join();
  CHECK(thrown);
  CHECK(has_fake_payload(*blocks[0]));
  CHECK(follower.encoded == 2);
}

TEST_CASE("kv_store threads: waiters get a block that the store could not keep") {
  ba::kv_store<> store{{.budget_bytes = unit}};
  fake_encoder leader, follower;
  stopped_request stop(leader);
  follower.during = [&] { stop.go.set_value(); };
  ba::block_handle led;
  std::thread first([&] { led = store.find_or_encode(lists{passage(1, 300)}, leader).value().at(0); });
  stop.arrived.get_future().wait();
  const auto blocks = store.find_or_encode(lists{passage(1, 300), passage(2)}, follower).value();
  first.join();
  CHECK(blocks[0] == led);
  CHECK(follower.encoded == 1);
  CHECK(store.counters().uncounted == 1);
}

// A thread holds at most its own blocks, those of the flights that it joined, and one that it is evicting: 13. All of
// them together hold less than the budget, so every block is counted, and the budget bounds every allocation.
TEST_CASE("kv_store threads: payload bytes never exceed the budget") {
  constexpr std::size_t threads = 8, requests = 150, per_request = 3;
  allocation_counter payloads;
  const std::size_t budget = 128 * unit;
  {
    ba::kv_store<ba::lru, std::mutex, watched_storage> store({.budget_bytes = budget}, watched_storage(payloads));
    std::atomic<std::size_t> wrong = 0, asked = 0;
    on_threads(threads, [&](std::size_t t) {
      fake_encoder encoder;
      std::mt19937 random(static_cast<std::uint32_t>(t));
      for (std::size_t r = 0; r < requests; ++r) {
        lists wanted;
        for (std::size_t i = 0; i < per_request; ++i) wanted.push_back(passage(random() % 400));
        const auto blocks = store.find_or_encode(wanted, encoder);
        if (!blocks) {
          ++wrong;
          continue;
        }
        asked += wanted.size();
        for (std::size_t i = 0; i < wanted.size(); ++i)
          if (!std::ranges::equal((*blocks)[i]->tokens(), wanted[i]) || !has_fake_payload(*(*blocks)[i])) ++wrong;
      }
    });
    CHECK(wrong == 0);
    CHECK(payloads.peak_bytes <= budget);
    const auto c = store.counters();
    CHECK(c.uncounted == 0);
    CHECK(c.peak_bytes <= budget);
    CHECK(c.evictions > 100);
    CHECK(c.hits + c.misses + c.waits == asked);
    CHECK(c.misses == c.insertions);
    CHECK(c.insertions == c.blocks + c.evictions);
    CHECK(c.bytes == c.blocks * unit);
  }
  CHECK(payloads.live() == 0);
}

// Overlapping requests in opposite orders, failing encoders, erasures, a budget too small for what is held: nothing may
// hang, leak, or give wrong bytes.
TEST_CASE("kv_store threads: survives everything at once") {
  constexpr std::size_t threads = 8;
  allocation_counter payloads;
  {
    ba::kv_store<ba::lru, std::mutex, watched_storage> store({.budget_bytes = 6 * unit}, watched_storage(payloads));
    std::atomic<std::size_t> wrong = 0, failed = 0;
    on_threads(threads, [&](std::size_t t) {
      fake_encoder encoder;
      std::mt19937 random(static_cast<std::uint32_t>(100 + t));
      std::vector<ba::block_handle> held;
      for (std::size_t r = 0; r < 200; ++r) {
        if (random() % 8 == 0) encoder.failures = 1;
        lists wanted;
        for (std::size_t i = 1 + random() % 5; i > 0; --i)
          wanted.push_back(passage(random() % 12, 1 + random() % 2 * 40));
        const auto blocks = store.find_or_encode(wanted, encoder);
        if (!blocks) {
          ++failed;
          continue;
        }
        for (std::size_t i = 0; i < wanted.size(); ++i)
          if (!std::ranges::equal((*blocks)[i]->tokens(), wanted[i]) || !has_fake_payload(*(*blocks)[i])) ++wrong;
        held = *blocks;
        if (random() % 16 == 0) (void)store.erase(held[0]->key());
        if (random() % 64 == 0) store.clear();
        if (random() % 16 == 0 && store.insert(held.back()).has_value() && held.back() == nullptr) ++wrong;
        if (random() % 16 == 0 && store.explain(wanted, encoder.realm()).size() != wanted.size()) ++wrong;
      }
    });
    CHECK(wrong == 0);
    CHECK(failed > 0);
    const auto c = store.counters();
    CHECK(c.peak_bytes <= 6 * unit);
    CHECK(c.insertions == c.blocks + c.evictions + c.erasures);
    store.clear();
    CHECK(store.counters().bytes == 0);
  }
  CHECK(payloads.live() == 0);
}

// PAPER, invariant 23: requests that use one block at two offsets are both right, because neither writes to it.
TEST_CASE("kv_store threads: two contexts place the same blocks at different offsets") {
  ba::kv_store<> store;
  ba::rope_config rope;
  rope.rotary_dim = 8;
  const ba::context_layout layout{fake_encoder().shape(),
                                  std::make_shared<const ba::rope_frequencies>(make_frequencies(rope).value()), 4};
  std::atomic<std::size_t> wrong = 0;
  on_threads(4, [&](std::size_t t) {
    fake_encoder encoder;
    for (int r = 0; r < 20; ++r) {
      const auto blocks =
          store.find_or_encode(lists{passage(1), passage(2, 5), passage(t + 10, 3 + t)}, encoder).value();
      ba::context context(layout, {.room = 16});
      if (!context.assemble(std::vector{blocks[2], blocks[0], blocks[1]})) ++wrong;
      if (context.start(1) != static_cast<std::int64_t>(3 + t) || context.block(1) != blocks[0]) ++wrong;
      const ba::context copy = context.fork();
      for (const auto& piece : copy.pieces()) wrong += has_fake_payload(*piece.block) ? 0 : 1;
    }
  });
  CHECK(wrong == 0);
}
