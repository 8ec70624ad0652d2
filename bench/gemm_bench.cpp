// SPDX-License-Identifier: MIT
// Projections at the shapes of real models: GFLOP/s and the share of the peak measured in the same run (for one row: of
// the measured read bandwidth). Weights rotate over more than the last cache of most machines. A wrong result fails the
// benchmark.
//
//     gemm_bench --benchmark_filter='f32/512/2048/8192' --benchmark_repetitions=5
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <blockattn/core/memory.hpp>
#include <blockattn/core/pages.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/kernel/gemm.hpp>
#include <blockattn/kernel/pack.hpp>

#include "support/peak.hpp"

namespace ba = blockattn;

namespace {

struct shape {
  std::size_t rows, k, n;
};

float value(std::uint64_t i) {
  i = (i + 1) * 0x9e3779b97f4a7c15u;
  i ^= i >> 29;
  return static_cast<float>(static_cast<std::int32_t>((i * 0xbf58476d1ce4e5b9u) >> 40) - (1 << 23)) * 0x1p-23f;
}

// Copies of one matrix, beyond all caches (or one): a server's last cache holds hundreds of MiB, which products read faster
// than memory can be read.
class rotation {
 public:
  rotation(ba::executor_ref workers, ba::dtype type, const shape& s) {
    ba::packed_matrix m{nullptr, type, s.n, s.k};
    const std::size_t copies = std::max<std::size_t>(1, bench::beyond_caches() / std::max<std::size_t>(1, m.bytes()));
    for (std::size_t c = 0; c < copies; ++c) {
      bytes_.emplace_back(m.bytes());
      m.data = bytes_.back().data();
      if (c == 0) {
        for (std::size_t r = 0; r < s.n; ++r) pack_row(workers, m, r, s.k * r);
      } else {
        std::memcpy(bytes_.back().data(), bytes_.front().data(), m.bytes());
      }
      matrices_.push_back(m);
    }
  }
  [[nodiscard]] const ba::packed_matrix& next() { return matrices_[at_++ % matrices_.size()]; }

 private:
  void pack_row(ba::executor_ref workers, const ba::packed_matrix& m, std::size_t r, std::size_t seed) {
    if (!ba::is_quantized(m.type)) {
      std::vector<float> row(m.cols);
      for (std::size_t k = 0; k < m.cols; ++k) row[k] = value(k + seed);
      ba::pack_weights(workers, m, bytes_.back().data(), r, ba::dtype::f32, reinterpret_cast<const std::byte*>(row.data()), 1);
      return;
    }
    // Any bytes are codes; halves get an ordinary exponent: magnitudes from 1/32 to 1/16.
    const std::size_t size = ba::block_bytes(m.type);
    std::vector<std::byte> row(m.cols / ba::block_elements(m.type) * size);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<std::byte>(static_cast<int>(value(i + seed) * 0x1p23f) >> 9 & 0xff);
    const std::size_t scale = m.type == ba::dtype::q6_k ? 209 : 1;
    for (std::size_t at = 0; at < row.size(); at += size) {
      row[at + scale] = (row[at + scale] & std::byte{0x83}) | std::byte{0x28};
      if (ba::has_offsets(m.type)) row[at + 3] = (row[at + 3] & std::byte{0x83}) | std::byte{0x28};
    }
    ba::pack_weights(workers, m, bytes_.back().data(), r, m.type, row.data(), 1);
  }

