// SPDX-License-Identifier: MIT
// kernel/tile.hpp: the register tile against one row and one group at a time, bit by bit, and against double.
#include <blockattn/kernel/tile.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace ba = blockattn;

namespace {

struct source {
  std::mt19937 gen{3};
  float next() { return static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0); }
};

// A product of random operands in the layout of weights, or of values with `width` dims.
template <class Panel, class Row>
struct problem {
  static constexpr std::size_t lane = ba::dot_step<Panel, Row>::lane;
  std::size_t rows, groups, steps;
  std::size_t row_stride, step_stride, group_stride;
  std::vector<Row> left;
  std::vector<Panel> panel;
  std::vector<float> start;

  problem(std::size_t r, std::size_t g, std::size_t s, bool values)
      : rows(r), groups(g), steps(s), row_stride(s * lane + 5) {
    step_stride = values ? g * 16 * lane : 16 * lane;
    group_stride = values ? 16 * lane : s * 16 * lane;
    source random;
    left.resize(rows * row_stride);
    panel.resize(groups * steps * 16 * lane);
    start.resize(rows * out_stride());
    for (Row& x : left) x = ba::element_traits<Row>::narrow(random.next());
    for (Panel& x : panel) x = ba::element_traits<Panel>::narrow(random.next());
    for (float& x : start) x = random.next();
  }
  [[nodiscard]] std::size_t out_stride() const { return groups * 16 + 7; }

  [[nodiscard]] ba::tile_operands<Panel, Row> operands(float* out, bool accumulate) const {
    ba::tile_operands<Panel, Row> o;
    o.rows = left.data();
    o.row_stride = row_stride;
    o.panel = panel.data();
    o.step_stride = step_stride;
    o.group_stride = group_stride;
    o.steps = steps;
    o.out = out;
    o.out_stride = out_stride();
    o.accumulate = accumulate;
    return o;
  }
  // Each row and group by itself: the smallest tile there is.
  [[nodiscard]] std::vector<float> one_by_one(bool accumulate) const {
    std::vector<float> out = start;
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t g = 0; g < groups; ++g) {
        auto o = operands(out.data() + r * out_stride() + g * 16, accumulate);
        o.rows += r * row_stride;
        o.panel += g * group_stride;
        ba::multiply_tile<ba::row_order::strided>(1, 1, o);
      }
    return out;
  }
  // The rows as `row_order::interleaved` wants them.
  [[nodiscard]] std::vector<Row> interleaved() const {
    std::vector<Row> out(rows * steps * lane);
    const ba::row_tiles tiles(rows);
    for (std::size_t t = 0; t < tiles.count; ++t)
      for (std::size_t k = 0; k < steps; ++k)
        for (std::size_t r = 0; r < tiles.size(t); ++r)
          for (std::size_t j = 0; j < lane; ++j)
            out[tiles.begin(t) * steps * lane + (k * tiles.size(t) + r) * lane + j] =
                left[(tiles.begin(t) + r) * row_stride + k * lane + j];
    return out;
  }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

template <class Panel, class Row>
void check_all(const char* name) {
  for (const bool values : {false, true})
    for (const bool accumulate : {false, true})
      for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 10u, 11u, 12u, 13u, 31u})
        for (const std::size_t groups : {1u, 2u, 3u, 4u, 5u, 7u})
          for (const std::size_t steps : {0u, 1u, 2u, 33u}) {
            const problem<Panel, Row> p(rows, groups, steps, values);
            INFO(name << " rows " << rows << " groups " << groups << " steps " << steps << " values " << values
                      << " accumulate " << accumulate);
            const auto expected = p.one_by_one(accumulate);
            auto out = p.start;
            ba::multiply(rows, groups, p.operands(out.data(), accumulate));
            CHECK(same_bits(out, expected));

            const auto left = p.interleaved();
            out = p.start;
            auto o = p.operands(out.data(), accumulate);
            o.rows = left.data();
            o.row_stride = steps * o.row_stride / p.row_stride * p.lane;
            o.next = p.panel.data();
            ba::multiply<ba::row_order::interleaved>(rows, groups, o);
            CHECK(same_bits(out, expected));

            // Cut along k, the sums carried in memory.
            out = p.start;
            auto head = p.operands(out.data(), accumulate);
            head.steps = steps / 3;
            ba::multiply(rows, groups, head);
            auto tail = p.operands(out.data(), true);
            tail.steps = steps - head.steps;
            tail.rows += head.steps * p.lane;
            tail.panel += head.steps * p.step_stride;
            ba::multiply(rows, groups, tail);
            CHECK(same_bits(out, expected));
          }
}

