// SPDX-License-Identifier: MIT
// Restoring a context of 32K tokens of a 1B shape (16 layers, 8 key/value heads of size 64, bf16: 1 GiB in 64 blocks)
// from files in the page cache, beside plain reads by one core; and writing it. Every case first compares what comes back
// with what was written. What memory delivers changes from second to second on a shared machine, so plain reads take
// turns with the restores, and shares are medians over pairs:
//   of_mapped   of reading the same pages, mapped already, in four streams
//   of_memory   of reading as much plain memory (anonymous, as allocated) in four streams
//     BLOCKATTN_BENCH_FOLDER=/somewhere build/release/bench/restore_bench          default: the temporary folder
// Needs 1 GiB of disk, as much of page cache, and as much of memory.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "blockattn/cache/directory_storage.hpp"
#include "blockattn/cache/encoder.hpp"
#include "blockattn/core/executor.hpp"
#include "blockattn/core/memory.hpp"
#include "blockattn/core/thread_executor.hpp"
#include "support/peak.hpp"

namespace {

using namespace blockattn;

constexpr kv_shape shape{16, 8, 64, dtype::bf16};
constexpr std::size_t block_tokens = 512, blocks = 64;

constexpr std::size_t all_bytes = blocks * shape.payload_bytes(block_tokens);

using clock_type = std::chrono::steady_clock;
template <class Body>
double seconds(Body&& body) {
  const auto start = clock_type::now();
  body();
  return std::chrono::duration<double>(clock_type::now() - start).count();
}
double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Blocks that differ, as fast as memory is filled.
struct filler {
  block_realm r = [] {
    block_realm out;
    out.model = {1, 2};
    return out;
  }();
  const block_realm& realm() const noexcept { return r; }
  kv_shape shape() const noexcept { return ::shape; }
  result<void> encode_into(std::span<const std::span<const token>> lists, std::span<std::byte* const> payloads) {
    for (std::size_t i = 0; i < lists.size(); ++i) {
      auto* words = reinterpret_cast<std::uint64_t*>(payloads[i]);
      std::uint64_t state = static_cast<std::uint64_t>(lists[i][0]);
      for (std::size_t k = 0; k < ::shape.payload_bytes(lists[i].size()) / 8; ++k)
        words[k] = state = state * 6364136223846793005u + 1442695040888963407u;
    }
    return {};
  }
};

// The folder, written once, and removed at the end.
struct files {
  filler encoder;
  std::vector<std::vector<token>> ids;
  std::filesystem::path folder;
  bool good = false;

