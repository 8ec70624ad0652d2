// SPDX-License-Identifier: MIT
#include <blockattn/cache/background.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "fake_tier.hpp"
#include "passages.hpp"

namespace ba = blockattn;
using namespace ba::literals;
using namespace blockattn_test;
using list = std::vector<ba::token>;
using lists = std::vector<list>;
using outcome = ba::block_outcome;

static_assert(ba::block_tier<ba::map_tier>);
static_assert(!ba::block_tier<int>);
static_assert(ba::trace_hook<ba::no_trace>);

namespace {

using two_tiers = ba::tiers<fake_tier&, fake_tier&>;

// A store with a near and a far tier, and an encoder.
struct setting {
  fake_tier near{"near"}, far{"far"};
  fake_encoder encoder;
  std::vector<ba::block_origin> origins;
  std::optional<ba::tiered_store<two_tiers>> store;

  explicit setting(ba::kv_store_options options = {.budget_bytes = 1_MiB}) {
    store.emplace(options, two_tiers(near, far));
  }
  std::vector<ba::block_handle> get(const lists& asked) {
    return store->find_or_encode(asked, encoder, {.origins = &origins}).value();
  }
  ba::block_key key(const list& ids) { return key_of(encoder.realm(), ids); }
  void put(fake_tier& tier, const list& ids) {
    REQUIRE(tier.save(encoder.realm(), ba::encode_block(encoder, ids).value()));
  }
  std::string where(const list& ids) {
    return std::string(store->explain(lists{ids}, encoder.realm()).at(0).where);
  }
};

}  // namespace

TEST_CASE("map_tier: gives back what it got, and says when a key holds something else") {
  ba::map_tier tier;
  fake_encoder encoder;
  const auto block = ba::encode_block(encoder, passage(1)).value();
  const auto load = [&](const ba::kv_shape& shape, const list& ids) {
    return tier.load(encoder.realm(), shape, block->key(), ids);
  };
  CHECK(load(encoder.shape(), passage(1)).value() == nullptr);
  CHECK_FALSE(tier.contains(block->key()));
  REQUIRE(tier.save(encoder.realm(), block));
  CHECK(block.use_count() == 1);  // a tier that held the block would pin it
  CHECK(tier.contains(block->key()));
  const auto back = load(encoder.shape(), passage(1)).value();
  CHECK(back->key() == block->key());
  CHECK(has_fake_payload(*back));
  CHECK(back->encode_ns() == block->encode_ns());
  CHECK(load({2, 2, 16, ba::dtype::bf16}, passage(1)).error().code == ba::errc::bad_format);
  CHECK(load(encoder.shape(), passage(2)).error().code == ba::errc::bad_format);
  REQUIRE(tier.erase(block->key()));
  CHECK_FALSE(tier.contains(block->key()));
}

TEST_CASE("tiers: memory, then the near tier, then the far one, then the encoder; and where each came from") {
  setting s;
  s.put(s.far, passage(1));
  s.put(s.far, passage(2));
  s.put(s.near, passage(2));
  const std::size_t before = s.encoder.encoded;
  (void)s.get({passage(3)});
  CHECK(s.where(passage(1)) == "far");
  CHECK(s.where(passage(2)) == "near");
  CHECK(s.where(passage(3)) == "memory");
  CHECK(s.where(passage(4)) == "");
  s.near.loads = s.far.loads = 0;

  const auto blocks = s.get({passage(1), passage(2), passage(3), passage(4), passage(1)});
  CHECK(s.encoder.encoded == before + 2);
  CHECK(s.near.loads == 3);
  CHECK(s.far.loads == 2);
  const std::vector<std::string> expected = {"far", "near", "memory", "miss", "memory"};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CHECK(has_fake_payload(*blocks[i]));
    CHECK(s.origins[i].where == expected[i]);
    CHECK(s.origins[i].reason.empty());
  }
  CHECK(s.origins[2].memory == outcome::hit);
  CHECK(s.origins[3].memory == outcome::never_seen);
  CHECK(blocks[0] == blocks[4]);
  const auto c = s.store->counters();
  CHECK(c.hits == 1);
  CHECK(c.misses == 4);
  CHECK(c.loads == 2);
  CHECK(c.waits == 1);
  CHECK(c.insertions == 4);
  CHECK(c.bytes == 4 * unit);  // what was loaded is counted as what was encoded
  const auto t = s.store->counters_of_tiers();
  CHECK(t[0].name == "near");
  CHECK(t[0].loads == 1);
  CHECK(t[1].loads == 1);
  CHECK(t[1].misses == 2);
  CHECK(t[0].load_ns.total() == 4);
  CHECK(t[1].loaded_bytes == blocks[0]->payload_bytes());
  CHECK(s.store->latencies().encode_ns.total() == 2);
  CHECK(s.store->latencies().lookup_ns.total() == 2);
}

