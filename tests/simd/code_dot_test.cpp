// SPDX-License-Identifier: MIT
// simd/code_dot.hpp: integer steps against sums written out, at the ends of the ranges where other instructions saturate.
#include <blockattn/simd/code_dot.hpp>

#include <random>
#include <vector>

#include "support/catch.hpp"

namespace ba = blockattn;

namespace {

template <std::size_t Rows, std::size_t Cols, class Code, class Row>
bool right(Code&& code_at, Row&& row_at) {
  constexpr std::size_t steps = 3, row_bytes = ba::code_step::row_bytes, stride = row_bytes + 4, panel = 7 * 64;
  std::vector<std::uint8_t> codes(Cols * panel);
  for (std::uint8_t& c : codes) c = static_cast<std::uint8_t>(code_at());
  std::vector<std::int8_t> rows(steps * Rows * 4);
  for (std::int8_t& x : rows) x = static_cast<std::int8_t>(row_at());
  ba::i32x16 acc[Rows][Cols];
  ba::unroll<Rows * Cols>([&](auto i) { acc[i / Cols][i % Cols] = ba::broadcast(static_cast<std::int32_t>(i) - 5); });
  for (std::size_t s = 0; s < steps; ++s) {
    std::vector<std::byte> stored(Rows * stride);
    for (std::size_t r = 0; r < Rows; ++r) ba::code_step::store_row(&stored[r * stride], &rows[(s * Rows + r) * 4]);
    ba::code_step::apply<Rows, Cols>(acc, stored.data(), stride, codes.data() + s * 64, panel);
  }
  bool same = true;
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < Cols; ++c) {
      float got[16];
      ba::store(got, ba::to_float(acc[r][c]));  // exact: sums are small
      for (std::size_t lane = 0; lane < 16; ++lane) {
        int sum = static_cast<int>(r * Cols + c) - 5;
        for (std::size_t s = 0; s < steps; ++s)
          for (std::size_t j = 0; j < 4; ++j)
            sum += rows[(s * Rows + r) * 4 + j] * (static_cast<int>(codes[c * panel + s * 64 + 4 * lane + j]) - ba::code_bias);
        same = same && got[lane] == static_cast<float>(sum);
      }
    }
  return same;
}

template <class Code, class Row>
void check_shapes(Code&& code_at, Row&& row_at) {
  CHECK(right<1, 1>(code_at, row_at));
  CHECK(right<1, 4>(code_at, row_at));
  CHECK(right<2, 3>(code_at, row_at));
  CHECK(right<5, 1>(code_at, row_at));
  CHECK(right<6, 2>(code_at, row_at));
}

}  // namespace

TEST_CASE("an integer step is the exact sum of four products", "[simd]") {
  std::mt19937 random(9);
  check_shapes([&] { return random() % 256; }, [&] { return static_cast<int>(random() % 255) - 127; });
}

TEST_CASE("an integer step does not saturate", "[simd]") {
  for (const int row : {-127, 127})
    for (const unsigned code : {0u, 127u, 128u, 255u}) check_shapes([&] { return code; }, [&] { return row; });
  // Signs that alternate, so that sums of pairs are extreme in 16 bits.
  int n = 0;
  check_shapes([] { return 255; }, [&] { return ++n / 2 % 2 == 0 ? 127 : -127; });
}
