// SPDX-License-Identifier: MIT
// Memory from where you want it: weights, blocks, contexts and scratch each from a memory resource that counts.
//
// Any std-style allocator works; std::pmr is used here because then all types are the same whatever the resource. The
// resource behind a store must be thread-safe if the store is shared, and must outlive every block handle.
#include <blockattn/blockattn.hpp>
#include <blockattn/model/random_weights.hpp>

#include <atomic>
#include <iostream>
#include <memory_resource>
#include <vector>

namespace ba = blockattn;
using pmr_bytes = std::pmr::polymorphic_allocator<std::byte>;

class counting_resource : public std::pmr::memory_resource {
 public:
  explicit counting_resource(const char* name) : name_(name) {}
  ~counting_resource() override { std::cout << name_ << ": " << bytes_ << " bytes left\n"; }
  std::size_t bytes() const { return bytes_; }
  std::size_t calls() const { return calls_; }

 private:
  // Your huge pages, NUMA node, pool or budget go here. Payload asks for 64-byte boundaries.
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    void* const memory = std::pmr::new_delete_resource()->allocate(bytes, alignment);
    bytes_ += bytes;
    ++calls_;
    return memory;
  }
  void do_deallocate(void* at, std::size_t bytes, std::size_t alignment) override {
    bytes_ -= bytes;
    std::pmr::new_delete_resource()->deallocate(at, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  const char* name_;
  std::atomic<std::size_t> bytes_ = 0, calls_ = 0;
};

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  counting_resource for_weights("weights"), for_blocks("blocks"), for_context("context"), for_scratch("scratch");

  // region: body
  using model_type = ba::llama<ba::native_kernels, pmr_bytes>;
  const auto model = model_type::bind(ba::random_weights(config), {}, pmr_bytes(&for_weights)).value();

  // The last argument of every constructor is the allocator.
  ba::session chat(model, ba::inline_executor{}, ba::session_options{.kv = ba::dtype::f32}, pmr_bytes(&for_scratch));
  using storage = ba::heap_storage<pmr_bytes>;
  ba::kv_store<ba::lru, std::mutex, storage> store({.budget_bytes = 1 << 20}, storage(pmr_bytes(&for_blocks)));
  ba::basic_context<pmr_bytes> context(chat, {.room = 64}, pmr_bytes(&for_context));
  // endregion: body

  const std::vector<std::vector<ba::token>> passages{{10, 11, 12, 13, 14}, {20, 21, 22}, {30, 31, 32, 33}};
  const std::vector<ba::token> question{1, 2, 3, 4};
  std::size_t calls = 0;
  for (int round = 0; round < 3; ++round) {
    context.assemble(store.find_or_encode(passages, chat).value()).value();
    const std::size_t before = for_scratch.calls() + for_context.calls();
    chat.prefill(context, question).value();
    for ([[maybe_unused]] ba::token id : chat.generate(context, ba::greedy{}, {.max_tokens = 8})) continue;
    calls = for_scratch.calls() + for_context.calls() - before;
    std::cout << "round " << round << ": weights " << for_weights.bytes() << ", blocks " << for_blocks.bytes()
              << ", context " << for_context.bytes() << ", scratch " << for_scratch.bytes() << " bytes; " << calls
              << " allocations by prefill and generation\n";
  }
  // Besides blocks, a store keeps its index and the keys that left it lately: that is not a part of its budget.
  std::cout << "counted against the budget of the store: " << store.counters().bytes << " bytes\n";
  return calls == 0 && for_weights.bytes() != 0 && for_blocks.bytes() != 0 ? 0 : 1;  // silent after the warm-up
}
