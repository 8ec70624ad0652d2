// SPDX-License-Identifier: MIT
// Attention of one layer in the shape of Llama-3.2-1B (32 heads over 8 key/value heads of size 64): a question over
// blocks of 512 tokens, a long tail, and decoding. Operations are 4 * head_dim for each visible key, row and head.
// Every case first compares some heads with double. `share` is the part of the peak of fused multiply-adds (of bf16
// products where rows are rounded to bf16), and `read_share` that of memory reads, both measured in this run.
// `cpu_share` counts processor time instead of elapsed time, of the best repeat, against the peak of one thread: on a
// machine that others use, it is the one to read.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <random>
#include <vector>

#include "blockattn/core/memory.hpp"
#include "blockattn/core/thread_executor.hpp"
#include "blockattn/kernel/attention.hpp"
#include "blockattn/kernel/pack.hpp"
#include "support/peak.hpp"

namespace {

using namespace blockattn;

struct limits {  // of the machine, in 1e9 a second
  double f32 = 0, bf16 = 0, vector_bf16 = 0, read = 0;
};
const limits& measured(std::size_t threads) {
  static std::vector<limits> all(64);
  limits& of = all.at(threads);
  if (of.f32 == 0) {
    thread_executor workers(threads);
    of.f32 = bench::fma_peak(workers);
    of.bf16 = has_bf16_dot ? bench::bf16_peak(workers) : of.f32;
    of.vector_bf16 = has_bf16_dot ? bench::dot_peak(workers) : of.f32;
    of.read = bench::read_bandwidth(workers);
  }
  return of;
}

// range: tokens, keys before them, element type (0 f32, 1 bf16, 2 int8, 3 int8 as for many rows), threads, query heads.
void attention(benchmark::State& state) {
  const auto tokens = static_cast<std::size_t>(state.range(0)), keys = static_cast<std::size_t>(state.range(1));
  const dtype type = state.range(2) == 0 ? dtype::f32 : state.range(2) == 1 ? dtype::bf16 : dtype::i8;
  const auto threads = static_cast<std::size_t>(state.range(3));
  const auto heads = static_cast<std::uint32_t>(state.range(4));
  attention_shape shape;
  shape.heads = heads;
  shape.kv_heads = 8;
  shape.head_dim = 64;
  shape.type = type;
  shape.compute = state.range(2) == 3 ? compute_type::many_rows : compute_type::automatic;
  if (state.range(2) == 3 && !uses_tile_registers(type, shape.compute)) {
    state.SkipWithError("the same as type 2: no tile registers");
    return;
  }
  const bool on_tiles = uses_tile_registers(type, shape.compute);
  shape.scale = 0.125f;
  shape.rotary_dim = 64;
  const kv_shape kv{1, shape.kv_heads, shape.head_dim, type};
  const std::size_t block = 512, row = std::size_t{heads} * 64;
  const limits& limit = measured(threads);

  std::mt19937 random(1);
  std::uniform_real_distribution<float> draw(-1.5f, 1.5f);
  // One buffer, and so large pages, as under the blocks of a model, which hold all layers.
  aligned_buffer<> panels(kv.layer_bytes(block) * (keys / block + 1) + kv.layer_bytes(tokens));
  std::vector<std::vector<float>> turns;
  std::vector<kv_segment> segments;
  for (std::size_t start = 0; start < keys + tokens;) {
    const std::size_t n = start < keys ? std::min(block, keys - start) : tokens;
    std::byte* const layer = panels.data() + segments.size() * kv.layer_bytes(block);
    // Blocks behind the 64th repeat them, at places of their own: making as many random numbers would take minutes.
    const bool is_copy = segments.size() >= 64 && n == block;
    if (is_copy) std::memcpy(layer, layer - 64 * kv.layer_bytes(block), kv.layer_bytes(block));
    else std::memset(layer, 0, kv.layer_bytes(n));
    if (type == dtype::i8 && !is_copy) {
      std::vector<float> k(n * 512), v(n * 512);
      for (float& x : k) x = draw(random);
      for (float& x : v) x = draw(random);
      store_kv(kv, k.data(), v.data(), 512, layer, n, 0, n);
    }
    for (std::size_t h = 0; h < 8 && type != dtype::i8 && !is_copy; ++h) {
      std::byte* k = layer + kv.key_offset(h, n);
      std::byte* v = layer + kv.value_offset(h, n);
      for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t d = 0; d < 64; ++d) {
          const float x = draw(random), y = draw(random);
          if (type == dtype::f32) {
            reinterpret_cast<float*>(k)[kv.key_index(t, d)] = x;
            reinterpret_cast<float*>(v)[kv.value_index(t, d)] = y;
          } else {
            reinterpret_cast<bf16*>(k)[kv.key_index(t, d)] = to_bf16(x);
            reinterpret_cast<bf16*>(v)[kv.value_index(t, d)] = to_bf16(y);
          }
        }
      }
    }
    turns.emplace_back(64);
    for (std::size_t m = 0; m < 32; ++m) {
      const double angle = -static_cast<double>(start) * std::pow(500000.0, -static_cast<double>(m) / 32);
      turns.back()[m] = static_cast<float>(std::cos(angle));
      turns.back()[32 + m] = static_cast<float>(std::sin(angle));
    }
    kv_segment s;
    s.keys = layer;
    s.values = layer + kv.value_offset(0, n);
    s.key_stride = kv.key_offset(1, n);
    s.value_stride = kv.value_offset(1, n) - kv.value_offset(0, n);
    s.tokens = n;
    s.start = static_cast<std::int64_t>(start);
    s.turn = start < keys ? turns.back().data() : nullptr;
    if (type == dtype::i8) {
      s.key_scales = reinterpret_cast<const float*>(layer + kv.key_scale_offset(0, n));
      s.value_scales = reinterpret_cast<const float*>(layer + kv.value_scale_offset(0, n));
      s.scale_stride = kv.scales(n);
    }
    segments.push_back(s);
    start += n;
  }
  std::vector<float> queries(tokens * row), out(tokens * row);
  for (float& x : queries) x = draw(random);
  std::vector<std::int64_t> positions(tokens);
  for (std::size_t t = 0; t < tokens; ++t) positions[t] = static_cast<std::int64_t>(keys + t);
  const attention_job job{queries.data(), row, positions.data(), tokens, segments, out.data(), row};
  thread_executor workers(threads);
  const std::span<const attention_job> jobs(&job, 1);
  aligned_buffer<> scratch(attend_scratch(threads, jobs, shape));
  attend(workers, jobs, shape, scratch.bytes());

  // The check: the first and the last head of the last token, in double.
  const auto at = [&](const std::byte* p, std::size_t i) {
    if (type == dtype::i8) return static_cast<float>(static_cast<std::int8_t>(p[i]));
    return type == dtype::f32 ? reinterpret_cast<const float*>(p)[i] : widen(reinterpret_cast<const bf16*>(p)[i]);
  };
  for (std::size_t h : {std::size_t{0}, std::size_t{heads - 1}}) {
    std::vector<double> scores, mean(64);
    const float* q = queries.data() + (tokens - 1) * row + h * 64;
    for (const kv_segment& s : segments) {
      double turned[64];
      for (std::size_t m = 0; m < 32; ++m) {
        const double c = s.turn ? s.turn[m] : 1, n = s.turn ? s.turn[32 + m] : 0;
        turned[m] = q[m] * c - q[32 + m] * n;
        turned[32 + m] = q[m] * n + q[32 + m] * c;
      }
      for (std::size_t t = 0; t < s.tokens; ++t) {
        double dot = 0;
        const std::byte* keys_of = s.keys + h * 8 / heads * s.key_stride;
        for (std::size_t d = 0; d < 64; ++d) dot += turned[d] * at(keys_of, kv.key_index(t, d));
        if (type == dtype::i8) dot *= s.key_scales[h * 8 / heads * s.scale_stride + t];
        scores.push_back(dot * 0.125);
      }
    }
    double sum = 0;
    std::size_t i = 0;
    for (const kv_segment& s : segments) {
      for (std::size_t t = 0; t < s.tokens; ++t, ++i) {
        const double w = std::exp(scores[i]);
        sum += w;
        const double scale = type == dtype::i8 ? s.value_scales[h * 8 / heads * s.scale_stride + t] : 1.0f;
        for (std::size_t d = 0; d < 64; ++d)
          mean[d] += w * scale * at(s.values + h * 8 / heads * s.value_stride, kv.value_index(t, d));
      }
    }
    for (std::size_t d = 0; d < 64; ++d) {
      if (!(std::abs(mean[d] / sum - out[(tokens - 1) * row + h * 64 + d]) < (has_bf16_dot ? 1e-2 : 1e-5))) {
        state.SkipWithError("wrong result");
        return;
      }
    }
  }

  std::vector<double> times, processor;
  for (auto _ : state) {
    const double start = bench::seconds();
    const std::clock_t ticks = std::clock();
    attend(workers, jobs, shape, scratch.bytes());
    processor.push_back(static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC);
    times.push_back(bench::seconds() - start);
    benchmark::ClobberMemory();
  }
  std::sort(times.begin(), times.end());
  const double median = times[times.size() / 2];
  const double least = *std::min_element(processor.begin(), processor.end());
  const auto n = static_cast<double>(tokens);
  const double pairs = n * static_cast<double>(keys) + n * (n + 1) / 2;
  const double flops = pairs * heads * 4 * 64 / median / 1e9;
  const double bytes = static_cast<double>(kv.layer_bytes(keys)) / median / 1e9;
  state.counters["GFLOP/s"] = flops;
  // 16-bit products with int8 run at the rate of bf16 ones on vector registers (AVX-512 VNNI beside BF16).
  const double peak = type == dtype::f32 ? limit.f32 : on_tiles ? limit.bf16 : limit.vector_bf16;
  state.counters["share"] = flops / peak;
  state.counters["peak"] = peak;
  state.counters["bytes/token"] = static_cast<double>(kv.layer_bytes(512)) / 512;
  // In every case, because a table of comma-separated values wants the same counters in all.
  state.counters["vector_share"] = flops / (type == dtype::f32 ? limit.f32 : limit.vector_bf16);
  state.counters["GB/s"] = bytes;
  const limits& one = measured(1);
  const double one_peak = type == dtype::f32 ? one.f32 : on_tiles ? one.bf16 : one.vector_bf16;
  state.counters["cpu_share"] = flops * median / least / one_peak;
  state.counters["read_share"] = bytes / limit.read;
}

void cases(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "keys", "type", "threads", "heads"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (int threads : {1, 2})
    for (int type : {0, 1, 2, 3}) {
      for (int keys : {4096, 32768}) b->Args({50, keys, type, threads, 32});
      b->Args({512, 8192, type, threads, 32});
      b->Args({512, 0, type, threads, 32});
      b->Args({512, 0, type, threads, 8});
      b->Args({1, 32768, type, threads, 32});
      b->Args({1, 32768, type, threads, 8});
      // 1.5 GiB of keys and values: decoding from memory, where the case above reads from a large last cache.
      if (type != 3) b->Args({1, 393216 << type, type, threads, 32});
    }
}
BENCHMARK(attention)->Apply(cases);

}  // namespace

BENCHMARK_MAIN();
