// SPDX-License-Identifier: MIT
#include <array>
#include <bit>
#include <blockattn/core/hash.hpp>
#include <random>
#include <set>
#include <vector>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {
ba::hash128 of_tokens(const std::vector<ba::token>& ids, std::uint64_t seed = 0) {
  return ba::hasher(seed).tokens(ids).finish();
}
ba::hash128 of_text(std::string_view text) { return ba::hasher().text(text).finish(); }
}  // namespace

// Block files and shared stores outlive a build, so these values may change only together with `kv_layout_version`.
TEST_CASE("hash: golden values") {
  CHECK(ba::hasher().finish().hex() == "b224da9df1dd872cec51102ee7cfc17d");
  CHECK(ba::hasher(1).finish().hex() == "6fed31792c9b10bc6c847d746c94ed26");
  CHECK(ba::hasher().number(42).finish().hex() == "f4539b1a183d81933da70490851c89b5");
  CHECK(of_text("blockattn").hex() == "4fc90be9d6f59a5645d4cd02ea76c551");
  CHECK(of_text("a text of more than sixteen bytes").hex() == "d0c72ad8ed751db9a70c7ec9d003bc61");
  CHECK(of_tokens({1, 2, 3, 4, 5}).hex() == "3a4b030bcc98a5fabae97adf1dfadef8");
  CHECK(of_tokens({-1, 2147483647}).hex() == "67432286fdd236a773d4393418e130f1");
}

TEST_CASE("hash: is a constant expression over tokens") {
  constexpr std::array<ba::token, 5> ids{1, 2, 3, 4, 5};
  constexpr ba::hash128 at_compile_time = ba::hasher().tokens(ids).finish();
  CHECK(at_compile_time == of_tokens({1, 2, 3, 4, 5}));
}

TEST_CASE("hash: every call mixes its length, so pieces cannot be shifted between calls") {
  CHECK(ba::hasher().text("ab").text("c").finish() != ba::hasher().text("a").text("bc").finish());
  CHECK(of_tokens({}) != ba::hasher().finish());
  CHECK(of_tokens({0}) != of_tokens({0, 0}));
  CHECK(of_tokens({1, 2}) != of_tokens({2, 1}));
  CHECK(of_text(std::string_view("\0", 1)) != of_text(std::string_view("\0\0", 2)));
  CHECK(of_tokens({7}, 1) != of_tokens({7}, 2));
}

TEST_CASE("hash: no two short inputs collide, all lengths around a step are told apart") {
  std::set<ba::hash128> seen;
  std::size_t inputs = 0;
  for (ba::token a = 0; a < 40; ++a)
    for (ba::token b = 0; b < 40; ++b) {
      seen.insert(of_tokens({a, b}));
      seen.insert(of_tokens({a, b, 0}));
      inputs += 2;
    }
  CHECK(seen.size() == inputs);

  std::set<ba::hash128> zeros;
  for (std::size_t n = 0; n < 70; ++n) zeros.insert(of_text(std::string(n, '\0')));
  CHECK(zeros.size() == 70);
}

TEST_CASE("hash: one flipped input bit changes about half of the output") {
  std::mt19937 random(3);
  for (const std::size_t length : {1u, 2u, 3u, 4u, 5u, 17u}) {
    std::vector<ba::token> ids(length);
    double flipped = 0;
    int trials = 0;
    for (int round = 0; round < 20; ++round) {
      for (ba::token& id : ids) id = static_cast<ba::token>(random());
      const ba::hash128 before = of_tokens(ids);
      for (std::size_t i = 0; i < length; ++i)
        for (int bit = 0; bit < 32; ++bit) {
          auto changed = ids;
          changed[i] = static_cast<ba::token>(static_cast<std::uint32_t>(changed[i]) ^ (1u << bit));
          const ba::hash128 after = of_tokens(changed);
          const int count = std::popcount(before.high ^ after.high) + std::popcount(before.low ^ after.low);
          CHECK(count > 20);  // of 128; below 20 has odds of about 1e-15
          flipped += count;
          ++trials;
        }
    }
    CHECK(flipped / trials == Approx(64).margin(2));
  }
}

TEST_CASE("hash: prints, orders and hashes") {
  CHECK(ba::hash128{0x0123456789abcdefu, 0xfedcba9876543210u}.hex() == "0123456789abcdeffedcba9876543210");
  CHECK(ba::hash128{1, 0} > ba::hash128{0, 9});
  CHECK(std::hash<ba::hash128>{}(ba::hash128{1, 2}) == 2);
}