template <class Panel, class Row>
void check_bound(const char* name) {
  constexpr std::size_t lane = problem<Panel, Row>::lane;
  const std::size_t rows = 7, groups = 3, steps = 300;
  const problem<Panel, Row> p(rows, groups, steps, false);
  auto out = p.start;
  ba::multiply(rows, groups, p.operands(out.data(), true));
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < groups * 16; ++c) {
      double exact = static_cast<double>(p.start[r * p.out_stride() + c]), size = std::abs(exact);
      for (std::size_t k = 0; k < steps * lane; ++k) {
        const double product = static_cast<double>(ba::widen(p.left[r * p.row_stride + k])) *
                               static_cast<double>(ba::widen(
                                   p.panel[c / 16 * p.group_stride + k / lane * p.step_stride + c % 16 * lane + k % lane]));
        exact += product;
        size += std::abs(product);
      }
      INFO(name << " row " << r << " column " << c);
      // Two roundings for each product where the instruction set does not fuse.
      CHECK(std::abs(static_cast<double>(out[r * p.out_stride() + c]) - exact) <=
            1.01 * static_cast<double>(steps * lane + 2) * 0x1p-24 * size);
    }
}

}  // namespace

TEST_CASE("every tile computes the same chain", "[tile]") {
  check_all<float, float>("f32");
  check_all<ba::bf16, float>("bf16 widened");
  check_all<ba::bf16, ba::row_operand_t<ba::bf16>>("bf16");
}

TEST_CASE("the chain is within its bound of the double result", "[tile]") {
  check_bound<float, float>("f32");
  check_bound<ba::bf16, float>("bf16 widened");
  check_bound<ba::bf16, ba::row_operand_t<ba::bf16>>("bf16");
}

TEST_CASE("row tiles cover the rows in order and differ by one row at most", "[tile]") {
  CHECK(ba::row_tiles(0).count == 0);
  for (std::size_t rows = 1; rows <= 200; ++rows) {
    const ba::row_tiles tiles(rows);
    CHECK(tiles.count == ba::ceil_div(rows, ba::tile_rows));
    std::size_t at = 0;
    for (std::size_t t = 0; t < tiles.count; ++t) {
      CHECK(tiles.begin(t) == at);
      CHECK(tiles.size(t) >= 1);
      CHECK(tiles.size(t) <= ba::tile_rows);
      CHECK(tiles.size(0) - tiles.size(t) <= 1);
      at += tiles.size(t);
    }
    CHECK(at == rows);
  }
}

TEST_CASE("row tiles of one height cover the rows in order, and only the last may have fewer", "[tile]") {
  CHECK(ba::row_tiles::of_one_height(0, 16).count == 0);
  for (std::size_t rows = 1; rows <= 300; ++rows) {
    const auto tiles = ba::row_tiles::of_one_height(rows, 16);
    std::size_t at = 0;
    for (std::size_t t = 0; t < tiles.count; ++t) {
      CHECK(tiles.begin(t) == at);
      CHECK(tiles.size(t) >= 1);
      CHECK(tiles.size(t) <= 16);
      CHECK((t + 1 == tiles.count || tiles.size(t) == tiles.size(0)));
      CHECK(tiles.size(t) <= tiles.size(0));
      at += tiles.size(t);
    }
    CHECK(at == rows);
  }
}
