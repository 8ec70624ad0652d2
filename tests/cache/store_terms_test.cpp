// SPDX-License-Identifier: MIT
// Priorities, quotas, times to live, parts of the keys, cancellation, where blocks go that do not fit.
#include <array>
#include <atomic>
#include <blockattn/cache/gdsf.hpp>
#include <blockattn/cache/histogram.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/cache/s3_fifo.hpp>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"
#include "passages.hpp"

namespace ba = blockattn;
using namespace ba::literals;
using namespace blockattn_test;
using list = std::vector<ba::token>;
using lists = std::vector<list>;
using outcome = ba::block_outcome;
using priority = ba::block_priority;

namespace {

outcome why(auto& store, fake_encoder& encoder, const list& ids) {
  return store.explain(lists{ids}, encoder.realm()).at(0).outcome;
}

// A clock that tests move.
std::atomic<std::int64_t> seconds{1000};
std::chrono::steady_clock::time_point test_time() noexcept {
  return std::chrono::steady_clock::time_point(std::chrono::seconds(seconds.load()));
}

}  // namespace

TEST_CASE("priorities: the least important leaves first, and nothing leaves for less") {
  ba::kv_store<> store{{.budget_bytes = 3 * unit}};
  fake_encoder encoder;
  (void)get(store, encoder, passage(0), {.priority = priority::high});
  (void)get(store, encoder, passage(1), {.priority = priority::low});
  (void)get(store, encoder, passage(2));
  (void)get(store, encoder, passage(3));  // 1 is not the oldest, but the least important
  CHECK(why(store, encoder, passage(1)) == outcome::evicted);
  (void)get(store, encoder, passage(4));
  CHECK(why(store, encoder, passage(0)) == outcome::hit);
  CHECK(why(store, encoder, passage(2)) == outcome::evicted);

  // A hit raises, and never lowers.
  (void)get(store, encoder, passage(3), {.priority = priority::high});
  (void)get(store, encoder, passage(3), {.priority = priority::low});
  (void)get(store, encoder, passage(4), {.priority = priority::high});
  CHECK(get(store, encoder, passage(5))->counted_by() == nullptr);
  CHECK(why(store, encoder, passage(5)) == outcome::too_large);
  CHECK(store.counters().evictions == 2);
  (void)get(store, encoder, passage(6), {.priority = priority::high});
  CHECK(why(store, encoder, passage(0)) == outcome::evicted);
  CHECK(why(store, encoder, passage(6)) == outcome::hit);
}

TEST_CASE("quotas: an owner's blocks make room for its own, and count until they are released") {
  ba::kv_store<> store{{.budget_bytes = 8 * unit}};
  fake_encoder encoder;
  REQUIRE(store.set_quota(7, 2 * unit));
  CHECK(store.set_quota(0, 1).error().code == ba::errc::invalid_argument);
  (void)get(store, encoder, passage(0));
  for (int i = 1; i < 4; ++i) (void)get(store, encoder, passage(i), {.owner = 7});
  CHECK(store.used_by(7) == 2 * unit);
  CHECK(store.used_by(8) == 0);
  CHECK(why(store, encoder, passage(0)) == outcome::hit);
  CHECK(why(store, encoder, passage(1)) == outcome::evicted);
  CHECK(store.counters().blocks == 3);

  // Held: nothing of the owner's may leave, though the store has room.
  auto a = get(store, encoder, passage(2)), b = get(store, encoder, passage(3));
  CHECK(get(store, encoder, passage(4), {.owner = 7})->counted_by() == nullptr);
  CHECK(why(store, encoder, passage(4)) == outcome::over_quota);
  CHECK(get(store, encoder, passage(4), {.owner = 8})->counted_by() != nullptr);  // without a quota
  CHECK(store.erase(a->key()));
  CHECK(store.used_by(7) == 2 * unit);
  a.reset();
  CHECK(store.used_by(7) == unit);
  // A block that is there already costs another owner nothing.
  (void)get(store, encoder, passage(0), {.owner = 7});
  CHECK(store.used_by(7) == unit);

  // A smaller quota lets nothing in until enough has left.
  REQUIRE(store.set_quota(7, 1));
  CHECK(get(store, encoder, passage(5), {.owner = 7})->counted_by() == nullptr);
  b.reset();
  REQUIRE(store.set_quota(7, unit));
  CHECK(get(store, encoder, passage(5), {.owner = 7})->counted_by() != nullptr);
  CHECK(store.used_by(7) == unit);
  const auto foreign = ba::encode_block(encoder, passage(6, 40)).value();
  const auto full = store.insert(foreign, {.owner = 7});
  REQUIRE_FALSE(full);
  CHECK(full.error().code == ba::errc::store_full);
  CHECK(full.error().message.find("quota") != std::string::npos);
  store.clear();
  CHECK(store.used_by(7) == 0);
}

