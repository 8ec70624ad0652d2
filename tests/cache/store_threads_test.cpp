// SPDX-License-Identifier: MIT
#include <atomic>
#include <blockattn/cache/background.hpp>
#include <blockattn/cache/gdsf.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/cache/s3_fifo.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <future>
#include <limits>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "../support/catch.hpp"
#include "fake_tier.hpp"
#include "passages.hpp"
#include "thread_work.hpp"

namespace ba = blockattn;
using namespace blockattn_test;
using list = std::vector<ba::token>;
using lists = std::vector<list>;
using outcome = ba::block_outcome;

namespace {

// Asserts at every single allocation that the live bytes do not pass a limit.
struct watch {
  std::atomic<std::size_t> live{0}, limit{std::numeric_limits<std::size_t>::max()};
  std::atomic<std::size_t> allocations{0}, passed{0}, most{0};
};
template <class T>
struct watched_allocator {
  using value_type = T;
  watched_allocator(watch& watcher) noexcept : w(&watcher) {}
  template <class U>
  watched_allocator(const watched_allocator<U>& other) noexcept : w(other.w) {}
  T* allocate(std::size_t n) {
    const std::size_t now = w->live.fetch_add(n * sizeof(T)) + n * sizeof(T);
    ++w->allocations;
    if (now > w->limit) ++w->passed;
    std::size_t most = w->most;
    while (now > most && !w->most.compare_exchange_weak(most, now)) {
    }
    return std::allocator<T>().allocate(n);
  }
  void deallocate(T* p, std::size_t n) noexcept {
    std::allocator<T>().deallocate(p, n);
    w->live -= n * sizeof(T);
  }
  friend bool operator==(const watched_allocator& a, const watched_allocator& b) noexcept { return a.w == b.w; }
  watch* w;
};
using watched = watched_allocator<std::byte>;
using watched_heap = ba::heap_storage<watched>;

// A tier whose loads come from watched memory, as those of a server would.
struct watched_tier {
  watch* memory;
  ba::map_tier map = {};
  std::string_view name() const noexcept { return "watched"; }
  ba::result<ba::block_handle> load(const ba::block_realm& realm, const ba::kv_shape& shape, const ba::block_key& key,
                                    std::span<const ba::token> ids) {
    auto there = map.load(realm, shape, key, ids);
    if (!there || *there == nullptr) return there;
    watched_heap heap{watched(*memory)};
    auto bytes = heap.allocate(ba::kv_block::memory_bytes(shape, ids.size())).value();
    std::ranges::copy((*there)->payload(), bytes.get());
    return ba::make_block(key, shape, ids, bytes, heap.get_allocator());
  }
  ba::result<void> save(const ba::block_realm& realm, const ba::block_handle& block) { return map.save(realm, block); }
  bool contains(const ba::block_key& key) { return map.contains(key); }
  ba::result<void> erase(const ba::block_key& key) { return map.erase(key); }
};

// Everything that a store allocates, tables included, against the budget, while handles are held, blocks do not fit,
// are erased, expire, and owners have quotas.
template <class Store>
void budget_holds(Store& store, watch& inside, std::size_t budget) {
  REQUIRE(store.set_quota(1, budget / 4));
  inside.limit = inside.live + budget;
  std::atomic<std::size_t> wrong = 0, mine = 0;
  on_threads(8, [&](std::size_t t) {
    fake_encoder encoder;
    ba::heap_storage<> overflow;
    std::mt19937 random(static_cast<std::uint32_t>(t));
    std::vector<ba::block_handle> held;
    for (std::size_t r = 0; r < 120; ++r) {
      lists wanted;
      for (std::size_t i = 1 + random() % 4; i > 0; --i) wanted.push_back(passage(random() % 60, 8 + random() % 3 * 20));
      const ba::kv_request request{.owner = static_cast<ba::owner_id>(random() % 2),
                                   .priority = static_cast<ba::block_priority>(random() % 3),
                                   .time_to_live = std::chrono::microseconds(random() % 4 == 0 ? 200 : 0),
                                   .overflow = overflow};
      const auto blocks = store.find_or_encode(wanted, encoder, request);
      if (!blocks) {
        ++wrong;
        continue;
      }
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        wrong += std::ranges::equal((*blocks)[i]->tokens(), wanted[i]) && has_fake_payload(*(*blocks)[i]) ? 0 : 1;
        mine += (*blocks)[i]->counted_by() == nullptr ? 1 : 0;
      }
      held.insert(held.end(), blocks->begin(), blocks->end());
      if (held.size() > 12) held.erase(held.begin(), held.begin() + 8);
      if (random() % 8 == 0) (void)store.erase(held.back()->key());
      if (random() % 32 == 0) store.clear();
      if (random() % 16 == 0) (void)store.expire();
      if (store.used_by(1) > budget / 4) ++wrong;
    }
  });
  CHECK(wrong == 0);
  CHECK(mine > 0);
  CHECK(inside.passed == 0);
  CHECK(inside.most <= inside.limit);
  CHECK(inside.allocations > 500);
  const auto c = store.counters();
  CHECK(c.peak_bytes <= budget);
  CHECK(c.peak_bytes > budget / 2);
  CHECK(c.insertions == c.blocks + c.evictions + c.erasures + c.expirations);
  CHECK(c.misses == c.insertions + c.uncounted);
  store.clear();
  CHECK(store.counters().bytes == 0);
  CHECK(store.used_by(1) == 0);
}

}  // namespace

