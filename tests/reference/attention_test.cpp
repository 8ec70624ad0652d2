// SPDX-License-Identifier: MIT
// The laws of masked attention, in double; outside vectors.
#include "blockattn/reference/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/data.hpp"
#include "../support/random_model.hpp"
#include "rows.hpp"

namespace ref = blockattn::reference;
using blockattn_test::random_numbers;
using blockattn_test::rows_of;

namespace {

ref::matrix random_matrix(random_numbers& random, std::size_t rows, std::size_t cols, double size = 1.0) {
  ref::matrix m(rows, cols);
  for (double& x : m.values()) x = random.symmetric(size);
  return m;
}

double largest_difference(std::span<const double> a, std::span<const double> b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

bool always(std::size_t) { return true; }

constexpr std::size_t head_sizes[] = {2, 8, 16, 24, 64};

}  // namespace

TEST_CASE("the block mask is the paper's", "[reference][attention]") {
  // The example of the authors' code: local blocks of 1 and 2 tokens, one final token.
  const std::size_t lengths[] = {1, 2, 1};
  const auto allow = ref::block_mask(lengths);
  const bool expected[4][4] = {
      {true, false, false, false}, {false, true, false, false}, {false, true, true, false}, {true, true, true, true}};
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 4; ++j) CHECK(allow(i, j) == expected[i][j]);
}

TEST_CASE("the block mask counts what it should", "[reference][attention]") {
  const std::vector<std::vector<std::size_t>> cases = {{5}, {0, 5}, {3, 0, 4, 2}, {1, 1, 1, 1}, {17, 16, 15, 9}};
  for (const auto& lengths : cases) {
    std::size_t n = 0, local = 0;
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      n += lengths[b];
      if (b + 1 < lengths.size()) local += lengths[b] * (lengths[b] + 1) / 2;
    }
    const std::size_t q = lengths.back();
    const auto allow = ref::block_mask(lengths);
    std::size_t seen = 0;
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(allow(i, i));
      for (std::size_t j = 0; j < n; ++j) {
        if (allow(i, j)) ++seen;
        if (j > i) CHECK_FALSE(allow(i, j));
      }
    }
    CHECK(seen == local + q * (n - q) + q * (q + 1) / 2);
  }
  // One local block and the final one: nothing is hidden.
  const std::size_t two[] = {6, 3};
  const auto block = ref::block_mask(two);
  const auto full = ref::causal();
  for (std::size_t i = 0; i < 9; ++i)
    for (std::size_t j = 0; j < 9; ++j) CHECK(block(i, j) == full(i, j));
}

TEST_CASE("softmax sums to one, of any scores", "[reference][attention]") {
  random_numbers random(21);
  for (const double size : {1e-3, 1.0, 50.0, 1e4}) {
    std::vector<double> scores(101);
    for (double& s : scores) s = random.symmetric(size);
    const auto before = scores;
    const double lse = ref::softmax(scores);
    double sum = 0;
    for (const double s : scores) {
      CHECK(s >= 0);
      sum += s;
    }
    CHECK(std::abs(sum - 1) < 1e-13);
    for (std::size_t i = 0; i < scores.size(); ++i) CHECK(std::abs(scores[i] - std::exp(before[i] - lse)) < 1e-10);
  }
  std::vector<double> none;
  CHECK(ref::softmax(none) == -std::numeric_limits<double>::infinity());
  std::vector<double> one{-1234.5};
  CHECK(ref::softmax(one) == -1234.5);
  CHECK(one[0] == 1.0);
}

TEST_CASE("rows of shares sum to one and are zero where masked", "[reference][attention]") {
  random_numbers random(22);
  const std::size_t lengths[] = {5, 1, 7, 4};
  const auto allow = ref::block_mask(lengths);
  const auto q = random_matrix(random, 17, 8, 3), k = random_matrix(random, 17, 8, 3);
  const auto shares = ref::attention_shares(q, k, allow, 1 / std::sqrt(8.0));
  for (std::size_t i = 0; i < 17; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < 17; ++j) {
      sum += shares(i, j);
      if (allow(i, j)) CHECK(shares(i, j) > 0);
      if (!allow(i, j)) CHECK(shares(i, j) == 0.0);
    }
    CHECK(std::abs(sum - 1) < 1e-14);
  }
}

TEST_CASE("a masked key cannot reach an output", "[reference][attention]") {
  random_numbers random(23);
  const std::size_t lengths[] = {4, 3, 2};
  const auto allow = ref::block_mask(lengths);
  const auto q = random_matrix(random, 9, 16), k = random_matrix(random, 9, 16), v = random_matrix(random, 9, 16);
  const auto before = ref::attention(q, k, v, allow, 0.25);
  for (const double poison :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e300}) {
    auto bad_k = k, bad_v = v;
    for (std::size_t d = 0; d < 16; ++d) bad_k(1, d) = bad_v(1, d) = poison;  // in the first block
    const auto after = ref::attention(q, bad_k, bad_v, allow, 0.25);
    CHECK(rows_of(after, 0, 1) == rows_of(before, 0, 1));  // its own block, before it
    CHECK(rows_of(after, 4, 3) == rows_of(before, 4, 3));  // the other block
    CHECK_FALSE(rows_of(after, 7, 2) == rows_of(before, 7, 2));
  }
}