TEST_CASE("tiers: what is encoded goes to all tiers soon, what a tier had to those above") {
  const auto promote = GENERATE(ba::promotion::memory, ba::promotion::all_above);
  setting s({.budget_bytes = 1_MiB, .promote = promote});
  s.put(s.far, passage(1));
  (void)s.get({passage(1), passage(2)});
  // Nobody has drained the queue: nothing was saved, and nobody waited for it.
  CHECK_FALSE(s.near.contains(s.key(passage(1))));
  CHECK_FALSE(s.near.contains(s.key(passage(2))));
  CHECK(s.store->jobs() == (promote == ba::promotion::all_above ? 2 : 1));
  CHECK(s.store->drain(1) == 1);
  ba::inline_executor here;
  s.store->drain(here);
  CHECK(s.store->jobs() == 0);
  CHECK(s.near.contains(s.key(passage(1))) == (promote == ba::promotion::all_above));
  CHECK(s.near.contains(s.key(passage(2))));
  CHECK(s.far.contains(s.key(passage(2))));
  CHECK(s.far.saves == 2);  // one by hand: what it had is not written again
  const auto t = s.store->counters_of_tiers();
  CHECK(t[1].saves == 1);
  CHECK(t[1].save_ns.total() == 1);
}

TEST_CASE("tiers: write-back on eviction, never, by flush, and when the store dies") {
  SECTION("on eviction") {
    setting s({.budget_bytes = 2 * unit, .save = ba::write_back::on_eviction});
    for (int i = 0; i < 2; ++i) (void)s.get({passage(i)});
    CHECK(s.near.saves == 0);
    (void)s.get({passage(2)});  // 0 goes
    CHECK(s.near.saves == 1);
    CHECK(s.where(passage(0)) == "near");
    (void)s.get({passage(0)});  // 1 goes; 0 came from a tier
    (void)s.get({passage(1)});  // 2 goes
    (void)s.get({passage(3)});  // 0 goes again and is not written again
    CHECK(s.near.saves == 3);
    CHECK(s.encoder.encoded == 4);
    // What does not fit goes to tiers at once: it will not be evicted.
    (void)s.get({passage(9, 500)});
    CHECK(s.store->drain() == 1);
    CHECK(s.far.contains(s.key(passage(9, 500))));
    s.store->flush();
    CHECK(s.near.saves == 5);  // and 3; 1 came from a tier
    s.store->flush();
    CHECK(s.near.saves == 5);
  }
  SECTION("never") {
    setting s({.budget_bytes = 2 * unit, .save = ba::write_back::never});
    for (int i = 0; i < 4; ++i) (void)s.get({passage(i)});
    s.store->flush();
    CHECK(s.near.saves == 0);
  }
  SECTION("a store saves what waits when it dies") {
    const auto save = GENERATE(ba::write_back::on_insert, ba::write_back::on_eviction);
    setting s({.budget_bytes = 1_MiB, .save = save});
    (void)s.get({passage(1), passage(2)});
    s.store.reset();
    CHECK(s.near.contains(s.key(passage(1))));
    CHECK(s.far.contains(s.key(passage(2))));
  }
  SECTION("inserted blocks, if their realm is known") {
    setting s;
    (void)s.store->insert(ba::encode_block(s.encoder, passage(1)).value()).value();
    (void)s.store->insert(ba::encode_block(s.encoder, passage(2)).value(), s.encoder.realm()).value();
    s.store->flush();
    CHECK_FALSE(s.near.contains(s.key(passage(1))));
    CHECK(s.near.contains(s.key(passage(2))));
  }
}

TEST_CASE("tiers: a complaint is a miss with a reason, never an error of the request") {
  setting s;
  s.put(s.far, passage(1));
  s.near.broken = true;
  auto blocks = s.get({passage(1), passage(2)});
  CHECK(s.origins[0].where == "far");
  CHECK(s.origins[0].reason == "near: a copy with a hole");
  CHECK(s.origins[1].where == "miss");
  CHECK(has_fake_payload(*blocks[1]));
  CHECK(s.store->explain(lists{passage(2)}, s.encoder.realm()).at(0).reason == "near: a copy with a hole");
  s.far.broken = true;
  s.store->clear();
  blocks = s.get({passage(1)});
  CHECK(s.origins[0].reason == "near: a copy with a hole; far: a copy with a hole");
  CHECK(s.origins[0].memory == outcome::erased);
  s.near.full = true;
  (void)s.store->drain();
  const auto t = s.store->counters_of_tiers();
  CHECK(t[0].load_errors == 3);
  CHECK(t[1].load_errors == 1);
  CHECK(t[0].save_errors > 0);
  CHECK(t[0].last_error == "no space left");
  CHECK(t[1].save_errors == 0);
}

