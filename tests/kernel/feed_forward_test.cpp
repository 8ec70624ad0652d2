// SPDX-License-Identifier: MIT
// The feed-forward layer at once has the bits of its steps one by one; and where it does not serve, it says so.
#include <blockattn/kernel/feed_forward.hpp>
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <blockattn/core/memory.hpp>

#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/random_floats.hpp"
#include "support/stored_rows.hpp"

namespace ba = blockattn;
using ba::compute_type;
using ba::dtype;
using blockattn_test::packed_rows;
using blockattn_test::random_floats;
using blockattn_test::stored_rows;

namespace {

constexpr float untouched = -12345.0f;

struct layer {
  std::size_t ffn;
  packed_rows gate_up, down;

  layer(dtype first, dtype second, std::size_t dim, std::size_t hidden, std::size_t outputs)
      : ffn(hidden), gate_up(rows_of(first, 2 * hidden, dim), first), down(rows_of(second, outputs, hidden), second) {}

  // Tame rows; random bytes of bf16 would be numbers of any size.
  static stored_rows rows_of(dtype type, std::size_t n, std::size_t k) {
    stored_rows rows(type, n, k);
    if (type != dtype::bf16) return rows;
    std::mt19937 gen(static_cast<unsigned>(n + k));
    for (std::size_t i = 0; i < n * k; ++i) {
      const ba::bf16 x = ba::to_bf16(static_cast<float>(static_cast<double>(gen()) / 4294967296.0 - 0.5) * 0.25f);
      std::memcpy(rows.bytes.data() + 2 * i, &x, 2);
    }
    return rows;
  }
};

std::vector<float> one_by_one(const layer& l, compute_type compute, bool gelu, const float* x, std::size_t x_stride,
                              std::size_t rows, std::size_t y_stride) {
  ba::inline_executor here;
  std::vector<float> hidden(rows * 2 * l.ffn), y(rows * y_stride + 1, untouched);
  ba::aligned_buffer<> scratch(std::max(ba::project_scratch(1, l.gate_up.matrix, compute, rows),
                                        ba::project_scratch(1, l.down.matrix, compute, rows)));
  ba::project(here, l.gate_up.matrix, compute, x, x_stride, rows, hidden.data(), 2 * l.ffn, scratch.bytes());
  for (std::size_t r = 0; r < rows; ++r) {
    float* const row = &hidden[r * 2 * l.ffn];
    gelu ? ba::geglu(row, row + l.ffn, l.ffn, row) : ba::swiglu(row, row + l.ffn, l.ffn, row);
  }
  ba::project(here, l.down.matrix, compute, hidden.data(), 2 * l.ffn, rows, y.data(), y_stride, scratch.bytes());
  return y;
}

std::size_t scratch_for(const layer& l, compute_type compute, std::size_t workers, std::size_t rows) {
  return ba::feed_forward_scratch(workers, l.gate_up.matrix, l.down.matrix, compute, rows);
}

std::vector<float> at_once(ba::executor_ref workers, const layer& l, compute_type compute, bool gelu, const float* x,
                           std::size_t x_stride, std::size_t rows, std::size_t y_stride) {
  ba::aligned_buffer<> outputs((rows * y_stride + 1) * sizeof(float));  // aligned, to be written by the line
  float* const y = reinterpret_cast<float*>(outputs.data());
  std::fill_n(y, rows * y_stride + 1, untouched);
  ba::aligned_buffer<> scratch(scratch_for(l, compute, workers.concurrency(), rows));
  std::memset(scratch.data(), 0xff, scratch.size());  // NaN wherever something is read before it is written
  ba::feed_forward(workers, l.gate_up.matrix, l.down.matrix, compute, gelu, x, x_stride, rows, y, y_stride,
                   scratch.bytes());
  return {y, y + rows * y_stride + 1};
}

}  // namespace

TEST_CASE("a feed-forward layer at once has the bits of its steps", "[gemm]") {
  if (ba::product_of(dtype::bf16, compute_type::many_rows) != ba::product_kind::tiles) {
    WARN("skipped: the build or the system has no tile registers");
    return;
  }
  struct shape {
    dtype first, second;
    std::size_t dim, ffn, outputs;
  };
  for (const shape s : {shape{dtype::bf16, dtype::bf16, 64, 16, 16}, shape{dtype::bf16, dtype::bf16, 33, 48, 31},
                        shape{dtype::bf16, dtype::bf16, 2085, 704, 75}, shape{dtype::bf16, dtype::bf16, 128, 2080, 128},
                        shape{dtype::q8_0, dtype::q8_0, 2080, 704, 75}, shape{dtype::q4_0, dtype::bf16, 96, 112, 40},
                        shape{dtype::bf16, dtype::q5_1, 70, 1376, 64}, shape{dtype::q4_k, dtype::q6_k, 1280, 768, 96},
                        shape{dtype::f16, dtype::f16, 1057, 336, 50}}) {
    const layer l(s.first, s.second, s.dim, s.ffn, s.outputs);
    for (const std::size_t m : {17u, 32u, 33u, 70u, 300u})
      for (const bool gelu : {false, true}) {
        if (gelu && m == 300) continue;
        INFO(ba::to_string(s.first) << " " << ba::to_string(s.second) << " dim " << s.dim << " ffn " << s.ffn << " m " << m
                                    << " gelu " << gelu);
        const std::size_t xs = s.dim + m % 3, ys = s.outputs + m % 5;
        const auto x = random_floats(m * xs, static_cast<unsigned>(m));
        const auto expected = one_by_one(l, compute_type::many_rows, gelu, x.data(), xs, m, ys);
        for (const std::size_t workers : {1u, 3u}) {
          blockattn_test::dealing_executor pool{workers};
          const auto y = at_once(pool, l, compute_type::many_rows, gelu, x.data(), xs, m, ys);
          CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
        }
      }
  }
}

TEST_CASE("a feed-forward layer at once is refused where its steps are to be taken", "[gemm]") {
  const bool tiles = ba::product_of(dtype::bf16, compute_type::many_rows) == ba::product_kind::tiles;
  const layer l(dtype::bf16, dtype::bf16, 64, 32, 16), codes(dtype::q8_0, dtype::bf16, 64, 32, 16),
      floats(dtype::f32, dtype::bf16, 64, 32, 16), odd(dtype::bf16, dtype::bf16, 64, 24, 16);
  CHECK((scratch_for(l, compute_type::many_rows, 2, 17) != 0) == tiles);
  CHECK((scratch_for(l, compute_type::automatic, 2, 17) != 0) == tiles);
  CHECK((scratch_for(codes, compute_type::many_rows, 2, 17) != 0) == tiles);
  CHECK(scratch_for(codes, compute_type::automatic, 2, 17) == 0);  // rows are rounded to codes
  CHECK(scratch_for(l, compute_type::many_rows, 2, 16) == 0);
  CHECK(scratch_for(l, compute_type::f32, 2, 100) == 0);
  CHECK(scratch_for(floats, compute_type::many_rows, 2, 100) == 0);
  CHECK(scratch_for(odd, compute_type::many_rows, 2, 100) == 0);  // gate and up share a panel
}