TEST_CASE("store threads: no allocation ever passes the budget") {
  const std::size_t budget = 40 * unit;
  const ba::kv_store_options options{.budget_bytes = budget, .remembered = 64};
  {
    watch inside;
    ba::kv_store<ba::basic_lru<watched>, std::mutex, watched_heap> store(options, watched_heap(watched(inside)),
                                                                        ba::basic_lru<watched>(inside));
    budget_holds(store, inside, budget);
  }
  {
    watch inside;
    ba::kv_store<ba::basic_s3_fifo<watched>, ba::sharded<std::mutex, 4>, watched_heap> store(
        options, watched_heap(watched(inside)), ba::basic_s3_fifo<watched>(inside));
    budget_holds(store, inside, budget);
  }
  {
    watch inside;
    ba::kv_store<ba::basic_gdsf<watched>, std::mutex, watched_heap> store(options, watched_heap(watched(inside)),
                                                                         ba::basic_gdsf<watched>(inside));
    budget_holds(store, inside, budget);
  }
}

// The same with a tier whose loads are counted, a worker that saves and prefetches, and nothing that does not fit: at
// most 8 threads hold 4 blocks, and as many are on their way or wait to be saved.
TEST_CASE("store threads: loads, saves and prefetches stay within the budget") {
  watch inside;
  const std::size_t budget = 128 * unit;
  using store_type = ba::kv_store<ba::basic_lru<watched>, ba::sharded<std::mutex, 4>, watched_heap,
                                  ba::tiers<watched_tier&, fake_tier&>>;
  watched_tier near{&inside};
  fake_tier far;
  const auto save = GENERATE(ba::write_back::on_insert, ba::write_back::on_eviction);
  std::atomic<std::size_t> wrong = 0;
  {
    store_type store({.budget_bytes = budget, .remembered = 64, .save = save, .most_saves = 16},
                     watched_heap(watched(inside)), ba::basic_lru<watched>(inside),
                     ba::tiers<watched_tier&, fake_tier&>(near, far));
    inside.limit = inside.live + budget;
    {
      ba::background_worker one(store), two(store);
      on_threads(8, [&](std::size_t t) {
        fake_encoder encoder;
        std::mt19937 random(static_cast<std::uint32_t>(t));
        for (std::size_t r = 0; r < 100; ++r) {
          lists wanted;
          for (std::size_t i = 0; i < 4; ++i) wanted.push_back(passage(random() % 300));
          if (random() % 4 == 0 && !store.prefetch(wanted, encoder.realm(), encoder.shape())) ++wrong;
          const auto blocks = store.find_or_encode(wanted, encoder);
          if (!blocks) {
            ++wrong;
            continue;
          }
          for (std::size_t i = 0; i < wanted.size(); ++i)
            wrong += std::ranges::equal((*blocks)[i]->tokens(), wanted[i]) && has_fake_payload(*(*blocks)[i]) ? 0 : 1;
          if (random() % 16 == 0) (void)store.erase((*blocks)[0]->key());
          if (random() % 16 == 0 && store.explain(wanted, encoder.realm()).size() != 4) ++wrong;
          if (random() % 16 == 0 && store.counters_of_tiers().size() != 2) ++wrong;
        }
      });
    }
    CHECK(store.jobs() == 0);  // the workers did them before they went
    CHECK(wrong == 0);
    const auto c = store.counters();
    CHECK(c.uncounted == 0);
    CHECK(inside.passed == 0);
  CHECK(inside.most <= inside.limit);
    CHECK(c.loads > 100);
    CHECK(c.evictions > 100);
    CHECK(c.insertions == c.blocks + c.evictions + c.erasures);
  }
  CHECK(far.saves > 100);
  CHECK(inside.live == 0);
}