TEST_CASE("tiers: bytes are taken before a tier is asked, and no lock is held while it works") {
  setting s({.budget_bytes = 2 * unit});
  s.put(s.far, passage(1));
  std::vector<std::size_t> counted;
  // counters() takes the lock: under it this would never return.
  s.far.during = [&] { counted.push_back(s.store->counters().bytes); };
  const auto held = s.get({passage(1)});
  CHECK(counted == std::vector{unit});
  s.put(s.near, passage(2));
  s.put(s.near, passage(3));
  const auto also_held = s.get({passage(2)});
  const auto outside = s.get({passage(3)});  // no room: handed out, not counted, not kept
  CHECK(has_fake_payload(*outside[0]));
  CHECK(s.store->counters().bytes == 2 * unit);
  CHECK(s.store->counters().uncounted == 1);
  CHECK(s.store->counters().loads == 3);
  CHECK(s.store->explain(lists{passage(3)}, s.encoder.realm()).at(0).outcome == outcome::too_large);
}

TEST_CASE("tiers: prefetch returns at once, and counts no miss") {
  setting s({.budget_bytes = 2 * unit});
  for (int i = 0; i < 2; ++i) s.put(s.far, passage(i));
  const lists wanted = {passage(0), passage(1), passage(7), {}};
  REQUIRE(s.store->prefetch(wanted, s.encoder.realm(), s.encoder.shape()));
  CHECK(s.far.loads == 0);
  CHECK(s.store->jobs() == 3);
  CHECK(s.store->drain() == 3);
  auto c = s.store->counters();
  CHECK(c.prefetches == 2);
  CHECK(c.blocks == 2);
  CHECK(c.misses == 0);
  CHECK(c.failures == 0);
  CHECK(c.bytes == 2 * unit);
  (void)s.get({passage(0), passage(1)});
  CHECK(s.store->counters().hits == 2);
  CHECK(s.encoder.encoded == 2);  // by hand
  // There already: nobody is asked.
  s.far.loads = 0;
  REQUIRE(s.store->prefetch(wanted, s.encoder.realm(), s.encoder.shape()));
  CHECK(s.store->drain() == 3);
  CHECK(s.far.loads == 0);
}

TEST_CASE("tiers: erase reaches them, and what waits for them") {
  setting s;
  (void)s.get({passage(1), passage(2)});
  CHECK(s.store->erase(s.key(passage(1))));
  (void)s.store->drain();
  CHECK(s.where(passage(1)) == "");
  CHECK(s.where(passage(2)) == "memory");
  CHECK(s.store->erase(s.key(passage(2))));
  CHECK(s.where(passage(2)) == "");
}

TEST_CASE("tiers: whoever makes more saves than may wait does some, and blocks that wait make room") {
  setting s({.budget_bytes = 2 * unit, .most_saves = 2});
  for (int i = 0; i < 8; ++i) {
    (void)s.get({passage(i)});
    CHECK(s.store->jobs() <= 2);
    CHECK(s.store->counters().bytes <= 2 * unit);
  }
  CHECK(s.store->counters().uncounted == 0);
  CHECK(s.near.saves == 6);
  (void)s.store->drain();
  for (int i = 0; i < 8; ++i) CHECK(s.far.contains(s.key(passage(i))));
}

TEST_CASE("tiers: blocks with a time to live stay in memory") {
  setting s;
  (void)s.store->find_or_encode(lists{passage(1)}, s.encoder, {.time_to_live = std::chrono::hours(1)}).value();
  s.store->flush();
  CHECK(s.near.saves == 0);
}

namespace {
struct recorder {
  std::vector<std::string>* lines;
  void operator()(const ba::store_event& e) const noexcept {
    lines->push_back(std::string(to_string(e.action)) + " " + std::string(e.where));
  }
};
}  // namespace

