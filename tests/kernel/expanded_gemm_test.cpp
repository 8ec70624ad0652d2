// SPDX-License-Identifier: MIT
// Projections over quantised weights and f16: against double from the codes, against f32 panels bit by bit, and the
// promise that bits depend on nothing but the operands.
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <blockattn/core/memory.hpp>

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/random_floats.hpp"
#include "support/stored_rows.hpp"

namespace ba = blockattn;
using ba::dtype;
using blockattn_test::packed_rows;
using blockattn_test::random_floats;
using blockattn_test::stored_rows;

namespace {

constexpr dtype quantized[] = {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0,
                               dtype::q5_1, dtype::q4_k, dtype::q5_k, dtype::q6_k};

constexpr float untouched = -12345.0f;

std::vector<float> run(ba::executor_ref workers, const packed_rows& w, ba::compute_type compute, const float* x,
                       std::size_t x_stride, std::size_t rows, std::size_t y_stride) {
  std::vector<float> y(rows * y_stride + 1, untouched);
  ba::aligned_buffer<> scratch(ba::project_scratch(workers.concurrency(), w.matrix, compute, rows));
  ba::project(workers, w.matrix, compute, x, x_stride, rows, y.data(), y_stride, scratch.bytes());
  return y;
}

// Equal bits; a NaN is as good as another.
bool same(const float* a, const float* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    if (std::memcmp(a + i, b + i, 4) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  return true;
}

// One output in double, from the codes of both sides, and the size that bounds its error.
struct exact_output {
  double value = 0, bound = 0;

  exact_output(const stored_rows& w, std::size_t row, const std::vector<ba::code_run>& x) {
    const std::size_t group = ba::group_elements(w.type), block_size = ba::block_elements(w.type);
    ba::split_codes block;
    double size = 0;
    for (std::size_t k = 0; k < w.cols; k += group) {
      if (k % block_size == 0) ba::split_block(w.type, w.row(row) + k / block_size * ba::block_bytes(w.type), block);
      const std::size_t g = k % block_size / group;
      int dot = 0, sum = 0;
      for (std::size_t i = 0; i < group; ++i) {
        const int code = x[k / 32].code[k % 32 + i];
        dot += code * (static_cast<int>(block.code[k % block_size + i]) - ba::code_zero(w.type));
        sum += code;
      }
      const auto row_scale = static_cast<double>(x[k / 32].scale);
      const double product = static_cast<double>(ba::scale_of(w.type, block, g)) * row_scale * dot;
      const double offset = ba::has_offsets(w.type) ? static_cast<double>(ba::offset_of(w.type, block, g)) * row_scale * sum : 0;
      value += product + offset;
      size += std::abs(product) + std::abs(offset);
    }
    bound = 1.01 * (2.0 * static_cast<double>(w.cols / group) + 4) * 0x1p-24 * size + 1e-37;
  }
};

std::vector<std::size_t> widths(dtype type) {
  return ba::block_elements(type) == 256 ? std::vector<std::size_t>{256, 1280} : std::vector<std::size_t>{32, 96, 1312};
}

}  // namespace

TEST_CASE("rows are rounded to the nearest codes of their run's scale", "[gemm]") {
  const auto all = random_floats(32 * 200, 3);
  for (std::size_t i = 0; i < 200; ++i) {
    float x[32];
    const float size = std::ldexp(1.0f, static_cast<int>(i % 120) - 70);
    for (std::size_t k = 0; k < 32; ++k) x[k] = all[32 * i + k] * size;
    const ba::code_run run = ba::round_to_codes(x);
    float top = 0;
    int sum[2] = {0, 0}, largest = 0;
    bool near = true;
    for (std::size_t k = 0; k < 32; ++k) {
      top = std::max(top, std::abs(x[k]));
      sum[k / 16] += run.code[k];
      largest = std::max(largest, std::abs(static_cast<int>(run.code[k])));
      near = near && std::abs(static_cast<double>(x[k]) - static_cast<double>(run.scale) * run.code[k]) <= 0.50001 * static_cast<double>(run.scale);
    }
    CHECK(near);
    CHECK(largest == 127);
    CHECK(run.scale == top / 127.0f);
    CHECK((run.sum[0] == sum[0] && run.sum[1] == sum[1]));
  }
  // Ties go to even codes; nothing but zeros and what counts as zero give no code at all.
  float x[32] = {127.0f, 0.5f, 1.5f, -2.5f};
  CHECK(ba::round_to_codes(x).code[1] == 0);
  CHECK(ba::round_to_codes(x).code[2] == 2);
  CHECK(ba::round_to_codes(x).code[3] == -2);
  for (float& v : x) v = 0x1p-101f;
  CHECK(ba::round_to_codes(x).scale == 0.0f);
  CHECK(ba::round_to_codes(x).sum[0] == 0);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    x[17] = -bad;
    const float scale = ba::round_to_codes(x).scale;
    CHECK(!(scale <= std::numeric_limits<float>::max()));
  }
}