  files() {
    const char* where = std::getenv("BLOCKATTN_BENCH_FOLDER");
    folder = where != nullptr ? std::filesystem::path(where) : std::filesystem::temp_directory_path();
    folder /= "blockattn_restore_bench";
    std::filesystem::remove_all(folder);
    for (std::size_t b = 0; b < blocks; ++b) {
      ids.emplace_back(block_tokens);
      std::iota(ids.back().begin(), ids.back().end(), static_cast<token>(1000 * b + 1));
    }
    auto to = open(verify_when::before_use);
    good = true;
    for (const auto& list : ids) {
      const auto block = encode_block(encoder, list).value();
      good = good && to.save(encoder.realm(), block).has_value();
      const auto back = load(to, list);
      good = good && std::memcmp(back->payload().data(), block->payload().data(), block->payload_bytes()) == 0;
    }
  }
  ~files() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  directory_storage<> open(verify_when when, std::optional<executor_ref> workers = {}) const {
    return directory_storage<>::open({.folder = folder, .isa = "bench", .verify = when, .workers = workers}).value();
  }
  block_handle load(directory_storage<>& from, const std::vector<token>& list) const {
    return from.load(encoder.realm(), encoder.shape(), key_of(encoder.realm(), list), list).value();
  }
};
files& written() {
  static files all;
  return all;
}

// Restores some blocks, held as a context would; then plain reads of both kinds. Range: how many blocks.
template <class Restore>
void beside_plain_reads(benchmark::State& state, executor_ref workers, Restore&& restore) {
  static const aligned_buffer<> plain = [] {
    aligned_buffer<> out(all_bytes);
    std::memset(out.data(), 1, out.size());
    return out;
  }();
  const std::size_t parts = workers.concurrency(), one = shape.payload_bytes(block_tokens);
  const auto n = static_cast<std::size_t>(state.range(0));
  std::vector<double> times, of_mapped, of_memory, mapped_speed, memory_speed;
  for (auto _ : state) {
    std::vector<block_handle> held;
    const double mine = seconds([&] {
      for (std::size_t b = 0; b < n; ++b) held.push_back(restore(written().ids[b]));
    });
    const double mapped = seconds([&] {
      workers.for_each(parts, [&](std::size_t, std::size_t part) {
        for (std::size_t b = part; b < held.size(); b += parts)
          bench::read_streams<4>(held[b]->payload().data(), held[b]->payload_bytes());
      });
    });
    const double memory = seconds([&] {
      workers.for_each(parts, [&](std::size_t, std::size_t part) {
        for (std::size_t b = part; b < n; b += parts) bench::read_streams<4>(plain.data() + b * one, one);
      });
    });
    state.SetIterationTime(mine);
    times.push_back(mine);
    of_mapped.push_back(mapped / mine);
    of_memory.push_back(memory / mine);
    mapped_speed.push_back(1e-9 * static_cast<double>(n * one) / mapped);
    memory_speed.push_back(1e-9 * static_cast<double>(n * one) / memory);
  }
  state.counters["median_ms"] = 1e3 * median(times);
  state.counters["us_a_token"] = 1e6 * median(times) / static_cast<double>(n * block_tokens);
  state.counters["GB/s"] = 1e-9 * static_cast<double>(n * one) / median(times);
  state.counters["of_mapped"] = median(of_mapped);
  state.counters["of_memory"] = median(of_memory);
  state.counters["mapped_GB/s"] = median(mapped_speed);
  state.counters["memory_GB/s"] = median(memory_speed);
}

// Maps and verifies.
void restore_verified(benchmark::State& state) {
  files& f = written();
  if (!f.good) return state.SkipWithError("what came back is not what was written");
  auto from = f.open(verify_when::before_use);
  inline_executor alone;
  beside_plain_reads(state, alone, [&](const auto& list) { return f.load(from, list); });
}

// The same by two workers, beside plain reads by two.
void restore_verified_by_two(benchmark::State& state) {
  files& f = written();
  thread_executor pool(2);
  auto from = f.open(verify_when::before_use, executor_ref(pool));
  beside_plain_reads(state, pool, [&](const auto& list) { return f.load(from, list); });
}

// Maps all blocks and reads no layer: what a request waits for before it places them.
void restore_lazily(benchmark::State& state) {
  files& f = written();
  auto from = f.open(verify_when::by_layer);
  for (auto _ : state) {
    std::vector<block_handle> held;
    for (const auto& list : f.ids) held.push_back(f.load(from, list));
    benchmark::DoNotOptimize(held.data());
  }
  state.counters["blocks"] = blocks;
}

// The same, and then one block of the 64 is needed: only its pages are waited for.
void restore_lazily_use_one(benchmark::State& state) {
  files& f = written();
  auto from = f.open(verify_when::by_layer);
  for (auto _ : state) {
    std::vector<block_handle> held;
    for (const auto& list : f.ids) held.push_back(f.load(from, list));
    if (!held[17]->verify()) state.SkipWithError("damaged");
  }
}

// Mapped, and then verified block by block, layer by layer.
void restore_lazily_use_all(benchmark::State& state) {
  files& f = written();
  auto from = f.open(verify_when::by_layer);
  inline_executor alone;
  beside_plain_reads(state, alone, [&](const auto& list) {
    auto block = f.load(from, list);
    if (!block->verify()) state.SkipWithError("damaged");
    return block;
  });
}

// What a loader that copies does: reads the files into memory of its own, and checks nothing.
void read_into_memory(benchmark::State& state) {
  files& f = written();
  auto from = f.open(verify_when::before_use);
  for (auto _ : state) {
    std::vector<mapped_file> held;
    for (const auto& list : f.ids) held.push_back(mapped_file::read(from.path_of(key_of(f.encoder.realm(), list))).value());
    benchmark::DoNotOptimize(held.data());
    state.PauseTiming();
    held.clear();
    state.ResumeTiming();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(all_bytes) * state.iterations());
}

// Encoded blocks to flushed, named files: header with checksums, data, two flushes each. Range: how many blocks.
void write(benchmark::State& state) {
  files& f = written();
  auto to = f.open(verify_when::before_use);
  const auto n = static_cast<std::size_t>(state.range(0));
  std::vector<block_handle> made;
  for (std::size_t b = 0; b < n; ++b) made.push_back(encode_block(f.encoder, f.ids[b]).value());
  for (auto _ : state) {
    state.PauseTiming();
    for (const auto& block : made) (void)to.erase(block->key());
    state.ResumeTiming();
    for (const auto& block : made)
      if (!to.save(f.encoder.realm(), block)) state.SkipWithError("not written");
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(n * shape.payload_bytes(block_tokens)) * state.iterations());
}

BENCHMARK(restore_verified)->Arg(8)->Arg(64)->Unit(benchmark::kMillisecond)->Iterations(15)->UseManualTime();
BENCHMARK(restore_verified_by_two)->Arg(64)->Unit(benchmark::kMillisecond)->Iterations(15)->UseManualTime();
BENCHMARK(restore_lazily)->Unit(benchmark::kMillisecond)->MinTime(0.2);
BENCHMARK(restore_lazily_use_one)->Unit(benchmark::kMillisecond)->MinTime(0.2);
BENCHMARK(restore_lazily_use_all)->Arg(64)->Unit(benchmark::kMillisecond)->Iterations(15)->UseManualTime();
BENCHMARK(read_into_memory)->Unit(benchmark::kMillisecond)->Iterations(2);
BENCHMARK(write)->Arg(8)->Unit(benchmark::kMillisecond)->Iterations(2)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