TEST_CASE("trace: a hook sees what happens") {
  fake_tier tier("tier");
  std::vector<std::string> lines;
  using store_type = ba::kv_store<ba::lru, ba::no_lock, ba::heap_storage<>, ba::tiers<fake_tier&>, recorder>;
  store_type store({.budget_bytes = unit}, ba::tiers<fake_tier&>(tier), recorder{&lines});
  fake_encoder encoder;
  const auto get = [&](const lists& asked) { (void)store.find_or_encode(asked, encoder).value(); };
  get({passage(1), passage(1)});
  get({passage(1)});
  (void)store.drain();
  get({passage(2)});  // evicts 1
  (void)store.drain();
  get({passage(1)});  // evicts 2
  tier.broken = tier.full = true;
  get({passage(3, 100)});
  (void)store.drain();
  CHECK(lines == std::vector<std::string>{"encode memory", "wait memory", "hit memory", "save tier", "evict memory",
                                          "encode memory", "save tier", "evict memory", "load tier",
                                          "load_failed tier", "uncounted memory", "save_failed tier"});
  // No hook, no cost: it takes no room either.
  CHECK(sizeof(ba::kv_store<ba::lru, ba::no_lock>) <= sizeof(ba::kv_store<ba::lru, ba::no_lock, ba::heap_storage<>,
                                                                         ba::tiers<>, recorder>));
}

TEST_CASE("tiers: owned by value or borrowed by name") {
  struct counted : ba::map_tier {};
  fake_tier borrowed;
  static_assert(std::is_same_v<decltype(ba::tiers(borrowed)), ba::tiers<fake_tier&>>);
  static_assert(std::is_same_v<decltype(ba::tiers(std::declval<counted>())), ba::tiers<counted>>);
  ba::kv_store<ba::lru, std::mutex, ba::heap_storage<>, ba::tiers<ba::map_tier>> owner{{.budget_bytes = unit}};
  fake_encoder encoder;
  (void)owner.find_or_encode(lists{passage(1)}, encoder).value();
  (void)owner.drain();
  (void)owner.find_or_encode(lists{passage(2)}, encoder).value();
  (void)owner.find_or_encode(lists{passage(1)}, encoder).value();
  CHECK(owner.counters().loads == 1);
  CHECK(encoder.encoded == 2);
}

// Whatever is asked, evicted, saved, lost and erased: what a list gets is its own bytes, and it is encoded exactly when
// neither memory nor a tier has it.
TEST_CASE("tiers: random operations agree with a map") {
  std::mt19937 random(GENERATE(1u, 2u, 3u));
  const auto save = GENERATE(ba::write_back::on_insert, ba::write_back::on_eviction, ba::write_back::never);
  setting s({.budget_bytes = 6 * unit, .save = save, .most_saves = 3});
  std::vector<ba::block_handle> held;
  for (int step = 0; step < 600; ++step) {
    const list ids = passage(static_cast<int>(random() % 20), 1 + random() % 2 * 20);
    const auto verb = random() % 10;
    if (verb < 6) {
      const std::string before = s.where(ids);
      const bool near = s.near.contains(s.key(ids)), far = s.far.contains(s.key(ids));
      const auto encoded = s.encoder.encoded;
      const auto blocks = s.get({ids});
      REQUIRE(has_fake_payload(*blocks[0]));
      REQUIRE(std::ranges::equal(blocks[0]->tokens(), ids));
      // Making room may save the very block that is asked for, if it was waiting for that: then a tier has it.
      if (before == "memory") REQUIRE(s.origins[0].where == "memory");
      if (before != "memory" && near) REQUIRE(s.origins[0].where == "near");
      if (before != "memory" && far) REQUIRE(s.origins[0].where != "miss");
      REQUIRE((s.encoder.encoded - encoded == 1) == (s.origins[0].where == "miss"));
      if (random() % 3 == 0) held.push_back(blocks[0]);
    } else if (verb == 6) {
      held.clear();
    } else if (verb == 7) {
      (void)s.store->drain(random() % 3);
    } else if (verb == 8) {
      (void)s.store->erase(s.key(ids));
      REQUIRE(s.where(ids) == "");
    } else {
      REQUIRE(s.store->prefetch(lists{ids}, s.encoder.realm(), s.encoder.shape()));
    }
    const auto c = s.store->counters();
    REQUIRE(c.bytes <= 6 * unit);
    REQUIRE(c.insertions == c.blocks + c.evictions + c.erasures + c.expirations);
  }
  held.clear();
  s.store->flush();
  s.store->clear();
  (void)s.store->drain();
  s.store->clear();
  CHECK(s.store->counters().bytes == 0);
  CHECK((s.near.saves > 0) == (save != ba::write_back::never));
}
