// SPDX-License-Identifier: MIT
// Looking up blocks in a store: nanoseconds per find at 1e3 and 1e6 keys, from one thread and from eight, behind one lock
// and behind sixteen; and what an eviction costs.
//
//     store_bench --benchmark_filter=find
#include <algorithm>
#include <mutex>
#include <random>
#include <vector>

#include <benchmark/benchmark.h>

#include <blockattn/cache/gdsf.hpp>
#include <blockattn/cache/kv_store.hpp>
#include <blockattn/cache/s3_fifo.hpp>

namespace ba = blockattn;

namespace {

// Blocks of one token and next to no bytes: what is timed is the index.
struct tiny_encoder {
  ba::block_realm realm_ = {};
  const ba::block_realm& realm() const { return realm_; }
  ba::kv_shape shape() const { return {1, 1, 2, ba::dtype::bf16}; }
  ba::result<void> encode_into(std::span<const std::span<const ba::token>> lists, std::span<std::byte* const> payloads) {
    for (std::size_t i = 0; i < lists.size(); ++i)
      std::fill_n(payloads[i], shape().payload_bytes(lists[i].size()), std::byte{0});
    return {};
  }
};

template <class Store>
struct full_store {
  Store store{{.budget_bytes = std::size_t{8} << 30}};
  std::vector<ba::token> ids;
  std::vector<ba::block_key> keys;

  explicit full_store(std::size_t n) : ids(n), keys(n) {
    tiny_encoder encoder;
    for (std::size_t i = 0; i < n; ++i) {
      ids[i] = static_cast<ba::token>(i);
      const std::span<const ba::token> list(&ids[i], 1);
      keys[i] = key_of(encoder.realm(), list);
      (void)store.find_or_encode(std::span(&list, 1), encoder).value();
    }
  }
};

template <class Store>
void find(benchmark::State& state) {
  static full_store<Store>* shared = nullptr;  // built by the first thread, before the others are let go
  if (state.thread_index() == 0) shared = new full_store<Store>(static_cast<std::size_t>(state.range(0)));
  std::mt19937 random(static_cast<std::uint32_t>(state.thread_index()));
  for (auto _ : state) {
    const std::size_t i = random() % shared->keys.size();
    auto block = shared->store.find(shared->keys[i], {&shared->ids[i], 1});
    if (block == nullptr) state.SkipWithError("a block is missing");
    benchmark::DoNotOptimize(block);
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() == 0) {
    delete shared;
    shared = nullptr;
  }
}

// Every request misses: one block comes, one goes.
template <class Eviction>
void replace(benchmark::State& state) {
  tiny_encoder encoder;
  const std::size_t one = ba::kv_block::bytes_for(encoder.shape(), 1);
  ba::kv_store<Eviction> store{{.budget_bytes = one * static_cast<std::size_t>(state.range(0))}};
  ba::token next = 0;
  const auto ask = [&] {
    const ba::token id = next++;
    const std::span<const ba::token> list(&id, 1);
    (void)store.find_or_encode(std::span(&list, 1), encoder).value();
  };
  for (std::int64_t i = 0; i < state.range(0); ++i) ask();
  for (auto _ : state) ask();
  if (store.counters().blocks != static_cast<std::size_t>(state.range(0))) state.SkipWithError("the store is not full");
}

using one_lock = ba::kv_store<ba::lru, std::mutex>;
using sixteen_locks = ba::kv_store<ba::lru, ba::sharded<std::mutex, 16>>;
using unlocked = ba::kv_store<ba::lru, ba::no_lock>;

}  // namespace

BENCHMARK_TEMPLATE(find, unlocked)->Arg(1000)->Arg(1000000);
BENCHMARK_TEMPLATE(find, one_lock)->Arg(1000)->Arg(1000000)->Threads(1)->Threads(8)->UseRealTime();
BENCHMARK_TEMPLATE(find, sixteen_locks)->Arg(1000)->Arg(1000000)->Threads(1)->Threads(8)->UseRealTime();
BENCHMARK_TEMPLATE(replace, ba::lru)->Arg(1000)->Arg(100000);
BENCHMARK_TEMPLATE(replace, ba::s3_fifo)->Arg(1000)->Arg(100000);
BENCHMARK_TEMPLATE(replace, ba::gdsf)->Arg(1000)->Arg(100000);

BENCHMARK_MAIN();
