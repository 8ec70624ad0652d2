// SPDX-License-Identifier: MIT
// Prefill after warm-up, decode, sampling and block encoding allocate nothing: every operator new of the process is
// counted, whichever allocator asked.
#include <cstdlib>
#include <new>

#include "support.hpp"

namespace {
std::atomic<std::size_t> allocations{0};

void* counted(std::size_t bytes, std::size_t align) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = std::aligned_alloc(align, blockattn::round_up(bytes == 0 ? 1 : bytes, align));
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t align) { return counted(bytes, static_cast<std::size_t>(align)); }
// The sanitizer's own nothrow form would hand out memory that the deletes below cannot take back.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

using namespace blockattn_test;

TEST_CASE("prefill after warm-up, decode, sampling and encoding allocate nothing", "[session][allocation]") {
  const auto config = small_config(16, 4, 2);
  const random_model weights(config);
  const auto model = ba::llama<>::bind(weights.source()).value();
  for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
    for (const std::size_t workers : {std::size_t{1}, std::size_t{3}}) {
      ba::thread_executor pool(workers);
      ba::session session(model, pool, {.batch_tokens = 32});
      const auto blocks = random_blocks({40, 30, 70, 50}, config.vocab);
      std::vector<ba::block_handle> handles;
      for (std::size_t i = 0; i < 3; ++i) handles.push_back(session.encode(blocks[i]).value());
      ba::context context(session, {.room = 256, .position = policy});
      (void)context.assemble(handles).value();

      const ba::kv_shape kv = session.shape();
      std::vector<std::byte> memory(kv.payload_bytes(70) + 64);
      const auto at = reinterpret_cast<std::uintptr_t>(memory.data());
      std::byte* const payloads[] = {memory.data() + (ba::round_up(at, 64) - at)};
      const std::span<const ba::token> lists[] = {blocks[2]};
      auto sampler = ba::sampler::make({.temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .repetition_penalty = 1.1f}).value();

      const auto round = [&] {
        bool ok = session.encode_into(lists, payloads).has_value();
        ok = ok && session.prefill(context, blocks[3]).has_value();
        for (int i = 0; i < 8; ++i)
          ok = ok && session.decode(context, sampler(session.logits_to_sample(context), context.tail_tokens())).has_value();
        return ok && context.rewind(blocks[3].size() + 8).has_value();
      };
      // Scratch grows in the first round and is merged into one piece by the next.
      CHECK(round());
      CHECK(round());
      const std::size_t before = allocations.load();
      const bool ok = round();
      const std::size_t after = allocations.load();
      CHECK(ok);
      CHECK(after - before == 0);
    }
  }
}