TEST_CASE("store threads: a cancelled leader hands over; of many waiters one encodes") {
  ba::kv_store<ba::lru, ba::sharded<std::mutex, 4>> store;
  fake_encoder leader;
  leader.failures = 1;
  leader.failing_with = GENERATE(ba::errc::cancelled, ba::errc::out_of_memory, ba::errc::context_full);
  stopped_request stop(leader);
  std::optional<ba::errc> error;
  std::thread first([&] {
    const auto failed = store.find_or_encode(lists{passage(1)}, leader);
    if (!failed) error = failed.error().code;
  });
  stop.arrived.get_future().wait();
  constexpr std::size_t waiters = 6;
  std::vector<fake_encoder> encoders(waiters);
  std::atomic<std::size_t> joined = 0, right = 0;
  // Each waiter has a claim of its own: when it encodes that, it has joined the leader's flight.
  for (fake_encoder& e : encoders)
    e.during = [&, once = true]() mutable {
      if (std::exchange(once, false) && ++joined == waiters) stop.go.set_value();
    };
  on_threads(waiters, [&](std::size_t t) {
    const auto blocks = store.find_or_encode(lists{passage(1), passage(10 + t)}, encoders[t]);
    right += blocks && has_fake_payload(*(*blocks)[0]) ? 1 : 0;
  });
  first.join();
  CHECK(error == leader.failing_with);
  CHECK(right == waiters);
  std::size_t encoded = 0;
  for (const fake_encoder& e : encoders) encoded += e.encoded;
  CHECK(encoded == waiters + 1);
}

TEST_CASE("store threads: a true error of one list goes to all who wait for it, and the next request tries again") {
  ba::kv_store<> store;
  fake_encoder leader, follower;
  leader.failures = 1;
  stopped_request stop(leader);
  follower.during = [&, once = true]() mutable {
    if (std::exchange(once, false)) stop.go.set_value();
  };
  std::thread first([&] { (void)store.find_or_encode(lists{passage(1)}, leader); });
  stop.arrived.get_future().wait();
  const auto blocks = store.find_or_encode(lists{passage(1), passage(2)}, follower);
  first.join();
  REQUIRE_FALSE(blocks);
  CHECK(blocks.error().code == ba::errc::invalid_argument);
  CHECK(blocks.error().message == "fake encoder: told to fail");
  CHECK(follower.encoded == 1);
  CHECK(store.counters().blocks == 1);
  CHECK(store.find_or_encode(lists{passage(1), passage(2)}, follower));
}

TEST_CASE("store threads: a cancelled request hands over its claims") {
  ba::kv_store<> store;
  fake_encoder leader, follower;
  std::atomic<bool> cancel = false;
  fake_tier slow;
  ba::tiered_store<ba::tiers<fake_tier&>> tiered({}, ba::tiers<fake_tier&>(slow));
  std::promise<void> arrived, go;
  slow.during = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    arrived.set_value();
    go.get_future().wait();
  };
  std::optional<ba::errc> error;
  std::thread first([&] {
    const auto failed = tiered.find_or_encode(lists{passage(1)}, leader, {.cancel = &cancel});
    if (!failed) error = failed.error().code;
  });
  arrived.get_future().wait();
  cancel = true;
  follower.during = [&, once = true]() mutable {
    if (std::exchange(once, false)) go.set_value();
  };
  const auto blocks = tiered.find_or_encode(lists{passage(1), passage(2)}, follower);
  first.join();
  CHECK(error == ba::errc::cancelled);
  REQUIRE(blocks);
  CHECK(leader.encoded == 0);
  CHECK(follower.encoded == 2);
}

TEST_CASE("store threads: one load for concurrent misses, and an executor drains") {
  fake_tier tier;
  ba::tiered_store<ba::tiers<fake_tier&>> store({}, ba::tiers<fake_tier&>(tier));
  fake_encoder encoder;
  for (std::size_t i = 0; i < 32; ++i) (void)store.find_or_encode(lists{passage(i)}, encoder).value();
  ba::thread_executor pool(3);
  store.drain(pool);
  CHECK(store.jobs() == 0);
  CHECK(tier.saves == 32);
  store.clear();
  tier.loads = 0;
  on_threads(6, [&](std::size_t) {
    fake_encoder own;
    lists all;
    for (std::size_t i = 0; i < 32; ++i) all.push_back(passage(i));
    (void)store.find_or_encode(all, own);
  });
  CHECK(tier.loads == 32);
  const auto c = store.counters();
  CHECK(c.loads == 32);
  CHECK(c.hits + c.misses + c.waits == 32 * 7);
}
