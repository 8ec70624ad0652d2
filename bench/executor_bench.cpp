// SPDX-License-Identifier: MIT
// What it costs to hand tasks to workers, and how evenly work splits over more workers than this machine has.
//
// `region/...` times one for_each of empty tasks: the cost of a parallel region. `split/...` runs the tasks of one kernel
// call one after the other, times each, and deals it to the simulated worker that would be free first: `speedup` is the
// sum of all times over the longest worker's, `efficiency` the same over the number of workers (memory bandwidth, which
// real workers share, is not simulated).
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include <blockattn/core/memory.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/kernel/native.hpp>

#include "support/peak.hpp"

namespace ba = blockattn;

namespace {

void region(benchmark::State& state) {
  ba::thread_executor pool(static_cast<std::size_t>(state.range(0)));
  const auto tasks = static_cast<std::size_t>(state.range(1));
  const ba::executor_ref workers(pool);
  std::vector<std::size_t> ran(tasks * 16);  // a cache line each
  std::size_t regions = 0;
  for (auto _ : state) {
    workers.for_each(tasks, [&](std::size_t, std::size_t i) { ++ran[i * 16]; });
    ++regions;
  }
  for (std::size_t i = 0; i < tasks; ++i)
    if (ran[i * 16] != regions) state.SkipWithError("a task ran not once in each region");
}
BENCHMARK(region)->ArgNames({"workers", "tasks"})->Args({1, 2})->Args({2, 2})->Args({2, 8})->Args({2, 64})->UseRealTime();

// Deals tasks as a pool of `n` workers would that all start at once.
class simulated_executor {
 public:
  explicit simulated_executor(std::size_t n) : busy_(n) {}
  [[nodiscard]] std::size_t concurrency() const noexcept { return busy_.size(); }
  void for_each(std::size_t n, ba::task_ref task) {
    std::fill(busy_.begin(), busy_.end(), 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      const auto next = std::min_element(busy_.begin(), busy_.end());
      const double begin = bench::seconds();
      task(static_cast<std::size_t>(next - busy_.begin()), i);
      const double took = bench::seconds() - begin;
      *next += took;
      sum_ += took;
    }
    longest_ += *std::max_element(busy_.begin(), busy_.end());
  }
  [[nodiscard]] double speedup() const { return sum_ / longest_; }
  void reset() { sum_ = longest_ = 0; }

 private:
  std::vector<double> busy_;
  double sum_ = 0, longest_ = 0;
};

void report(benchmark::State& state, const simulated_executor& pool) {
  state.counters["speedup"] = pool.speedup();
  state.counters["efficiency"] = pool.speedup() / static_cast<double>(pool.concurrency());
}

// Projections of Llama-3.2-1B's shape: rows, inputs, outputs.
void split_projection(benchmark::State& state) {
  simulated_executor pool(static_cast<std::size_t>(state.range(0)));
  const auto m = static_cast<std::size_t>(state.range(1)), k = static_cast<std::size_t>(state.range(2));
  const auto n = static_cast<std::size_t>(state.range(3));
  ba::packed_matrix w{nullptr, ba::dtype::bf16, n, k};
  ba::aligned_buffer<> bytes(w.bytes());
  std::fill_n(bytes.as<ba::bf16>(), bytes.size() / 2, ba::to_bf16(0.5f));
  w.data = bytes.data();
  std::vector<float> x(m * k, 1.0f), y(m * n);
  ba::aligned_buffer<> scratch(ba::native_kernels::project_scratch(pool.concurrency(), w, ba::compute_type::automatic, m));
  const auto once = [&] {
    ba::native_kernels::project(pool, w, ba::compute_type::automatic, x.data(), k, m, y.data(), n, scratch.bytes());
  };
  once();
  if (y[0] != 0.5f * static_cast<float>(k) || y.back() != y[0]) state.SkipWithError("wrong result");
  pool.reset();
  for (auto _ : state) once();
  report(state, pool);
}

// Attention of `tokens` rows over blocks of 512 keys; 32 heads, 8 key/value heads of 64.
void split_attention(benchmark::State& state) {
  simulated_executor pool(static_cast<std::size_t>(state.range(0)));
  const auto tokens = static_cast<std::size_t>(state.range(1)), keys = static_cast<std::size_t>(state.range(2));
  ba::attention_shape shape;
  shape.heads = 32;
  shape.kv_heads = 8;
  shape.head_dim = 64;
  shape.scale = 0.125f;
  const ba::kv_shape kv{1, 8, 64, ba::dtype::bf16};
  ba::aligned_buffer<> panels(kv.layer_bytes(keys));
  std::fill_n(panels.as<ba::bf16>(), panels.size() / 2, ba::to_bf16(0.25f));
  std::vector<ba::kv_segment> segments;
  for (std::size_t at = 0; at < keys; at += 512) {
    ba::kv_segment s;
    s.keys = panels.data() + at / 16 * kv.key_tile() * 2;
    s.values = panels.data() + kv.value_offset(0, keys) + at / 16 * kv.value_tile() * 2;
    s.key_stride = kv.key_panel(keys) * 2;
    s.value_stride = kv.value_panel(keys) * 2;
    s.tokens = std::min<std::size_t>(512, keys - at);
    s.start = static_cast<std::int64_t>(at);
    segments.push_back(s);
  }
  std::vector<float> q(tokens * 2048, 1.0f), out(tokens * 2048);
  std::vector<std::int64_t> positions(tokens, static_cast<std::int64_t>(keys));
  const ba::attention_job job{q.data(), 2048, positions.data(), tokens, segments, out.data(), 2048};
  const std::span<const ba::attention_job> jobs(&job, 1);
  ba::aligned_buffer<> scratch(ba::native_kernels::attend_scratch(pool.concurrency(), jobs, shape));
  const auto once = [&] { ba::native_kernels::attend(pool, jobs, shape, scratch.bytes()); };
  once();
  if (std::abs(out[0] - 0.25f) > 1e-5f || std::abs(out.back() - 0.25f) > 1e-5f) state.SkipWithError("wrong result");
  pool.reset();
  for (auto _ : state) once();
  report(state, pool);
}

void projections(benchmark::internal::Benchmark* b) {
  b->ArgNames({"workers", "rows", "k", "n"})->Unit(benchmark::kMillisecond);
  for (const int workers : {4, 16, 64})
    for (const int rows : {1, 50, 512}) b->Args({workers, rows, 2048, 8192})->Args({workers, rows, 2048, 2048});
}
BENCHMARK(split_projection)->Apply(projections);

void attentions(benchmark::internal::Benchmark* b) {
  b->ArgNames({"workers", "tokens", "keys"})->Unit(benchmark::kMillisecond);
  for (const int workers : {4, 16, 64}) b->Args({workers, 50, 8192})->Args({workers, 512, 8192})->Args({workers, 1, 32768});
}
BENCHMARK(split_attention)->Apply(attentions);

}  // namespace

BENCHMARK_MAIN();
