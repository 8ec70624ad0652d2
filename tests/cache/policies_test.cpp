// SPDX-License-Identifier: MIT
// Every policy against its naive twin, under random use with slots that are used again, names that return and blocks
// that are held; and what each policy is for.
#include <blockattn/cache/eviction.hpp>
#include <blockattn/cache/gdsf.hpp>
#include <blockattn/cache/ghost_list.hpp>
#include <blockattn/cache/s3_fifo.hpp>
#include <deque>
#include <random>
#include <vector>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"
#include "policy_models.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

static_assert(ba::eviction_policy<ba::s3_fifo>);
static_assert(ba::eviction_policy<ba::gdsf>);

namespace {

// As a store uses a policy: hits, misses that evict until there is room for the newcomer, erasures, held blocks.
template <class Policy, class Naive>
void agree(std::uint32_t seed) {
  std::mt19937 random(seed);
  Policy policy;
  Naive naive;
  constexpr slot slots = 24;
  policy.reserve(slots / 2);
  std::map<std::uint64_t, slot> where;
  std::vector<std::uint64_t> name_of(slots);
  std::vector<slot> free;
  for (slot s = slots; s > 0; --s) free.push_back(s - 1);
  policy.reserve(slots);
  const auto leave = [&](slot s) {
    policy.erased(s);
    naive.erased(s);
    where.erase(name_of[s]);
    free.push_back(s);
  };
  std::size_t evicted = 0;
  for (int step = 0; step < 20000; ++step) {
    // A few names come often, most rarely.
    const std::uint64_t name = random() % 3 == 0 ? random() % 8 : random() % 100;
    held_set held;
    if (random() % 2 == 0)
      for (std::size_t n = random() % slots; n > 0; --n) held.insert(static_cast<slot>(random() % slots));
    if (const auto at = where.find(name); at != where.end()) {
      if (random() % 16 == 0) {
        leave(at->second);
      } else {
        policy.touched(at->second);
        naive.touched(at->second);
      }
      continue;
    }
    const bool full = free.empty();
    if (full || random() % 8 == 0) {
      const auto mine = victim_of(policy, held), expected = naive.victim(held);
      REQUIRE(mine == expected);
      // Sometimes somebody asks and does not act.
      if (mine && (full || random() % 2 == 0)) {
        leave(*mine);
        ++evicted;
      }
    }
    if (free.empty()) continue;
    const slot s = free.back();
    free.pop_back();
    const ba::entry_info info{1 + name % 7 * 100, name % 5 == 0 ? 0 : (1 + name % 3) * 1000, name};
    name_of[s] = name;
    where[name] = s;
    policy.inserted(s, info);
    naive.inserted(s, info);
  }
  CHECK(evicted > 1000);
}

}  // namespace

TEST_CASE("policies: random use agrees with the naive twins") {
  const std::uint32_t seed = GENERATE(1u, 2u, 3u);
  agree<ba::lru, naive_lru>(seed);
  agree<ba::gdsf, naive_gdsf>(seed);
  agree<ba::s3_fifo, naive_s3_fifo>(seed);
}

TEST_CASE("gdsf: what saves the most time for its bytes stays") {
  ba::gdsf policy;
  CHECK_FALSE(victim_of(policy));
  policy.reserve(4);
  policy.inserted(0, {100, 1000, 0});  // 10 ns a byte
  policy.inserted(1, {100, 200, 1});   // 2
  policy.inserted(2, {1000, 4000, 2}); // 4
  CHECK(victim_of(policy) == 1u);
  CHECK(victim_of(policy, {1}) == 2u);
  CHECK(victim_of(policy, {1, 2}) == 0u);
  CHECK_FALSE(victim_of(policy, {0, 1, 2}));
  for (int i = 0; i < 9; ++i) policy.touched(1);
  CHECK(victim_of(policy) == 2u);
  policy.erased(2);
  // Unknown costs are taken as the mean rate, 5200 ns / 1200 bytes.
  policy.inserted(3, {100, 0, 3});
  CHECK(victim_of(policy) == 3u);
}

