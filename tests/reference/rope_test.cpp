// SPDX-License-Identifier: MIT
// The laws of rotation, in double; frequencies against those of the kernels; outside vectors.
#include "blockattn/reference/rope.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/data.hpp"
#include "../support/random_model.hpp"

namespace ba = blockattn;
namespace ref = blockattn::reference;
using blockattn_test::random_numbers;

namespace {

std::vector<double> random_head(random_numbers& random, std::size_t n) {
  std::vector<double> x(n);
  for (double& v : x) v = random.symmetric();
  return x;
}

std::vector<double> rotated(const ref::rope& rope, std::vector<double> x, std::int64_t position) {
  rope.rotate(x, position);
  return x;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

double product(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

ba::rope_config plain(std::uint32_t rotary_dim, ba::rope_layout layout, double theta = 10000.0) {
  ba::rope_config c;
  c.rotary_dim = rotary_dim;
  c.layout = layout;
  c.theta = theta;
  return c;
}

constexpr ba::rope_layout layouts[] = {ba::rope_layout::half_split, ba::rope_layout::interleaved};
constexpr std::uint32_t head_dims[] = {2, 8, 16, 24, 64};

// Every way to change frequencies.
std::vector<ba::rope_config> scaled_configs(std::uint32_t dim) {
  std::vector<ba::rope_config> all;
  for (const double theta : {10000.0, 500000.0, 1e6}) {
    ba::rope_config c = plain(dim, ba::rope_layout::half_split, theta);
    all.push_back(c);
    for (const double factor : {0.5, 1.0, 4.0, 8.0}) {
      c.factor = factor;
      c.scaling = ba::rope_scaling::linear;
      all.push_back(c);
      for (const double original : {16.0, 64.0, 256.0, 8192.0, 1e9}) {
        c.original_context = original;
        c.scaling = ba::rope_scaling::llama3;
        all.push_back(c);
        c.scaling = ba::rope_scaling::yarn;
        all.push_back(c);
        c.extrapolation = 0.25;
        c.beta_fast = 12;
        c.beta_slow = 2.5;
        c.attention_factor = 1.3;
        all.push_back(c);
        c = plain(dim, ba::rope_layout::half_split, theta);
        c.factor = factor;
      }
    }
    c = plain(dim, ba::rope_layout::interleaved, theta);
    for (std::size_t m = 0; m < dim / 2; ++m) c.frequency_divisors.push_back(1.0f + 0.5f * static_cast<float>(m));
    all.push_back(c);
    c.scaling = ba::rope_scaling::linear;
    c.factor = 2;
    all.push_back(c);
  }
  return all;
}

}  // namespace

TEST_CASE("rotations form a group and keep lengths", "[reference][rope]") {
  random_numbers random(11);
  for (const auto layout : layouts) {
    for (const std::uint32_t d : head_dims) {
      const ref::rope rope(plain(d, layout));
      const auto x = random_head(random, d);
      CAPTURE(d);
      CHECK(rotated(rope, x, 0) == x);  // R(0) = 1, exactly
      for (const std::int64_t p :
           {std::int64_t{1}, std::int64_t{7}, std::int64_t{100}, std::int64_t{4096}, std::int64_t{131072}}) {
        CHECK(largest_difference(rotated(rope, rotated(rope, x, p), -p), x) < 1e-12);
        CHECK(largest_difference(rotated(rope, rotated(rope, x, p), 37), rotated(rope, x, p + 37)) < 1e-10);
        const auto y = rotated(rope, x, p);
        CHECK(std::abs(product(y, y) - product(x, x)) < 1e-12);
        CHECK(largest_difference(y, x) > 1e-3);
      }
    }
  }
}

TEST_CASE("a score depends on the distance only", "[reference][rope]") {
  random_numbers random(12);
  for (const auto layout : layouts) {
    for (const std::uint32_t d : head_dims) {
      const ref::rope rope(plain(d, layout, 500000.0));
      const auto q = random_head(random, d);
      const auto k = random_head(random, d);
      for (const std::int64_t shift : {-5, 1, 100, 100000}) {
        const double here = product(rotated(rope, q, 90), rotated(rope, k, 31));
        CHECK(std::abs(product(rotated(rope, q, 90 + shift), rotated(rope, k, 31 + shift)) - here) < 1e-10);
        // Query-side: turning q back by the start of a block equals turning the block's keys.
        const double keys_turned = product(rotated(rope, q, 90), rotated(rope, rotated(rope, k, 3), shift));
        const double query_turned = product(rotated(rope, rotated(rope, q, 90), -shift), rotated(rope, k, 3));
        CHECK(std::abs(keys_turned - query_turned) < 1e-10);
      }
    }
  }
}

TEST_CASE("re-encoding chains, in one step or two", "[reference][rope]") {
  random_numbers random(13);
  for (const auto layout : layouts) {
    const ref::rope rope(plain(24, layout));
    const auto k = random_head(random, 24);
    const auto at_20 = rotated(rope, k, 20);
    // Equations 2 and 3: back to 0, on to 77; against the single move by 57, and a detour.
    const auto two_steps = rotated(rope, rotated(rope, at_20, -20), 77);
    CHECK(largest_difference(two_steps, rotated(rope, k, 77)) < 1e-12);
    CHECK(largest_difference(two_steps, rotated(rope, at_20, 57)) < 1e-12);
    CHECK(largest_difference(rotated(rope, rotated(rope, at_20, 1000), -943), two_steps) < 1e-11);
  }
}

TEST_CASE("both layouts agree after a permutation, and other dims stay", "[reference][rope]") {
  random_numbers random(14);
  for (const std::uint32_t rotary : {2u, 8u, 16u}) {
    for (const std::size_t head : {std::size_t{rotary}, std::size_t{24}}) {
      const ref::rope split(plain(rotary, ba::rope_layout::half_split));
      const ref::rope pairs(plain(rotary, ba::rope_layout::interleaved));
      const auto x = random_head(random, head);
      auto permuted = x;  // dim m of the first half goes to 2m, of the second half to 2m + 1
      for (std::size_t m = 0; m < rotary / 2; ++m) {
        permuted[2 * m] = x[m];
        permuted[2 * m + 1] = x[m + rotary / 2];
      }
      const auto a = rotated(split, x, 53);
      const auto b = rotated(pairs, permuted, 53);
      for (std::size_t m = 0; m < rotary / 2; ++m) {
        CHECK(a[m] == b[2 * m]);
        CHECK(a[m + rotary / 2] == b[2 * m + 1]);
      }
      for (std::size_t d = rotary; d < head; ++d) {
        CHECK(a[d] == x[d]);
        CHECK(b[d] == x[d]);
      }
    }
  }
}

TEST_CASE("frequencies agree with those of the kernels", "[reference][rope]") {
  std::size_t compared = 0;
  double largest = 0;
  for (const std::uint32_t d : {2u, 8u, 16u, 24u, 64u, 128u}) {
    for (const auto& config : scaled_configs(d)) {
      const auto theirs = ba::make_frequencies(config);
      REQUIRE(theirs);
      const ref::rope ours(config);
      REQUIRE(theirs->pairs() == ours.pairs());
      CHECK(std::abs(theirs->magnitude - ours.magnitude()) < 1e-14);
      for (std::size_t m = 0; m < ours.pairs(); ++m) {
        largest = std::max(largest, std::abs(theirs->per_position[m] / ours.frequency(m) - 1));
        ++compared;
      }
    }
  }
  CHECK(compared > 1000);
  INFO("largest relative deviation " << largest);
  CHECK(largest < 1e-13);
}

TEST_CASE("numbers that overflow together are refused", "[reference][rope]") {
  auto config = plain(16, ba::rope_layout::half_split);
  config.theta = 1e-300;
  config.scaling = ba::rope_scaling::linear;
  config.factor = 1e-300;
  CHECK(ba::make_frequencies(config).error().code == ba::errc::invalid_argument);
  config = plain(16, ba::rope_layout::half_split);
  config.scaling = ba::rope_scaling::yarn;
  config.original_context = 64;
  config.factor = 4;
  CHECK(ba::make_frequencies(config));
  config.extrapolation = std::numeric_limits<double>::quiet_NaN();
  CHECK_FALSE(ba::make_frequencies(config));
  config.extrapolation = 1;
  config.attention_factor = std::numeric_limits<double>::infinity();
  CHECK_FALSE(ba::make_frequencies(config));
}

TEST_CASE("cos_sin of the kernels is the rotation of the reference", "[reference][rope]") {
  for (const auto angles : {ba::rope_angles::exact, ba::rope_angles::hf_f32}) {
    ba::rope_config config = plain(16, ba::rope_layout::half_split);
    config.angles = angles;
    const auto frequencies = ba::make_frequencies(config).value();
    const ref::rope rope(config);
    std::vector<float> table(16);
    for (const std::int64_t p : {0, 1, -1, 100, -4097, 131071}) {
      frequencies.cos_sin(p, table.data());
      for (std::size_t m = 0; m < 8; ++m) {
        std::vector<double> unit(16, 0.0);
        unit[m] = 1.0;
        rope.rotate(unit, p);
        CHECK(std::abs(static_cast<double>(table[m]) - unit[m]) < 1e-7);
        CHECK(std::abs(static_cast<double>(table[8 + m]) - unit[m + 8]) < 1e-7);
      }
    }
  }
}

TEST_CASE("float angles drift as measured, double angles do not", "[reference][rope]") {
  // The error of position * frequency in float grows with the position; PAPER.md section 7 has 1.4e-3 rad at 32k.
  ba::rope_config config = plain(128, ba::rope_layout::half_split, 500000.0);
  const ref::rope exact(config);
  config.angles = ba::rope_angles::hf_f32;
  const ref::rope rounded(config);
  random_numbers random(15);
  const auto x = random_head(random, 128);
  CHECK(largest_difference(rotated(exact, x, 32768), rotated(rounded, x, 32768)) > 1e-4);
  CHECK(largest_difference(rotated(exact, x, 32768), rotated(rounded, x, 32768)) < 5e-3);
}

TEST_CASE("scalings change the right pairs", "[reference][rope]") {
  const ref::rope base(plain(64, ba::rope_layout::half_split));

  SECTION("linear") {
    auto config = plain(64, ba::rope_layout::half_split);
    config.scaling = ba::rope_scaling::linear;
    config.factor = 4;
    const ref::rope rope(config);
    for (std::size_t m = 0; m < 32; ++m) CHECK(rope.frequency(m) == base.frequency(m) / 4);
    CHECK(rope.magnitude() == 1.0);
    // Position interpolation: position 4p of the longer context is position p of the old one.
    random_numbers random(16);
    const auto x = random_head(random, 64);
    CHECK(largest_difference(rotated(rope, x, 400), rotated(base, x, 100)) < 1e-12);
  }
  SECTION("llama3") {
    auto config = plain(64, ba::rope_layout::half_split);
    config.scaling = ba::rope_scaling::llama3;
    config.factor = 8;
    config.original_context = 256;
    const ref::rope rope(config);
    std::size_t kept = 0, between = 0, divided = 0;
    for (std::size_t m = 0; m < 32; ++m) {
      const double ratio = rope.frequency(m) / base.frequency(m);
      const double turns = 256 * base.frequency(m) / (2 * 3.14159265358979323846);
      if (turns > 4) {
        CHECK(ratio == 1.0);
        ++kept;
      } else if (turns < 1) {
        CHECK(ratio == Approx(1.0 / 8).epsilon(1e-14));
        ++divided;
      } else {
        CHECK(ratio == Approx((turns - 1) / 3 + (1 - (turns - 1) / 3) / 8).epsilon(1e-13));
        ++between;
      }
    }
    CHECK(kept > 0);
    CHECK(between > 0);
    CHECK(divided > 0);
  }
  SECTION("yarn") {
    auto config = plain(64, ba::rope_layout::half_split);
    config.scaling = ba::rope_scaling::yarn;
    config.factor = 4;
    config.original_context = 4096;
    const ref::rope rope(config);
    CHECK(rope.magnitude() == Approx(0.1 * std::log(4.0) + 1).epsilon(1e-15));
    // 4096 positions: pair 10 turns 36.7 times, 11 turns 27.5 times; 22 turns 1.16 times, 23 turns 0.87 times.
    for (std::size_t m = 0; m <= 10; ++m) CHECK(rope.frequency(m) == base.frequency(m));
    for (std::size_t m = 11; m <= 22; ++m)
      CHECK(rope.frequency(m) / base.frequency(m) ==
            Approx(1 - 0.75 * (static_cast<double>(m) - 10) / 13).epsilon(1e-13));
    for (std::size_t m = 23; m < 32; ++m) CHECK(rope.frequency(m) == Approx(base.frequency(m) / 4).epsilon(1e-15));

    // The magnitude is put on once, at embedding: a move keeps lengths.
    random_numbers random(17);
    auto x = random_head(random, 64);
    const double before = product(x, x);
    rope.embed(x, 12);
    CHECK(product(x, x) == Approx(before * rope.magnitude() * rope.magnitude()).epsilon(1e-13));
    const double embedded = product(x, x);
    rope.rotate(x, 1000);
    CHECK(product(x, x) == Approx(embedded).epsilon(1e-13));
  }
}

TEST_CASE("rotation agrees with the vectors of CS336", "[reference][rope][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto input = blockattn_test::read_floats(folder / "golden/cs336/rope_input_4x12x64.f32");
  const auto expected = blockattn_test::read_floats(folder / "golden/cs336/rope_expected_4x12x64.f32");
  REQUIRE(input.size() == 4 * 12 * 64);
  REQUIRE(expected.size() == input.size());
  const ref::rope rope(plain(64, ba::rope_layout::interleaved));
  double largest = 0;
  for (std::size_t row = 0; row < 4 * 12; ++row) {
    const auto at = static_cast<std::ptrdiff_t>(row * 64);
    std::vector<double> x(input.begin() + at, input.begin() + at + 64);
    rope.rotate(x, static_cast<std::int64_t>(row % 12));
    for (std::size_t d = 0; d < 64; ++d)
      largest = std::max(largest, std::abs(x[d] - static_cast<double>(expected[row * 64 + d])));
  }
  INFO("largest deviation " << largest);
  CHECK(largest < 1e-5);
}
