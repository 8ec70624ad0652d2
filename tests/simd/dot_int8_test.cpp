// SPDX-License-Identifier: MIT
// Products with int8 panels against integers, and floats against double.
#include "blockattn/simd/dot_int8.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "../support/catch.hpp"

namespace {

using namespace blockattn;

constexpr std::size_t steps = 64, cols = 2;  // 256 elements: the largest head

// acc[r][c] over all steps, stored.
template <std::size_t Rows, class Row>
std::vector<float> run(const std::vector<Row>& rows, const std::vector<std::int8_t>& panel) {
  f32x16 acc[Rows][cols];
  for (auto& r : acc)
    for (auto& c : r) c = zero16();
  for (std::size_t k = 0; k < steps; ++k)
    dot_step<std::int8_t, Row>::template apply<Rows, cols>(acc, rows.data() + 4 * k, 4 * steps,
                                                           panel.data() + k * 64, steps * 64);
  std::vector<float> out(Rows * cols * 16);
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < cols; ++c)
      store(out.data() + (r * cols + c) * 16, std::is_same_v<Row, float> ? acc[r][c] : fixed_to_float(acc[r][c]));
  return out;
}

struct operands {
  std::vector<float> exact;  // (rows, 4 * steps)
  std::vector<std::int8_t> panel = std::vector<std::int8_t>(cols * steps * 64);
  explicit operands(std::size_t rows, bool extreme) : exact(rows * 4 * steps) {
    std::mt19937 random(3);
    for (float& x : exact)
      x = extreme ? (random() % 2 != 0 ? 32512.0f : -32512.0f)
                  : static_cast<float>(static_cast<int>(random() % 65025) - 32512);
    for (std::int8_t& x : panel) x = static_cast<std::int8_t>(extreme ? 127 : static_cast<int>(random() % 255) - 127);
  }
  template <std::size_t Rows>
  void check() const {
    std::vector<std::int16_t> fixed(exact.size());
    for (std::size_t i = 0; i < exact.size(); i += 16) store_fixed(fixed.data() + i, load(exact.data() + i));
    const auto ints = run<Rows>(fixed, panel);
    const auto floats = run<Rows>(exact, panel);
    for (std::size_t r = 0; r < Rows; ++r)
      for (std::size_t c = 0; c < cols; ++c)
        for (std::size_t j = 0; j < 16; ++j) {
          std::int64_t sum = 0, size = 0;
          for (std::size_t k = 0; k < 4 * steps; ++k) {
            const auto x = static_cast<std::int64_t>(exact[r * 4 * steps + k]) *
                           panel[c * steps * 64 + k / 4 * 64 + j * 4 + k % 4];
            sum += x;
            size += std::abs(x);
          }
          const std::size_t at = (r * cols + c) * 16 + j;
          REQUIRE(ints[at] == static_cast<float>(static_cast<std::int32_t>(sum)));
          REQUIRE(std::abs(static_cast<double>(floats[at]) - static_cast<double>(sum)) <=
                  257 * 0x1.0p-24 * static_cast<double>(size));
        }
  }
};

}  // namespace

TEST_CASE("fixed-point products are exact, float ones within their chain's bound", "[dot][int8]") {
  for (const bool extreme : {false, true}) {
    operands(1, extreme).check<1>();
    operands(2, extreme).check<2>();
    operands(5, extreme).check<5>();
  }
  // All of one sign: the largest sum there is.
  operands most(3, true);
  std::fill(most.exact.begin(), most.exact.end(), 32512.0f);
  most.check<3>();
  std::fill(most.exact.begin(), most.exact.end(), -32512.0f);
  most.check<3>();
}

TEST_CASE("fixed-point rows round to nearest, ties to even", "[dot][int8]") {
  // A product with a panel that picks one element shows what was stored.
  const float in[16] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, 127.5f, 128.5f, -128.5f, 32511.5f, -32511.5f,
                        0.49f, -0.51f, 255.0f, 256.0f};
  std::vector<std::int16_t> row(16);
  store_fixed(row.data(), load(in));
  for (std::size_t k = 0; k < 16; ++k) {
    std::vector<std::int8_t> panel(64);
    for (std::size_t j = 0; j < 16; ++j) panel[j * 4 + k % 4] = 1;
    f32x16 acc[1][1] = {{zero16()}};
    dot_step<std::int8_t, std::int16_t>::apply<1, 1>(acc, row.data() + k / 4 * 4, 16, panel.data(), 0);
    float out[16];
    store(out, fixed_to_float(acc[0][0]));
    INFO("element " << k);
    CHECK(out[0] == std::nearbyint(in[k]));
    CHECK(out[15] == out[0]);
  }
}
