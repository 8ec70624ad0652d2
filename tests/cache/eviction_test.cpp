// SPDX-License-Identifier: MIT
#include <algorithm>
#include <blockattn/cache/eviction.hpp>
#include <list>
#include <random>
#include <set>
#include <vector>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"
#include "policy_models.hpp"

namespace ba = blockattn;
using blockattn_test::victim_of;

static_assert(ba::eviction_policy<ba::lru>);
static_assert(ba::eviction_policy<ba::keep_all>);
static_assert(!ba::eviction_policy<std::vector<int>>);

TEST_CASE("lru: the least recently used block goes first") {
  ba::lru policy;
  CHECK_FALSE(victim_of(policy));
  policy.reserve(8);
  for (const ba::slot_id slot : {3u, 1u, 4u}) policy.inserted(slot, {});
  CHECK(victim_of(policy) == 3u);
  CHECK(victim_of(policy) == 3u);  // asking changes nothing
  policy.touched(3);
  CHECK(victim_of(policy) == 1u);
  policy.touched(4);
  CHECK(victim_of(policy) == 1u);
  policy.erased(1);
  CHECK(victim_of(policy) == 3u);
  policy.erased(3);
  CHECK(victim_of(policy) == 4u);
  policy.touched(4);
  policy.erased(4);
  CHECK_FALSE(victim_of(policy));
  policy.inserted(3, {});  // numbers are used again
  CHECK(victim_of(policy) == 3u);
}

TEST_CASE("lru: steps over blocks that are held") {
  ba::lru policy;
  policy.reserve(3);
  for (const ba::slot_id slot : {0u, 1u, 2u}) policy.inserted(slot, {});
  CHECK(victim_of(policy, {0}) == 1u);
  CHECK(victim_of(policy, {0, 1}) == 2u);
  CHECK_FALSE(victim_of(policy, {0, 1, 2}));
}

TEST_CASE("lru: random use agrees with a list") {
  ba::lru policy;
  std::list<ba::slot_id> order;  // oldest first
  std::mt19937 random(7);
  std::size_t room = 0;
  for (int step = 0; step < 20000; ++step) {
    const auto slot = static_cast<ba::slot_id>(random() % 40);
    const auto at = std::find(order.begin(), order.end(), slot);
    if (at == order.end()) {
      if (slot >= room) policy.reserve(room = slot + 1);
      policy.inserted(slot, {1, 1});
      order.push_back(slot);
    } else if (random() % 3 == 0) {
      policy.erased(slot);
      order.erase(at);
    } else {
      policy.touched(slot);
      order.splice(order.end(), order, at);
    }
    const std::set<ba::slot_id> held = {static_cast<ba::slot_id>(random() % 40)};
    const auto expected = std::find_if(order.begin(), order.end(), [&](auto s) { return held.count(s) == 0; });
    REQUIRE(victim_of(policy, held) ==
            (expected == order.end() ? std::nullopt : std::optional<ba::slot_id>(*expected)));
  }
}

TEST_CASE("lru: allocates in reserve only, from its allocator") {
  blockattn_test::allocation_counter counter;
  {
    ba::basic_lru<blockattn_test::counting_allocator<std::byte>> policy(counter);
    policy.reserve(100);
    const std::size_t before = counter.allocations;
    CHECK(before == 1);
    policy.reserve(50);
    for (ba::slot_id slot = 0; slot < 100; ++slot) policy.inserted(slot, {});
    for (ba::slot_id slot = 0; slot < 100; slot += 2) policy.touched(slot);
    for (ba::slot_id slot = 0; slot < 100; slot += 3) policy.erased(slot);
    CHECK(counter.allocations == before);
  }
  CHECK(counter.live() == 0);
}

TEST_CASE("keep_all: has no victims") {
  ba::keep_all policy;
  policy.reserve(4);
  policy.inserted(1, {});
  CHECK_FALSE(victim_of(policy));
}
