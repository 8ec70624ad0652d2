// SPDX-License-Identifier: MIT
// Every 16-bit value and every rounding rule. The expectations are built from <cmath>, not from bit tricks.
#include <blockattn/core/element.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

ba::bf16 bf(unsigned bits) { return ba::bf16{static_cast<std::uint16_t>(bits)}; }
ba::f16 half(unsigned bits) { return ba::f16{static_cast<std::uint16_t>(bits)}; }

// The value of a format with `fraction` stored bits and the given exponent range, by the book.
double by_the_book(unsigned bits, int fraction, int exponent_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int exponent = static_cast<int>(bits >> fraction) & ((1 << exponent_bits) - 1);
  const double part = static_cast<double>(bits & ((1u << fraction) - 1)) / std::ldexp(1.0, fraction);
  if (exponent == (1 << exponent_bits) - 1)
    return part == 0 ? sign * std::numeric_limits<double>::infinity() : std::nan("");
  return exponent == 0 ? sign * std::ldexp(part, 1 - bias) : sign * std::ldexp(1 + part, exponent - bias);
}

// What `x` must round to: the nearer neighbour among all values of the format, the even one at a tie.
template <class Widen>
unsigned nearest(float x, unsigned below, Widen value) {
  const double low = value(below), high = value(below + 1);
  const double middle = (low + high) / 2;
  const double target = std::fabs(static_cast<double>(x));
  if (target < middle) return below;
  if (target > middle) return below + 1;
  return below % 2 == 0 ? below : below + 1;
}

}  // namespace

TEST_CASE("element: widening bf16 is exact, and narrowing gives the same bits back, for every value") {
  std::size_t wrong = 0;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float wide = ba::widen(bf(bits));
    const double expected = by_the_book(bits, 7, 8);
    if (std::isnan(expected)) {
      wrong += !std::isnan(wide) || !std::isnan(ba::widen(ba::to_bf16(wide)));
    } else {
      wrong += static_cast<double>(wide) != expected || std::signbit(wide) != std::signbit(expected);
      wrong += ba::to_bf16(wide) != bf(bits);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("element: widening f16 is exact, and narrowing gives the same bits back, for every value") {
  std::size_t wrong = 0;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float wide = ba::widen(half(bits));
    const double expected = by_the_book(bits, 10, 5);
    if (std::isnan(expected)) {
      wrong += !std::isnan(wide) || !std::isnan(ba::widen(ba::to_f16(wide)));
    } else {
      wrong += static_cast<double>(wide) != expected || std::signbit(wide) != std::signbit(expected);
      wrong += ba::to_f16(wide) != half(bits);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("element: between every two neighbours, narrowing takes the nearer and the even one at a tie") {
  std::size_t wrong = 0;
  const auto value_bf16 = [](unsigned bits) { return by_the_book(bits, 7, 8); };
  for (unsigned bits = 0; bits + 1 < 0x7f80; ++bits) {
    const double middle = (value_bf16(bits) + value_bf16(bits + 1)) / 2;
    const auto tie = static_cast<float>(middle);  // exact: one bit more than bf16 has
    for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, infinity)}) {
      const unsigned expected = nearest(x, bits, value_bf16);
      wrong += ba::to_bf16(x).bits != expected;
      wrong += ba::to_bf16(-x).bits != (expected | 0x8000u);
    }
  }
  const auto value_f16 = [](unsigned bits) { return by_the_book(bits, 10, 5); };
  for (unsigned bits = 0; bits + 1 < 0x7c00; ++bits) {
    const double middle = (value_f16(bits) + value_f16(bits + 1)) / 2;
    const auto tie = static_cast<float>(middle);
    for (const float x : {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, infinity)}) {
      const unsigned expected = nearest(x, bits, value_f16);
      wrong += ba::to_f16(x).bits != expected;
      wrong += ba::to_f16(-x).bits != (expected | 0x8000u);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("element: past the range narrowing gives infinity, from the tie upwards") {
  CHECK(ba::to_f16(65504.0f).bits == 0x7bff);
  CHECK(ba::to_f16(std::nextafter(65520.0f, 0.0f)).bits == 0x7bff);
  CHECK(ba::to_f16(65520.0f).bits == 0x7c00);
  CHECK(ba::to_f16(-1e30f).bits == 0xfc00);
  CHECK(ba::to_bf16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(ba::to_bf16(infinity).bits == 0x7f80);
  CHECK(ba::to_bf16(-infinity).bits == 0xff80);
  CHECK(ba::to_f16(infinity).bits == 0x7c00);
}

TEST_CASE("element: a NaN stays a NaN, also one whose bits sit where rounding would carry") {
  for (const std::uint32_t bits : {0x7f800001u, 0x7f80ffffu, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const auto x = std::bit_cast<float>(bits);
    CHECK(std::isnan(ba::widen(ba::to_bf16(x))));
    CHECK(std::isnan(ba::widen(ba::to_f16(x))));
    CHECK((ba::to_bf16(x).bits >> 15) == (bits >> 31));
    CHECK((ba::to_f16(x).bits >> 15) == (bits >> 31));
  }
}

TEST_CASE("element: narrowing never moves a random float further than half a unit") {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-20, 14), fraction(1, 2);
  std::size_t wrong = 0;
  for (int i = 0; i < 100000; ++i) {
    const float x = std::exp2(std::floor(exponent(random))) * fraction(random);
    wrong += std::fabs(ba::widen(ba::to_bf16(x)) - x) > x / 256;
    if (x >= 6.2e-5f) wrong += std::fabs(ba::widen(ba::to_f16(x)) - x) > x / 2048;
  }
  CHECK(wrong == 0);
}

TEST_CASE("element: types know their names and sizes") {
  using enum ba::dtype;
  STATIC_REQUIRE(ba::element<float>);
  STATIC_REQUIRE(ba::element<ba::bf16>);
  STATIC_REQUIRE(ba::element<ba::f16>);
  STATIC_REQUIRE_FALSE(ba::element<int>);
  STATIC_REQUIRE(sizeof(ba::bf16) == ba::block_bytes(bf16));
  STATIC_REQUIRE(sizeof(ba::f16) == ba::block_bytes(f16));
  STATIC_REQUIRE(ba::element_traits<ba::bf16>::type == bf16);
  CHECK(std::string(ba::to_string(q8_0)) == "q8_0");
  CHECK(ba::block_elements(q8_0) == 32);
  CHECK(ba::block_bytes(q8_0) == 34);
  // The k-types, whose blocks are 256 elements.
  CHECK(std::string(ba::to_string(q5_1)) == "q5_1");
  CHECK(std::string(ba::to_string(q4_k)) == "q4_k");
  CHECK(ba::block_elements(q6_k) == 256);
  CHECK(ba::block_bytes(q6_k) == 210);
  CHECK(ba::is_quantized(q4_0));
  CHECK_FALSE(ba::is_quantized(f16));
  CHECK(ba::is_weight_type(f16));
  CHECK_FALSE(ba::is_weight_type(i8));
  CHECK(ba::block_elements(f32) == 1);
  CHECK(ba::block_bytes(f64) == 8);
  CHECK(ba::block_bytes(u8) == 1);
}