TEST_CASE("times to live: a block goes when it is asked for, when room is needed, or when told") {
  ba::kv_store<> store{{.budget_bytes = 3 * unit, .now = &test_time}};
  fake_encoder encoder;
  const ba::kv_request minute{.time_to_live = std::chrono::seconds(60)};
  auto held = get(store, encoder, passage(0), minute);
  (void)get(store, encoder, passage(1), minute);
  (void)get(store, encoder, passage(2));
  seconds += 30;
  (void)get(store, encoder, passage(1), minute);  // extended
  (void)get(store, encoder, passage(0));          // not
  seconds += 40;
  CHECK(get(store, encoder, passage(0)) != held);
  CHECK(encoder.encoded == 4);
  // The old one counts until it is released; room came from the one that was used least recently.
  CHECK(store.counters().bytes == 3 * unit);
  CHECK(store.counters().expirations == 1);
  CHECK(why(store, encoder, passage(2)) == outcome::evicted);
  held.reset();
  CHECK(store.counters().bytes == 2 * unit);
  (void)get(store, encoder, passage(3));
  seconds += 30;
  (void)get(store, encoder, passage(4));  // 1 has expired: it leaves, though it is not the oldest
  CHECK(why(store, encoder, passage(1)) == outcome::expired);
  CHECK(store.counters().expirations == 2);
  CHECK(store.counters().evictions == 1);
  CHECK(store.expire() == 0);
  store.clear();
  for (int i = 0; i < 3; ++i) (void)get(store, encoder, passage(i), {.time_to_live = std::chrono::seconds(10 + i)});
  seconds += 11;
  CHECK(store.expire() == 2);
  CHECK(store.counters().blocks == 1);
  CHECK(store.find(key_of(encoder.realm(), passage(2)), passage(2)) != nullptr);
  seconds += 1;
  CHECK(store.find(key_of(encoder.realm(), passage(2)), passage(2)) == nullptr);
  CHECK(store.counters().bytes == 0);
  // What has expired is not in the way of an insert.
  (void)get(store, encoder, passage(8), {.time_to_live = std::chrono::seconds(1)});
  seconds += 1;
  const auto fresh = ba::encode_block(encoder, passage(8)).value();
  CHECK(store.insert(fresh).value()->payload().data() == fresh->payload().data());
  // For ever, nearly.
  (void)get(store, encoder, passage(2), {.time_to_live = std::chrono::nanoseconds::max()});
  seconds += 1'000'000;
  CHECK(why(store, encoder, passage(2)) == outcome::hit);
}

TEST_CASE("requests: cancelled before they encode") {
  ba::kv_store<> store;
  fake_encoder encoder;
  (void)get(store, encoder, passage(1));
  std::atomic<bool> stop = true;
  const auto refused = store.find_or_encode(lists{passage(2)}, encoder, {.cancel = &stop});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ba::errc::cancelled);
  CHECK(encoder.encoded == 1);
  CHECK(store.counters().blocks == 1);
  stop = false;
  CHECK(store.find_or_encode(lists{passage(2)}, encoder, {.cancel = &stop}));
}

TEST_CASE("requests: what does not fit lives where the request says") {
  allocation_counter inside, outside;
  using storage = ba::heap_storage<counting_allocator<std::byte>>;
  ba::kv_store<ba::lru, std::mutex, storage> store({.budget_bytes = unit}, storage{counting_allocator<std::byte>(inside)});
  storage mine{counting_allocator<std::byte>(outside)};
  fake_encoder encoder;
  const auto kept = get(store, encoder, passage(1), {.overflow = mine});
  CHECK(outside.live_bytes == 0);
  const std::size_t before = inside.peak_bytes;
  {
    const auto own = get(store, encoder, passage(2), {.overflow = mine});
    CHECK(has_fake_payload(*own));
    CHECK(outside.live_bytes >= own->payload_bytes());
    CHECK(inside.peak_bytes < before + own->payload_bytes());
  }
  CHECK(outside.live() == 0);
}

