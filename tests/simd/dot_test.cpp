// SPDX-License-Identifier: MIT
// simd/dot.hpp: one step of every product against its chain written out in scalars.
#include <blockattn/simd/dot.hpp>

#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

namespace ba = blockattn;

namespace {

// x * y + z as the instruction set of this build rounds it.
float multiply_add(float x, float y, float z) {
#if defined(__AVX512F__) || defined(__FMA__) || defined(__aarch64__)
  return std::fma(x, y, z);
#else
  volatile float product = x * y;
  return product + z;
#endif
}

struct source {
  std::mt19937 gen{7};
  float next() { return static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0); }
};

template <class T>
T narrow(float x) {
  return ba::element_traits<T>::narrow(x);
}

// Two steps in a row over a tile of Rows x Cols; every accumulator against `expect(acc, row lane, panel lane)`.
template <class Panel, class Row, std::size_t Rows, std::size_t Cols, class Expect>
bool right(Expect&& expect) {
  using step = ba::dot_step<Panel, Row>;
  constexpr std::size_t lane = step::lane;
  const std::size_t row_stride = 2 * lane + 3, panel_stride = 5 * 16 * lane;
  source random;
  std::vector<Row> rows(Rows * row_stride);
  std::vector<Panel> panels(Cols * panel_stride);
  for (Row& x : rows) x = narrow<Row>(random.next());
  for (Panel& x : panels) x = narrow<Panel>(random.next());
  ba::f32x16 acc[Rows][Cols];
  std::vector<float> start(Rows * Cols * 16), got(start.size());
  for (float& x : start) x = random.next();
  ba::unroll<Rows * Cols>([&](auto i) { acc[i / Cols][i % Cols] = ba::load(start.data() + 16 * i); });
  for (std::size_t k = 0; k < 2; ++k)
    step::template apply<Rows, Cols>(acc, rows.data() + k * lane, row_stride, panels.data() + k * 16 * lane, panel_stride);
  ba::unroll<Rows * Cols>([&](auto i) { ba::store(got.data() + 16 * i, acc[i / Cols][i % Cols]); });
  bool same = true;
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < Cols; ++c)
      for (std::size_t j = 0; j < 16; ++j) {
        const std::size_t at = (r * Cols + c) * 16 + j;
        same = same && expect(start[at], got[at], rows.data() + r * row_stride,
                              panels.data() + c * panel_stride + j * lane, 16 * lane);
      }
  return same;
}

template <class Panel, class Row, class Expect>
void check_shapes(Expect&& expect) {
  CHECK(right<Panel, Row, 1, 1>(expect));
  CHECK(right<Panel, Row, 1, 4>(expect));
  CHECK(right<Panel, Row, 2, 3>(expect));
  CHECK(right<Panel, Row, 3, 2>(expect));
  CHECK(right<Panel, Row, 6, 1>(expect));
  CHECK(right<Panel, Row, 12, 2>(expect));
}

}  // namespace

TEST_CASE("a step over floats is one multiply-add for each output", "[simd]") {
  check_shapes<float, float>([](float start, float got, const float* row, const float* panel, std::size_t step) {
    const float first = multiply_add(row[0], panel[0], start);
    return got == multiply_add(row[1], panel[step], first);
  });
}

TEST_CASE("a step over bf16 pairs and floats is two multiply-adds, the first of the pair first", "[simd]") {
  check_shapes<ba::bf16, float>([](float start, float got, const float* row, const ba::bf16* panel, std::size_t step) {
    float acc = start;
    for (std::size_t k = 0; k < 2; ++k)
      for (std::size_t j = 0; j < 2; ++j) acc = multiply_add(row[2 * k + j], ba::widen(panel[k * step + j]), acc);
    return got == acc;
  });
}

namespace {
// In a template, so that the step is not named where the instruction set has none.
template <class Row>
void check_pairs() {
  if constexpr (std::is_same_v<Row, ba::bf16>) {
    check_shapes<ba::bf16, Row>([](float start, float got, const ba::bf16* row, const ba::bf16* panel, std::size_t step) {
      double exact = static_cast<double>(start), size = std::abs(exact);
      for (std::size_t k = 0; k < 2; ++k)
        for (std::size_t j = 0; j < 2; ++j) {
          const double product =
              static_cast<double>(ba::widen(row[2 * k + j])) * static_cast<double>(ba::widen(panel[k * step + j]));
          exact += product;
          size += std::abs(product);
        }
      // At most two roundings a step, to nearest or to odd.
      return std::abs(static_cast<double>(got) - exact) <= 6 * 0x1p-24 * size;
    });
  } else {
    WARN("skipped: " << ba::isa_name() << " has no products of bf16 pairs");
  }
}
}  // namespace

TEST_CASE("a step over bf16 pairs on both sides", "[simd]") { check_pairs<ba::row_operand_t<ba::bf16>>(); }

TEST_CASE("rows are rounded only where the instruction set multiplies bf16 pairs", "[simd]") {
  STATIC_REQUIRE(std::is_same_v<ba::row_operand_t<float>, float>);
  STATIC_REQUIRE(std::is_same_v<ba::row_operand_t<ba::bf16>, ba::bf16> == ba::has_bf16_dot);
}