  std::vector<ba::aligned_buffer<>> bytes_;
  std::vector<ba::packed_matrix> matrices_;
  std::size_t at_ = 0;
};

// A few elements against double, from the rows and weights as they are multiplied.
bool right(const ba::packed_matrix& w, ba::product_kind kind, std::vector<float> x, std::span<const float> y,
           const shape& s) {
  const bool rounded = kind == ba::product_kind::pairs || kind == ba::product_kind::tiles;
  // Decoding types with offsets for tiles takes two roundings more, so now and then the third goes the other way.
  const double doubt = kind == ba::product_kind::tiles && ba::is_quantized(w.type) && ba::has_offsets(w.type) ? 0x1p-14 : 0;
  if (kind == ba::product_kind::codes)
    for (std::size_t i = 0; i + 32 <= x.size(); i += 32) {
      const ba::code_run run = ba::round_to_codes(&x[i]);
      for (std::size_t k = 0; k < 32; ++k) x[i + k] = run.scale * static_cast<float>(run.code[k]);
    }
  std::vector<float> row(s.k);
  for (std::size_t j = 0; j < s.n; j += s.n / 5 + 1) {
    ba::gather_row(w, j, row.data());
    if (kind == ba::product_kind::tiles)
      for (float& b : row) b = ba::widen(ba::to_bf16(b));
    for (std::size_t i = 0; i < s.rows; i += s.rows / 7 + 1) {
      double exact = 0, size = 0;
      for (std::size_t k = 0; k < s.k; ++k) {
        const float a = rounded ? ba::widen(ba::to_bf16(x[i * s.k + k])) : x[i * s.k + k];
        exact += static_cast<double>(a) * static_cast<double>(row[k]);
        size += std::abs(static_cast<double>(a) * static_cast<double>(row[k]));
      }
      if (!(std::abs(static_cast<double>(y[i * s.n + j]) - exact) <= (0x1p-24 * static_cast<double>(s.k + 2) + doubt) * size))
        return false;
    }
  }
  return true;
}

struct format {
  const char* name;
  ba::dtype type;
  ba::compute_type compute;
};

std::size_t on_large_pages(std::size_t bytes) { return std::max(bytes, 2 * ba::large_page); }

enum class limit { reading, pairs, codes, floats };

void run(benchmark::State& state, const format& f, const shape& s, std::size_t workers) {
  ba::thread_executor pool(workers, std::chrono::microseconds(200));
  rotation weights(pool, f.type, s);
  std::vector<float> x(s.rows * s.k);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = value(i + 12345);
  const ba::product_kind kind = ba::product_of(f.type, f.compute);
  const ba::packed_matrix first = weights.next();
  // Outputs and scratch lie on large pages, as in the memory of a session.
  ba::aligned_buffer<> outputs(on_large_pages(s.rows * s.n * sizeof(float)));
  ba::aligned_buffer<> scratch(on_large_pages(ba::project_scratch(workers, first, f.compute, s.rows)));
  const std::span y(reinterpret_cast<float*>(outputs.data()), s.rows * s.n);
  ba::project(pool, first, f.compute, x.data(), s.k, s.rows, y.data(), s.n, scratch.bytes());
  if (!right(first, kind, x, y, s)) {
    state.SkipWithError("wrong result");
    return;
  }

  const bool reading = s.rows <= 4;
  const limit bound = reading                               ? limit::reading
                      : kind == ba::product_kind::codes     ? limit::codes
                      : kind == ba::product_kind::floats    ? limit::floats
                                                            : limit::pairs;
  const auto peak_now = [&] {
    switch (bound) {
      case limit::reading: return bench::read_bandwidth(pool);
      case limit::pairs: return bench::bf16_peak(pool);
      case limit::codes: return bench::code_peak(pool);
      default: return bench::fma_peak(pool);
    }
  };
  // The machine is shared and its clock moves: the largest peak seen so far counts, so that no share is flattered.
  static std::map<std::pair<limit, std::size_t>, double> largest;
  double& peak = largest[{bound, workers}];
  peak = std::max(peak, peak_now());
  std::vector<double> times;
  for (auto _ : state) {
    const double begin = bench::seconds();
    ba::project(pool, weights.next(), f.compute, x.data(), s.k, s.rows, y.data(), s.n, scratch.bytes());
    times.push_back(bench::seconds() - begin);
  }
  peak = std::max(peak, peak_now());
  std::sort(times.begin(), times.end());
  const double work = reading ? 1e-9 * static_cast<double>(first.bytes())
                              : 2e-9 * static_cast<double>(s.rows) * static_cast<double>(s.k) * static_cast<double>(s.n);
  const double median = times[times.size() / 2], best = times.front();
  state.counters[reading ? "GB/s" : "GFLOPS"] = work / median;
  state.counters["peak"] = peak;
  state.counters["share"] = work / median / peak;
  state.counters["best_share"] = work / best / peak;
}

}  // namespace

int main(int argc, char** argv) {
  static constexpr format formats[] = {{"f32", ba::dtype::f32, ba::compute_type::automatic},
                                       {"bf16_widened", ba::dtype::bf16, ba::compute_type::f32},
                                       {"bf16", ba::dtype::bf16, ba::compute_type::automatic},
                                       {"f16", ba::dtype::f16, ba::compute_type::automatic},
                                       {"f16_many", ba::dtype::f16, ba::compute_type::many_rows},
                                       {"q8_0", ba::dtype::q8_0, ba::compute_type::automatic},
                                       {"q8_0_many", ba::dtype::q8_0, ba::compute_type::many_rows},
                                       {"q8_0_f32", ba::dtype::q8_0, ba::compute_type::f32},
                                       {"q4_0", ba::dtype::q4_0, ba::compute_type::automatic},
                                       {"q4_0_many", ba::dtype::q4_0, ba::compute_type::many_rows},
                                       {"q4_1", ba::dtype::q4_1, ba::compute_type::automatic},
                                       {"q5_0", ba::dtype::q5_0, ba::compute_type::automatic},
                                       {"q5_1", ba::dtype::q5_1, ba::compute_type::automatic},
                                       {"q4_k", ba::dtype::q4_k, ba::compute_type::automatic},
                                       {"q4_k_many", ba::dtype::q4_k, ba::compute_type::many_rows},
                                       {"q5_k", ba::dtype::q5_k, ba::compute_type::automatic},
                                       {"q6_k", ba::dtype::q6_k, ba::compute_type::automatic},
                                       {"q6_k_many", ba::dtype::q6_k, ba::compute_type::many_rows}};
  static constexpr shape shapes[] = {{1, 2048, 8192},   {2, 2048, 8192},   {4, 2048, 8192},    {8, 2048, 8192},   {4, 8192, 2048},
                                     {16, 2048, 8192},  {50, 2048, 2048},  {50, 2048, 8192},   {50, 8192, 2048},
                                     {512, 2048, 2048}, {512, 2048, 8192}, {512, 8192, 2048},  {512, 4096, 14336},
                                     {512, 14336, 4096}, {1, 8192, 2048},  {1, 2048, 128256},  {1, 288, 768},
                                     {64, 288, 1536}};
  for (const format& f : formats) {
    if (f.type == ba::dtype::bf16 && f.compute == ba::compute_type::automatic && !ba::has_bf16_dot) continue;
    if (f.type == ba::dtype::f16 && ba::panel_type(f.type) != f.type) continue;
    if (f.compute == ba::compute_type::many_rows &&
        ba::product_of(f.type, f.compute) == ba::product_of(f.type, ba::compute_type::automatic))
      continue;
    for (const shape& s : shapes) {
      if (s.k % ba::block_elements(f.type) != 0) continue;
      for (const std::size_t workers : {1u, 2u}) {
        const std::string name = std::string(f.name) + "/" + std::to_string(s.rows) + "/" + std::to_string(s.k) + "/" +
                                 std::to_string(s.n) + "/workers:" + std::to_string(workers);
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { run(state, f, s, workers); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  benchmark::AddCustomContext("isa", ba::isa_name());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