TEST_CASE("gdsf: age overtakes what was worth much once") {
  ba::gdsf policy;
  policy.reserve(2);
  policy.inserted(0, {1, 50, 0});
  int newcomers = 0;
  for (; newcomers < 100; ++newcomers) {
    policy.inserted(1, {1, 1, 1});
    const auto gone = victim_of(policy);
    REQUIRE(gone);
    policy.erased(*gone);
    if (*gone == 0) break;
  }
  CHECK(newcomers == 49);  // each victim raises the age by one; among equals the older goes
}

TEST_CASE("s3_fifo: a scan passes through the small queue and leaves the main queue alone") {
  ba::s3_fifo policy;
  constexpr slot room = 100;
  policy.reserve(room + 1);
  for (slot s = 0; s < room; ++s) {
    policy.inserted(s, {1, 0, s});
    if (s < 50) {
      policy.touched(s);
      policy.touched(s);
    }
  }
  // A thousand blocks that come once: what was used is still there, and no memory of it is lost.
  std::set<slot> in_use;
  for (slot s = 0; s < room; ++s) in_use.insert(s);
  for (std::uint64_t name = 1000; name < 2000; ++name) {
    const auto gone = victim_of(policy);
    REQUIRE(gone);
    REQUIRE(*gone >= 50);
    policy.erased(*gone);
    policy.inserted(*gone, {1, 0, name});
  }
}

TEST_CASE("s3_fifo: a block that comes back soon after it left goes to the main queue") {
  ba::s3_fifo policy;
  policy.reserve(10);
  for (slot s = 0; s < 10; ++s) policy.inserted(s, {1, 0, s});
  CHECK(victim_of(policy) == 0u);
  policy.erased(0);
  policy.inserted(0, {1, 0, 0});  // known
  for (const slot expected : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u}) {
    CHECK(victim_of(policy) == expected);
    policy.erased(expected);
  }
  CHECK(victim_of(policy) == 0u);
  // What was erased by hand is not remembered: 1 comes back as a newcomer, and goes before 0.
  policy.inserted(1, {1, 0, 11});
  policy.erased(1);
  policy.inserted(1, {1, 0, 11});
  CHECK(victim_of(policy) == 1u);
}

TEST_CASE("ghost_list: agrees with a list of names, across growth") {
  std::mt19937 random(5);
  ba::ghost_list<> ghosts;
  ghosts.put(1, 10);  // no room yet
  CHECK_FALSE(ghosts.contains(1));
  std::deque<std::pair<std::uint64_t, bool>> order;  // name, still known
  std::size_t room = 0;
  for (int step = 0; step < 30000; ++step) {
    if (step % 3000 == 0) {
      ghosts.reserve(room = room == 0 ? 4 : room * 2);
      std::erase_if(order, [](const auto& e) { return !e.second; });  // growth leaves stale places behind
    }
    const std::uint64_t name = random() % (2 * room);
    const auto known = [&](std::uint64_t n) {
      return std::find(order.begin(), order.end(), std::pair(n, true));
    };
    if (random() % 4 == 0) {
      const auto at = known(name);
      REQUIRE(ghosts.take(name) == (at != order.end()));
      if (at != order.end()) at->second = false;
    } else {
      const std::size_t most = room - random() % 3;
      if (const auto at = known(name); at != order.end()) at->second = false;
      while (order.size() >= most) order.pop_front();
      order.emplace_back(name, true);
      ghosts.put(name, most);
    }
    const std::uint64_t probe = random() % (2 * room);
    REQUIRE(ghosts.contains(probe) == (known(probe) != order.end()));
  }
}

TEST_CASE("policies: allocate in reserve only, from their allocators") {
  allocation_counter counter;
  const auto run = [&](auto policy) {
    policy.reserve(100);
    const std::size_t before = counter.allocations;
    for (slot s = 0; s < 100; ++s) policy.inserted(s, {s, s, s});
    for (int i = 0; i < 300; ++i) {
      const auto gone = victim_of(policy);
      REQUIRE(gone);
      policy.erased(*gone);
      policy.inserted(*gone, {1, 1, static_cast<std::uint64_t>(i) % 150});
      policy.touched(static_cast<slot>(i % 100));
    }
    CHECK(counter.allocations == before);
  };
  using allocator = counting_allocator<std::byte>;
  run(ba::basic_lru<allocator>(counter));
  run(ba::basic_s3_fifo<allocator>(counter));
  run(ba::basic_gdsf<allocator>(counter));
  CHECK(counter.live() == 0);
}