TEST_CASE("partial attentions merge, in any order and split", "[reference][attention]") {
  random_numbers random(24);
  for (const std::size_t d : head_sizes) {
    for (const double size : {1.0, 30.0}) {
      const auto q = random_matrix(random, 1, d, size), k = random_matrix(random, 134, d, 1.0);
      const auto v = random_matrix(random, 134, d);
      const double scale = 1 / std::sqrt(static_cast<double>(d));
      const auto whole = ref::attend(q.row(0), k, v, scale, always);

      // Blocks of 1, 15, 16, 0, 17 and 85 keys; an empty one is neutral.
      const std::size_t ends[] = {1, 16, 32, 32, 49, 134};
      std::vector<ref::partial> parts;
      std::size_t first = 0;
      for (const std::size_t last : ends) {
        parts.push_back(ref::attend(q.row(0), rows_of(k, first, last - first), rows_of(v, first, last - first), scale, always));
        first = last;
      }
      for (int order = 0; order < 6; ++order) {
        std::rotate(parts.begin(), parts.begin() + 1, parts.end());
        if (order == 3) std::reverse(parts.begin(), parts.end());
        ref::partial left{std::vector<double>(d, 0.0)}, right{std::vector<double>(d, 0.0)};
        for (const auto& p : parts) left = ref::merge(left, p);
        for (std::size_t i = parts.size(); i-- > 0;) right = ref::merge(parts[i], right);
        CHECK(largest_difference(left.out, whole.out) < 1e-13);
        CHECK(largest_difference(right.out, whole.out) < 1e-13);
        CHECK(std::abs(left.lse - whole.lse) < 1e-12);
      }
    }
  }
}

TEST_CASE("attention over nothing is nothing", "[reference][attention]") {
  const ref::matrix q(1, 8, 1.0), none(0, 8);
  const auto p = ref::attend(q.row(0), none, none, 1.0, always);
  CHECK(p.out == std::vector<double>(8, 0.0));
  CHECK(p.lse == -std::numeric_limits<double>::infinity());
  const auto both = ref::merge(p, p);
  CHECK(both.out == std::vector<double>(8, 0.0));
  CHECK(both.lse == -std::numeric_limits<double>::infinity());
}

TEST_CASE("an output lies among the values", "[reference][attention]") {
  random_numbers random(25);
  const auto q = random_matrix(random, 6, 8, 5), k = random_matrix(random, 9, 8), v = random_matrix(random, 9, 3);
  const auto out = ref::attention(
      q, k, v, [](std::size_t, std::size_t) { return true; }, 1.0);
  for (std::size_t d = 0; d < 3; ++d) {
    double low = v(0, d), high = v(0, d);
    for (std::size_t j = 1; j < 9; ++j) {
      low = std::min(low, v(j, d));
      high = std::max(high, v(j, d));
    }
    for (std::size_t i = 0; i < 6; ++i) {
      CHECK(out(i, d) >= low - 1e-15);
      CHECK(out(i, d) <= high + 1e-15);
    }
  }
}

TEST_CASE("masked attention agrees with the vectors of CS336", "[reference][attention][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto base = folder / "golden/cs336";
  const auto q = blockattn_test::read_floats(base / "sdpa_q_4x12x64.f32");
  const auto k = blockattn_test::read_floats(base / "sdpa_k_4x16x64.f32");
  const auto v = blockattn_test::read_floats(base / "sdpa_v_4x16x64.f32");
  const auto expected = blockattn_test::read_floats(base / "sdpa_expected_4x12x64.f32");
  const auto mask = blockattn_test::read_text(base / "sdpa_mask_4x12x16.u8");
  REQUIRE(q.size() == 4 * 12 * 64);
  REQUIRE(k.size() == 4 * 16 * 64);
  REQUIRE(v.size() == k.size());
  REQUIRE(expected.size() == q.size());
  REQUIRE(mask.size() == 4 * 12 * 16);

  const auto part = [](const std::vector<float>& all, std::size_t index, std::size_t rows) {
    ref::matrix m(rows, 64);
    for (std::size_t i = 0; i < rows * 64; ++i) m.values()[i] = static_cast<double>(all[index * rows * 64 + i]);
    return m;
  };
  double largest = 0;
  for (std::size_t b = 0; b < 4; ++b) {
    const auto allow = [&](std::size_t i, std::size_t j) { return mask[(b * 12 + i) * 16 + j] != 0; };
    const auto out = ref::attention(part(q, b, 12), part(k, b, 16), part(v, b, 16), allow, 1.0 / 8);
    largest = std::max(largest, largest_difference(out.values(), part(expected, b, 12).values()));
  }
  INFO("largest deviation " << largest);
  CHECK(largest < 1e-5);
}