TEST_CASE("sharded: one budget over all parts, whatever the keys") {
  using store_type = ba::kv_store<ba::lru, ba::sharded<std::mutex, 4>>;
  store_type store{{.budget_bytes = 8 * unit}};
  fake_encoder encoder;
  const auto held = get(store, encoder, passage(0));
  lists all;
  for (int i = 0; i < 40; ++i) all.push_back(passage(i));
  for (int i = 1; i < 40; ++i) (void)get(store, encoder, all[static_cast<std::size_t>(i)]);
  auto c = store.counters();
  CHECK(c.blocks == 8);
  CHECK(c.bytes == 8 * unit);
  CHECK(c.evictions == 32);
  CHECK(c.uncounted == 0);
  CHECK(why(store, encoder, passage(0)) == outcome::hit);
  // A block of half of the budget: the parts give room together.
  const auto wide = get(store, encoder, passage(50, 40));
  CHECK(wide->bytes() > unit);
  CHECK(wide->counted_by() != nullptr);
  // Many lists in one request, some twice.
  lists twice(all.begin(), all.begin() + 6);
  twice.push_back(all[0]);
  const auto blocks = store.find_or_encode(twice, encoder).value();
  CHECK(blocks[6] == blocks[0]);
  for (std::size_t i = 0; i < twice.size(); ++i) CHECK(std::ranges::equal(blocks[i]->tokens(), twice[i]));
  CHECK(store.counters().bytes <= 8 * unit);
}

// Any policies: blocks are their own bytes, the counters add up, budget and quota hold to the byte.
namespace {
template <class Store>
void random_operations(std::uint32_t seed) {
  std::mt19937 random(seed);
  constexpr std::size_t budget_units = 10, quota_units = 4;
  Store store{{.budget_bytes = budget_units * unit, .remembered = 4096, .now = &test_time}};
  REQUIRE(store.set_quota(1, quota_units * unit));
  fake_encoder encoder;
  std::vector<ba::block_handle> held;
  for (int step = 0; step < 1000; ++step) {
    const list ids = passage(static_cast<int>(random() % 30), 1 + random() % 40);
    const auto verb = random() % 12;
    if (verb < 8) {
      const ba::kv_request request{.owner = static_cast<ba::owner_id>(random() % 3),
                                   .priority = static_cast<priority>(random() % 3),
                                   .time_to_live = std::chrono::seconds(random() % 4 == 0 ? 1 + random() % 50 : 0)};
      const bool there = why(store, encoder, ids) == outcome::hit;
      const std::size_t before = encoder.encoded;
      const std::uint64_t expired = store.counters().expirations;
      const auto block = get(store, encoder, ids, request);
      REQUIRE(has_fake_payload(*block));
      REQUIRE(std::ranges::equal(block->tokens(), ids));
      if (store.counters().expirations == expired) REQUIRE((encoder.encoded == before) == there);
      if (block->counted_by() != nullptr) REQUIRE(why(store, encoder, ids) == outcome::hit);
      if (random() % 2 == 0) held.push_back(block);
    } else if (verb < 10) {
      if (held.size() > 3) held.erase(held.begin(), held.begin() + 3);
    } else if (verb == 10) {
      (void)store.erase(key_of(encoder.realm(), ids));
      seconds += static_cast<std::int64_t>(random() % 10);
    } else if (random() % 8 == 0) {
      store.clear();
    }
    const auto c = store.counters();
    REQUIRE(c.peak_bytes <= budget_units * unit);
    REQUIRE(store.used_by(1) <= quota_units * unit);
    REQUIRE(c.insertions == c.blocks + c.evictions + c.erasures + c.expirations);
    REQUIRE(c.misses == c.insertions + c.uncounted + c.failures);
  }
  CHECK(store.counters().evictions > 20);
  CHECK(store.counters().uncounted > 20);
  CHECK(store.counters().expirations > 2);
  held.clear();
  store.clear();
  CHECK(store.counters().bytes == 0);
  CHECK(store.used_by(1) == 0);
}
}  // namespace

TEST_CASE("terms: random operations under every policy and lock") {
  const std::uint32_t seed = GENERATE(1u, 2u);
  random_operations<ba::kv_store<ba::lru>>(seed);
  random_operations<ba::kv_store<ba::s3_fifo, ba::no_lock>>(seed);
  random_operations<ba::kv_store<ba::gdsf, ba::sharded<std::mutex, 3>>>(seed);
}

TEST_CASE("latency_histogram: powers of two") {
  ba::latency_histogram h;
  CHECK(h.read().below(0.5) == 0);
  for (const std::uint64_t ns : {0u, 1u, 2u, 3u, 4u, 7u, 1000u, 1000u}) h.record(ns);
  h.record(~std::uint64_t{0});
  const auto read = h.read();
  CHECK(read.total() == 9);
  CHECK(read.counts[0] == 1);
  CHECK(read.counts[1] == 1);
  CHECK(read.counts[2] == 2);
  CHECK(read.counts[3] == 2);
  CHECK(read.counts[10] == 2);
  CHECK(read.counts[47] == 1);
  CHECK(read.below(0.5) == 8);
  CHECK(read.below(0.8) == 1024);
}