TEST_CASE("integer products are within their bound of the double result", "[gemm]") {
  ba::inline_executor here;
  for (const dtype type : quantized)
    for (const std::size_t k : widths(type))
      for (const std::size_t n : {1u, 16u, 31u, 83u}) {
        const stored_rows rows(type, n, k);
        const packed_rows w(rows, type);
        for (const std::size_t m : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 13u, 33u}) {
          const std::size_t xs = k + m % 3, ys = n + m % 5;
          const auto x = random_floats(m * xs, static_cast<unsigned>(m));
          const auto y = run(here, w, ba::compute_type::automatic, x.data(), xs, m, ys);
          bool within = true, kept = y.back() == untouched;
          for (std::size_t i = 0; i < m; ++i) {
            std::vector<ba::code_run> codes;
            for (std::size_t c = 0; c < k; c += 32) codes.push_back(ba::round_to_codes(&x[i * xs + c]));
            for (std::size_t j = 0; j < n; j += 1 + n / 11) {
              const exact_output e(rows, j, codes);
              within = within && std::abs(static_cast<double>(y[i * ys + j]) - e.value) <= e.bound;
            }
            for (std::size_t j = n; j < ys; ++j) kept = kept && y[i * ys + j] == untouched;
          }
          INFO(ba::to_string(type) << " m " << m << " n " << n << " k " << k);
          CHECK(within);
          CHECK(kept);
        }
      }
}

TEST_CASE("float products over quantised and f16 panels have the bits of f32 panels", "[gemm]") {
  ba::inline_executor here;
  const auto check = [&](dtype type, std::size_t n, std::size_t k, bool tame) {
    const stored_rows rows(type, n, k, tame);
    const packed_rows narrow(rows, type), wide(rows, dtype::f32);
    for (const std::size_t m : {1u, 2u, 5u, 14u, 33u}) {
      const auto x = random_floats(m * k, static_cast<unsigned>(m));
      const auto y = run(here, narrow, ba::compute_type::f32, x.data(), k, m, n);
      const auto expected = run(here, wide, ba::compute_type::f32, x.data(), k, m, n);
      INFO(ba::to_string(type) << " m " << m << " n " << n << " k " << k);
      CHECK(same(y.data(), expected.data(), y.size()));
    }
  };
  for (const dtype type : quantized)
    for (const bool tame : {true, false}) {  // any bytes are a block
      check(type, 37, 768, tame);
      check(type, 16, 256, tame);
    }
  for (const std::size_t k : {1u, 31u, 257u, 800u}) check(dtype::f16, 45, k, true);
}

TEST_CASE("the bits of a row depend on no other row and no executor, for every panel type", "[gemm]") {
  ba::inline_executor here;
  for (const dtype type : {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1, dtype::q4_k, dtype::q5_k,
                           dtype::q6_k, dtype::f16})
    for (const ba::compute_type compute : {ba::compute_type::automatic, ba::compute_type::f32}) {
      const std::size_t m = 601, n = 75, k = 1536;
      const stored_rows rows(type, n, k);
      const packed_rows w(rows, type);
      const auto x = random_floats(m * k, 6);
      const auto y = run(here, w, compute, x.data(), k, m, n);
      INFO(ba::to_string(type));
      bool alone = true;
      for (std::size_t i = 0; i < m; i += 43) {
        const auto row = run(here, w, compute, x.data() + i * k, k, 1, n);
        alone = alone && std::memcmp(row.data(), y.data() + i * n, n * sizeof(float)) == 0;
      }
      CHECK(alone);
      for (const std::size_t some : {2u, 3u, 4u, 5u, 7u, 50u}) {
        const auto part = run(here, w, compute, x.data() + 11 * k, k, some, n);
        CHECK(std::memcmp(part.data(), y.data() + 11 * n, some * n * sizeof(float)) == 0);
      }
      blockattn_test::racing_executor three{3};
      const auto again = run(three, w, compute, x.data(), k, m, n);
      CHECK(std::memcmp(again.data(), y.data(), y.size() * sizeof(float)) == 0);
    }
}

TEST_CASE("a row that is not finite spoils its own outputs only", "[gemm]") {
  ba::inline_executor here;
  const std::size_t m = 7, n = 20, k = 256;
  for (const dtype type : quantized) {
    const packed_rows w(stored_rows(type, n, k), type);
    auto x = random_floats(m * k, 2);
    const auto clean = run(here, w, ba::compute_type::automatic, x.data(), k, m, n);
    x[3 * k + 100] = std::numeric_limits<float>::quiet_NaN();
    const auto y = run(here, w, ba::compute_type::automatic, x.data(), k, m, n);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j)
        if (i == 3 ? !std::isnan(y[i * n + j]) : y[i * n + j] != clean[i * n + j]) FAIL(i << " " << j);
  }
}

TEST_CASE("panels of codes give back their rows, whatever pieces they were packed from", "[pack]") {
  ba::inline_executor here;
  blockattn_test::racing_executor two{2};
  for (const dtype type : quantized)
    for (const std::size_t k : widths(type)) {
      const stored_rows rows(type, 50, k, false);
      packed_rows w(rows, type);
      std::vector<float> got(k + 1, untouched), expected(k);
      bool back = true;
      for (std::size_t i = 0; i < 50; ++i) {
        ba::gather_row(w.matrix, i, got.data());
        ba::decode_row(type, rows.row(i), k, expected.data());
        back = back && same(got.data(), expected.data(), k);
      }
      INFO(ba::to_string(type) << " k " << k);
      CHECK(back);
      CHECK(got.back() == untouched);
      // Pieces, the last first, into bytes that were all zero: nothing is left as it was found.
      ba::aligned_buffer<> pieces(w.matrix.bytes());
      std::memset(pieces.data(), 0, pieces.size());
      ba::pack_weights(two, w.matrix, pieces.data(), 21, type, rows.row(21), 29);
      ba::pack_weights(two, w.matrix, pieces.data(), 5, type, rows.row(5), 16);
      ba::pack_weights(here, w.matrix, pieces.data(), 0, type, rows.row(0), 5);
      CHECK(std::memcmp(pieces.data(), w.bytes.data(), pieces.size()) == 0);
    }
}
