// SPDX-License-Identifier: MIT
// kernel/gemm.hpp: projections against double, and the promise that bits depend on nothing but the operands.
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <blockattn/core/memory.hpp>

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/random_floats.hpp"

namespace ba = blockattn;
using blockattn_test::random_floats;

namespace {

// A packed matrix that owns its bytes, with the rows it was packed from.
struct weights {
  ba::packed_matrix matrix;
  ba::aligned_buffer<> bytes;
  std::vector<float> rows;  // as the kernel sees them: rounded for bf16

  weights(ba::dtype type, std::size_t n, std::size_t k, unsigned seed) : rows(random_floats(n * k, seed)) {
    matrix = {nullptr, type, n, k};
    bytes = ba::aligned_buffer<>(matrix.bytes());
    std::memset(bytes.data(), 0xff, bytes.size());  // NaN: what packing does not write shows
    matrix.data = bytes.data();
    ba::inline_executor here;
    if (type == ba::dtype::bf16)
      for (float& w : rows) w = ba::widen(ba::to_bf16(w));
    ba::pack_weights(here, matrix, bytes.data(), 0, ba::dtype::f32, reinterpret_cast<const std::byte*>(rows.data()), n);
  }
};

constexpr float untouched = -12345.0f;

// y of rows of stride, with guard values behind every row.
std::vector<float> run(ba::executor_ref workers, const weights& w, ba::compute_type compute, const float* x,
                       std::size_t x_stride, std::size_t rows, std::size_t y_stride) {
  std::vector<float> y(rows * y_stride + 1, untouched);
  ba::aligned_buffer<> scratch(ba::project_scratch(workers.concurrency(), w.matrix, compute, rows));
  ba::project(workers, w.matrix, compute, x, x_stride, rows, y.data(), y_stride, scratch.bytes());
  return y;
}

struct format {
  const char* name;
  ba::dtype type;
  ba::compute_type compute;
};
constexpr format formats[] = {{"f32", ba::dtype::f32, ba::compute_type::automatic},
                              {"bf16 widened", ba::dtype::bf16, ba::compute_type::f32},
                              {"bf16", ba::dtype::bf16, ba::compute_type::automatic}};

// What the product multiplies: the row as it is, or rounded to bf16.
float operand(const format& f, float x) {
  const bool rounded = f.type == ba::dtype::bf16 && f.compute == ba::compute_type::automatic && ba::has_bf16_dot;
  return rounded ? ba::widen(ba::to_bf16(x)) : x;
}

}  // namespace

TEST_CASE("a projection is within its bound of the double result", "[gemm]") {
  for (const format& f : formats)
    for (const std::size_t n : {1u, 15u, 16u, 17u, 63u, 100u})
      for (const std::size_t k : {1u, 2u, 3u, 31u, 64u, 255u, 513u, 1030u}) {
        const weights w(f.type, n, k, static_cast<unsigned>(n * 7919 + k));
        for (const std::size_t m : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 12u, 13u, 25u, 50u}) {
          const std::size_t xs = k + m % 3, ys = n + m % 5;
          const auto x = random_floats(m * xs, static_cast<unsigned>(m));
          ba::inline_executor here;
          const auto y = run(here, w, f.compute, x.data(), xs, m, ys);
          bool within = true, kept = y.back() == untouched;
          for (std::size_t i = 0; i < m; ++i) {
            for (std::size_t j = 0; j < n; ++j) {
              double exact = 0, size = 0;
              for (std::size_t c = 0; c < k; ++c) {
                const double product = static_cast<double>(operand(f, x[i * xs + c])) * static_cast<double>(w.rows[j * k + c]);
                exact += product;
                size += std::abs(product);
              }
              const double bound = 1.01 * static_cast<double>(k + 1) * 0x1p-24 * size + 1e-37;
              within = within && std::abs(static_cast<double>(y[i * ys + j]) - exact) <= bound;
            }
            for (std::size_t j = n; j < ys; ++j) kept = kept && y[i * ys + j] == untouched;
          }
          INFO(f.name << " m " << m << " n " << n << " k " << k);
          CHECK(within);
          CHECK(kept);
        }
      }
}

TEST_CASE("the bits of a row depend on no other row and no executor", "[gemm]") {
  const std::size_t m = 513, n = 203;
  for (const format& f : formats)
    for (const std::size_t k : {64u, 287u, 1100u}) {
      const weights w(f.type, n, k, 5);
      const auto x = random_floats(m * k, 6);
      ba::inline_executor here;
      const auto y = run(here, w, f.compute, x.data(), k, m, n);
      INFO(f.name << " k " << k);
      bool alone = true;
      for (std::size_t i = 0; i < m; ++i) {
        const auto row = run(here, w, f.compute, x.data() + i * k, k, 1, n);
        alone = alone && std::memcmp(row.data(), y.data() + i * n, n * sizeof(float)) == 0;
      }
      CHECK(alone);
      for (const std::size_t some : {2u, 3u, 4u, 6u, 7u, 12u, 13u, 50u, 97u, 200u}) {
        const auto part = run(here, w, f.compute, x.data() + 11 * k, k, some, n);
        CHECK(std::memcmp(part.data(), y.data() + 11 * n, some * n * sizeof(float)) == 0);
      }
      for (const std::size_t workers : {1u, 2u, 5u}) {
        blockattn_test::racing_executor several{workers};
        const auto again = run(several, w, f.compute, x.data(), k, m, n);
        CHECK(std::memcmp(again.data(), y.data(), y.size() * sizeof(float)) == 0);
      }
    }
}
