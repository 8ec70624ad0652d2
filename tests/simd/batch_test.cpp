// SPDX-License-Identifier: MIT
// simd/batch.hpp: every operation on sixteen floats against the same operation on one.
#include <blockattn/simd/batch.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "support/catch.hpp"

namespace ba = blockattn;

namespace {

using floats = std::array<float, 16>;

floats stored(ba::f32x16 x) {
  // One float off the alignment, with guards on both sides.
  alignas(64) float raw[18];
  raw[0] = raw[17] = 7.0f;
  ba::store(raw + 1, x);
  floats out;
  for (std::size_t i = 0; i < 16; ++i) out[i] = raw[i + 1];
  CHECK(raw[0] == 7.0f);
  CHECK(raw[17] == 7.0f);
  return out;
}

std::array<std::uint32_t, 16> bits(const floats& x) {
  std::array<std::uint32_t, 16> out{};
  for (std::size_t i = 0; i < 16; ++i) out[i] = std::bit_cast<std::uint32_t>(x[i]);
  return out;
}

struct source {
  std::mt19937 gen{42};
  floats next(float scale = 8.0f) {
    floats out;
    for (float& x : out) x = static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0) * scale;
    return out;
  }
};

#if defined(__AVX512F__) || defined(__FMA__) || defined(__aarch64__)
constexpr bool is_fused = true;
#else
constexpr bool is_fused = false;
#endif

bool is_nan(std::uint16_t b) { return (b & 0x7fffu) > 0x7f80u; }

}  // namespace

TEST_CASE("arithmetic of sixteen floats is that of one", "[simd]") {
  source random;
  for (int round = 0; round < 200; ++round) {
    const floats x = random.next(), y = random.next(), z = random.next();
    const auto bx = ba::load(x.data()), by = ba::load(y.data()), bz = ba::load(z.data());
    const floats sum = stored(bx + by), difference = stored(bx - by), product = stored(bx * by);
    const floats quotient = stored(bx / by), larger = stored(ba::max(bx, by)), smaller = stored(ba::min(bx, by));
    const floats multiplied = stored(ba::fma(bx, by, bz));
    for (std::size_t i = 0; i < 16; ++i) {
      CHECK(sum[i] == x[i] + y[i]);
      CHECK(difference[i] == x[i] - y[i]);
      CHECK(product[i] == x[i] * y[i]);
      // A host's -ffast-math may divide by way of a reciprocal.
      CHECK(std::abs(quotient[i] - x[i] / y[i]) <= 3e-7f * std::abs(x[i] / y[i]));
      CHECK(larger[i] == (x[i] < y[i] ? y[i] : x[i]));
      CHECK(smaller[i] == (x[i] < y[i] ? x[i] : y[i]));
      if (is_fused) {
        CHECK(multiplied[i] == std::fma(x[i], y[i], z[i]));
      } else {
        volatile float rounded = x[i] * y[i];
        CHECK(multiplied[i] == rounded + z[i]);
      }
    }
  }
}

TEST_CASE("a fused product keeps the bits that a rounded one loses", "[simd]") {
  if (!is_fused) {
    WARN("skipped: " << ba::isa_name() << " has no fused multiply-add");
    return;
  }
  // (1 + e)(1 - e) - 1 = -e^2: zero if the product is rounded first.
  const float e = 0x1p-20f;
  const floats got = stored(ba::fma(ba::broadcast(1.0f + e), ba::broadcast(1.0f - e), ba::broadcast(-1.0f)));
  for (const float x : got) CHECK(x == -0x1p-40f);
}

TEST_CASE("broadcast and zero fill all lanes", "[simd]") {
  for (const float x : stored(ba::broadcast(-2.5f))) CHECK(x == -2.5f);
  for (const std::uint32_t b : bits(stored(ba::zero16()))) CHECK(b == 0u);
}

TEST_CASE("unroll calls once for each index, in order", "[simd]") {
  std::array<std::size_t, 7> seen{};
  std::size_t at = 0;
  ba::unroll<7>([&](auto i) { seen[at++] = i; });
  CHECK(at == 7);
  for (std::size_t i = 0; i < 7; ++i) CHECK(seen[i] == i);
  ba::unroll<0>([&](auto) { ++at; });
  CHECK(at == 7);
}

