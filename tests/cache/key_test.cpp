// SPDX-License-Identifier: MIT
#include <blockattn/cache/key.hpp>
#include <functional>
#include <set>
#include <vector>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {
std::vector<ba::token> tokens_of(std::initializer_list<ba::token> list) { return list; }

ba::block_realm example_realm() {
  ba::block_realm realm;
  realm.model = {0x0123456789abcdefu, 0xfedcba9876543210u};
  ba::rope_config rope;
  rope.rotary_dim = 64;
  realm.rope = hash_of(rope);
  return realm;
}
}  // namespace

// Files and other machines know blocks by these values. They may change only together with kv_layout_version, or with
// the version of the library while it is 0.x and the changelog says that stored blocks are lost.
TEST_CASE("key_of: golden values") {
  ba::rope_config rope;
  rope.rotary_dim = 64;
  CHECK(hash_of(rope).hex() == "b556261ded695540c474c9067c3b2d0f");
  rope.scaling = ba::rope_scaling::yarn;
  rope.factor = 4;
  rope.frequency_divisors = {1.0f, 2.5f};
  CHECK(hash_of(rope).hex() == "2537e62cddfaeb0557d0c4aba5286cef");

  CHECK(key_of(ba::block_realm(), {}).value.hex() == "2807477556f92dd4a889893dac13792f");
  ba::block_realm realm = example_realm();
  CHECK(key_of(realm, tokens_of({1, 2, 3, 4, 5, 6, 7, 8})).value.hex() == "f576d3cdcdc8ac2402913bca1ba33ab1");
  realm.salt = "tenant";
  realm.sinks = {1};
  realm.codec = 2;
  CHECK(key_of(realm, tokens_of({-1, 0, 2147483647})).value.hex() == "a2c6dd50634ab6fa1aa29de6c735be53");
}

TEST_CASE("key_of: depends on every field of the realm and on every token") {
  std::set<ba::block_key> seen;
  const auto different = [&](const ba::block_realm& realm, const std::vector<ba::token>& list) {
    return seen.insert(key_of(realm, list)).second;
  };
  const auto list = tokens_of({1, 2, 3, 4});
  const ba::block_realm base = example_realm();
  REQUIRE(different(base, list));
  CHECK_FALSE(different(base, list));

  ba::block_realm realm = base;
  realm.model.high ^= 1;
  CHECK(different(realm, list));
  realm = base;
  realm.model.low ^= 1;
  CHECK(different(realm, list));
  realm = base;
  realm.rope.low ^= 1;
  CHECK(different(realm, list));
  realm = base;
  realm.type = ba::dtype::f32;
  CHECK(different(realm, list));
  realm = base;
  realm.codec = 1;
  CHECK(different(realm, list));
  realm = base;
  realm.sinks = {1};
  CHECK(different(realm, list));
  realm = base;
  realm.salt = "a";
  CHECK(different(realm, list));

  for (std::size_t i = 0; i < list.size(); ++i) {
    auto other = list;
    other[i] += 7;
    CHECK(different(base, other));
  }
  CHECK(different(base, tokens_of({1, 2, 3})));
  CHECK(different(base, tokens_of({1, 2, 3, 4, 0})));
  CHECK(different(base, tokens_of({2, 1, 3, 4})));
}

// PAPER, invariant 21: [[1..8]] and [[1..4],[5..8]] never alias. A key is of one list, so the halves have keys of their
// own, the same ones whoever stands beside them.
TEST_CASE("key_of: a list and its parts have different keys, which do not depend on neighbours") {
  const ba::block_realm realm = example_realm();
  const auto whole = tokens_of({1, 2, 3, 4, 5, 6, 7, 8});
  const std::span<const ba::token> all(whole);
  const auto first = key_of(realm, all.first(4));
  const auto second = key_of(realm, all.last(4));
  CHECK(key_of(realm, whole) != first);
  CHECK(key_of(realm, whole) != second);
  CHECK(first != second);
  CHECK(first == key_of(realm, tokens_of({1, 2, 3, 4})));
  CHECK(second == key_of(realm, tokens_of({5, 6, 7, 8})));
}

TEST_CASE("key_of: tokens never slide into sinks or salt") {
  ba::block_realm with_sink, without;
  with_sink.sinks = {1};
  CHECK(key_of(with_sink, tokens_of({2})) != key_of(without, tokens_of({1, 2})));
  ba::block_realm salted;
  salted.salt = std::string("\1\0\0\0", 4);
  CHECK(key_of(salted, {}) != key_of(without, tokens_of({1})));
}

TEST_CASE("hash_of: depends on every field of a rotary configuration") {
  std::set<ba::hash128> seen;
  const auto different = [&](auto change) {
    ba::rope_config c;
    change(c);
    return seen.insert(hash_of(c)).second;
  };
  CHECK(different([](auto&) {}));
  CHECK(different([](auto& c) { c.theta = 5e5; }));
  CHECK(different([](auto& c) { c.rotary_dim = 2; }));
  CHECK(different([](auto& c) { c.layout = ba::rope_layout::interleaved; }));
  CHECK(different([](auto& c) { c.angles = ba::rope_angles::hf_f32; }));
  CHECK(different([](auto& c) { c.scaling = ba::rope_scaling::linear; }));
  CHECK(different([](auto& c) { c.factor = 2; }));
  CHECK(different([](auto& c) { c.original_context = 2; }));
  CHECK(different([](auto& c) { c.low_frequency_factor = 2; }));
  CHECK(different([](auto& c) { c.high_frequency_factor = 2; }));
  CHECK(different([](auto& c) { c.beta_fast = 2; }));
  CHECK(different([](auto& c) { c.beta_slow = 2; }));
  CHECK(different([](auto& c) { c.attention_factor = 2; }));
  CHECK(different([](auto& c) { c.extrapolation = 2; }));
  CHECK(different([](auto& c) { c.frequency_divisors = {1}; }));
  CHECK(different([](auto& c) { c.frequency_divisors = {1, 1}; }));
  // Equal configurations hash equal, whatever the sign of a zero.
  CHECK_FALSE(different([](auto& c) { c.original_context = -0.0; }));
}

TEST_CASE("block_key: is ordered, and hashable") {
  const ba::block_key a{{0, 1}}, b{{0, 2}}, c{{1, 0}};
  CHECK(a < b);
  CHECK(b < c);
  CHECK(std::hash<ba::block_key>()(a) != std::hash<ba::block_key>()(b));
}
