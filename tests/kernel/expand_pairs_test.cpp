// SPDX-License-Identifier: MIT
// Products for many rows (`compute_type::many_rows`): on tile registers, quantised weights and f16 as the bf16 they round
// to, bit by bit against bf16 panels; without tile registers, the bits of `automatic`.
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
#include "support/stored_rows.hpp"

namespace ba = blockattn;
using ba::compute_type;
using ba::dtype;
using blockattn_test::packed_rows;
using blockattn_test::random_floats;
using blockattn_test::stored_rows;

namespace {

constexpr dtype all_types[] = {dtype::q8_0, dtype::q4_0, dtype::q4_1, dtype::q5_0, dtype::q5_1,
                               dtype::q4_k, dtype::q5_k, dtype::q6_k, dtype::f16};
constexpr float untouched = -12345.0f;

// Types whose weights take one rounding on their way to bf16, that to bf16.
bool one_rounding(dtype type) { return !ba::is_quantized(type) || !ba::has_offsets(type); }

std::vector<float> run(ba::executor_ref workers, const ba::packed_matrix& w, compute_type compute, const float* x,
                       std::size_t x_stride, std::size_t rows, std::size_t y_stride) {
  std::vector<float> y(rows * y_stride + 1, untouched);
  ba::aligned_buffer<> scratch(ba::project_scratch(workers.concurrency(), w, compute, rows));
  ba::project(workers, w, compute, x, x_stride, rows, y.data(), y_stride, scratch.bytes());
  return y;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Panels of bf16 with the decoded rows, rounded once.
packed_rows rounded(const stored_rows& rows) {
  stored_rows out(dtype::bf16, rows.rows, rows.cols);
  std::vector<float> row(rows.cols);
  for (std::size_t i = 0; i < rows.rows; ++i) {
    ba::decode_row(rows.type, rows.row(i), rows.cols, row.data());
    for (std::size_t k = 0; k < rows.cols; ++k) {
      const ba::bf16 to = ba::to_bf16(row[k]);
      std::memcpy(out.bytes.data() + i * out.row_bytes + k * sizeof to, &to, sizeof to);
    }
  }
  return {out, dtype::bf16};
}

std::vector<std::size_t> widths(dtype type) {
  if (type == dtype::f16) return {1, 31, 32, 33, 257, 2112};
  return ba::block_elements(type) == 256 ? std::vector<std::size_t>{256, 1280, 2560} : std::vector<std::size_t>{32, 96, 1312, 2080};
}

}  // namespace

TEST_CASE("products for many rows multiply weights as the bf16 they round to", "[gemm]") {
  ba::inline_executor here;
  for (const dtype type : all_types) {
    if (ba::panel_type(type) != type) continue;
    const bool tiles = ba::product_of(type, compute_type::many_rows) == ba::product_kind::tiles;
    for (const std::size_t k : widths(type))
      for (const std::size_t n : {1u, 16u, 31u, 83u}) {
        const stored_rows rows(type, n, k);
        const packed_rows w(rows, type), bf16 = rounded(rows);
        for (const std::size_t m : {1u, 2u, 15u, 16u, 17u, 33u, 70u}) {
          const std::size_t xs = k + m % 3, ys = n + m % 5;
          const auto x = random_floats(m * xs, static_cast<unsigned>(m));
          const auto y = run(here, w.matrix, compute_type::many_rows, x.data(), xs, m, ys);
          INFO(ba::to_string(type) << " m " << m << " n " << n << " k " << k);
          bool kept = y.back() == untouched;
          for (std::size_t i = 0; i < m; ++i)
            for (std::size_t j = n; j < ys; ++j) kept = kept && y[i * ys + j] == untouched;
          CHECK(kept);
          if (!tiles) {
            CHECK(same_bits(y, run(here, w.matrix, compute_type::automatic, x.data(), xs, m, ys)));
            continue;
          }
          const auto expected = run(here, bf16.matrix, compute_type::automatic, x.data(), xs, m, ys);
          if (one_rounding(type)) {
            CHECK(same_bits(y, expected));
            continue;
          }
          // Two more roundings before that to bf16: now and then it goes to the other side, by a unit of 2^-8 at most.
          std::size_t far = 0;
          std::vector<float> row(k);
          for (std::size_t j = 0; j < n; j += 7) {
            ba::gather_row(w.matrix, j, row.data());
            for (std::size_t i = 0; i < m; i += 5) {
              double size = 0;
              for (std::size_t c = 0; c < k; ++c)
                size += std::abs(static_cast<double>(x[i * xs + c]) * static_cast<double>(row[c]));
              const double distance = static_cast<double>(y[i * ys + j]) - static_cast<double>(expected[i * ys + j]);
              far += std::abs(distance) <= 0x1p-12 * size ? 0u : 1u;  // a NaN is far
            }
          }
          CHECK(far == 0);
        }
      }
  }
}

TEST_CASE("products for many rows: the bits of a row depend on no other row and no executor", "[gemm]") {
  ba::inline_executor here;
  for (const dtype type : all_types) {
    if (ba::panel_type(type) != type) continue;
    const std::size_t m = 601, n = 75, k = 1536;
    const stored_rows rows(type, n, k);
    const packed_rows w(rows, type);
    const auto x = random_floats(m * k, 6);
    const auto y = run(here, w.matrix, compute_type::many_rows, x.data(), k, m, n);
    INFO(ba::to_string(type));
    for (const std::size_t some : {1u, 2u, 16u, 31u, 50u}) {
      const auto part = run(here, w.matrix, compute_type::many_rows, x.data() + 11 * k, k, some, n);
      CHECK(std::memcmp(part.data(), y.data() + 11 * n, some * n * sizeof(float)) == 0);
    }
    blockattn_test::dealing_executor three{3};
    CHECK(same_bits(run(three, w.matrix, compute_type::many_rows, x.data(), k, m, n), y));
  }
}

#if BLOCKATTN_HAS_AMX

TEST_CASE("decoded pairs are the weights rounded to bf16, from any run on", "[amx]") {
  for (const dtype type : all_types)
    for (const std::size_t k : {1024u, 4096u}) {
      const stored_rows rows(type, 32, k);
      const packed_rows w(rows, type);
      const std::byte* const second = w.matrix.data + w.matrix.panel_bytes();
      ba::aligned_buffer<> out(k * ba::panel_width * sizeof(ba::bf16));
      auto* const pairs = reinterpret_cast<ba::bf16*>(out.data());
      for (const std::size_t first : {0u, 1u, 8u, 31u})
        for (const std::size_t runs : {std::size_t{1}, k / 32 - first}) {
          if (type == dtype::f16) {
            ba::expand_half_pairs(w.matrix.data + first * 1024, 32 * runs, second + first * 1024, pairs);
          } else {
            ba::expand_pairs(ba::code_panels{type, k}, w.matrix.data, first, runs, second, pairs);
          }
          std::size_t other = 0, far = 0;
          std::vector<float> row(k);
          for (std::size_t r = 0; r < 16; ++r) {
            ba::decode_row(type, rows.row(r), k, row.data());
            for (std::size_t c = 0; c < 32 * runs; ++c) {
              const float exact = row[32 * first + c], got = ba::widen(pairs[c / 2 * 32 + 2 * r + c % 2]);
              other += got != ba::widen(ba::to_bf16(exact)) ? 1u : 0u;
              // Half a unit of 8 bits, and what two roundings near the size of the offset make: tame rows keep it small.
              far += std::abs(got - exact) <= 0x1.01p-8f * std::abs(exact) + 0x1p-18f ? 0u : 1u;
            }
          }
          INFO(ba::to_string(type) << " first " << first << " runs " << runs << " k " << k);
          if (one_rounding(type)) CHECK(other == 0);
          CHECK(far == 0);
        }
    }
}

TEST_CASE("scales that are not finite make their weights NaN", "[amx]") {
  for (const dtype type : all_types) {
    if (type == dtype::f16) continue;
    stored_rows rows(type, 16, 512);
    const std::size_t size = ba::block_bytes(type), at = type == dtype::q6_k ? 208 : 0;
    for (const std::size_t bad : {0x7c00u, 0x7e00u}) {  // infinity, NaN
      rows.bytes[5 * rows.row_bytes + at] = static_cast<std::byte>(bad & 255);
      rows.bytes[5 * rows.row_bytes + at + 1] = static_cast<std::byte>(bad >> 8);
      const packed_rows w(rows, type);
      ba::aligned_buffer<> out(512 * ba::panel_width * sizeof(ba::bf16));
      auto* const pairs = reinterpret_cast<ba::bf16*>(out.data());
      ba::expand_pairs(ba::code_panels{type, 512}, w.matrix.data, 0, 16, nullptr, pairs);
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < 16; ++r)
        for (std::size_t c = 0; c < 512; ++c) {
          const bool spoilt = r == 5 && c < ba::block_elements(type);
          wrong += std::isfinite(ba::widen(pairs[c / 2 * 32 + 2 * r + c % 2])) == spoilt ? 1u : 0u;
        }
      INFO(ba::to_string(type) << ", blocks of " << size << " bytes");
      CHECK(wrong == 0);
    }
  }
}

#endif