TEST_CASE("keep_lanes keeps what is between its bounds, whatever they are", "[simd]") {
  source random;
  const floats x = random.next();
  const auto lanes = ba::load(x.data());
  const auto check = [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    const floats got = stored(ba::keep_lanes(lanes, -99.0f, first, last));
    for (std::ptrdiff_t i = 0; i < 16; ++i) {
      INFO("first " << first << " last " << last << " lane " << i);
      CHECK(got[static_cast<std::size_t>(i)] == (i >= first && i < last ? x[static_cast<std::size_t>(i)] : -99.0f));
    }
  };
  for (std::ptrdiff_t first = -2; first <= 18; ++first)
    for (std::ptrdiff_t last = -2; last <= 18; ++last) check(first, last);
  constexpr auto lowest = std::numeric_limits<std::ptrdiff_t>::min(), highest = std::numeric_limits<std::ptrdiff_t>::max();
  check(lowest, highest);
  check(highest, lowest);
  check(lowest, 5);
  check(5, highest);
  check(std::ptrdiff_t{1} << 40, (std::ptrdiff_t{1} << 40) + 8);
}

TEST_CASE("reductions see every lane", "[simd]") {
  source random;
  for (std::size_t hot = 0; hot < 16; ++hot) {
    floats x{};
    x[hot] = 3.0f;
    CHECK(ba::reduce_add(ba::load(x.data())) == 3.0f);
    CHECK(ba::reduce_max(ba::load(x.data())) == 3.0f);
    for (float& v : x) v = -5.0f;
    x[hot] = -4.0f;
    CHECK(ba::reduce_max(ba::load(x.data())) == -4.0f);
  }
  for (int round = 0; round < 100; ++round) {
    const floats x = random.next();
    double sum = 0, size = 0;
    for (const float v : x) {
      sum += static_cast<double>(v);
      size += std::abs(static_cast<double>(v));
    }
    CHECK(std::abs(static_cast<double>(ba::reduce_add(ba::load(x.data()))) - sum) <= 4 * 0x1p-24 * size);
  }
}

TEST_CASE("every bf16 widens to itself, from any of the three loads", "[simd]") {
  alignas(64) ba::bf16 in[34];
  for (std::uint32_t base = 0; base < 65536; base += 32) {
    for (std::uint32_t i = 0; i < 32; ++i) in[i + 1].bits = static_cast<std::uint16_t>(base + i);
    const auto run = bits(stored(ba::load(in + 1)));
    const auto even = bits(stored(ba::load_even(in + 1))), odd = bits(stored(ba::load_odd(in + 1)));
    bool same = true;
    for (std::uint32_t i = 0; i < 16; ++i) {
      same = same && run[i] == (base + i) << 16;
      same = same && even[i] == (base + 2 * i) << 16 && odd[i] == (base + 2 * i + 1) << 16;
    }
    CHECK(same);
  }
}

TEST_CASE("rounding to bf16 is to nearest, ties to even, for every upper half", "[simd]") {
  constexpr std::uint32_t lower[16] = {0x0000, 0x0001, 0x00ff, 0x3fff, 0x4000, 0x7ffe, 0x7fff, 0x8000,
                                       0x8001, 0x8002, 0xbfff, 0xc000, 0xfffe, 0xffff, 0x5555, 0xaaaa};
  for (std::uint32_t upper = 0; upper < 65536; ++upper) {
    floats x;
    for (std::size_t i = 0; i < 16; ++i) x[i] = std::bit_cast<float>(upper << 16 | lower[i]);
    const auto wide = bits(stored(ba::round_to_bf16(ba::load(x.data()))));
    ba::bf16 raw[18] = {};
    raw[0].bits = raw[17].bits = 0x1234;
    ba::store(raw + 1, ba::load(x.data()));
    bool right = raw[0].bits == 0x1234 && raw[17].bits == 0x1234;
    for (std::size_t i = 0; i < 16; ++i) {
      const std::uint16_t expected = ba::to_bf16(x[i]).bits;
      const std::uint16_t narrow = raw[i + 1].bits;
      if (is_nan(expected)) {
        right = right && is_nan(static_cast<std::uint16_t>(wide[i] >> 16)) && is_nan(narrow);
        continue;
      }
      right = right && wide[i] == std::uint32_t{expected} << 16;
      // AVX-512 BF16 takes subnormal floats for zero, in the rounding as in its products.
      const bool subnormal = (upper & 0x7f80u) == 0;
      const bool flushed = ba::has_bf16_dot && subnormal && (narrow & 0x7fffu) == 0;
      right = right && (narrow == expected || flushed);
    }
    if (!right) {
      INFO("upper half " << upper);
      CHECK(right);
    }
  }
}
