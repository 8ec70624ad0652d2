// SPDX-License-Identifier: MIT
// A store of your own parts: which block leaves first, where blocks live behind memory, who watches.
#include <blockattn/blockattn.hpp>
#include <blockattn/cache/background.hpp>
#include <blockattn/model/random_weights.hpp>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iostream>
#include <vector>

namespace ba = blockattn;

// region: policy
// The block that came first leaves first, however often it was used. A policy sees numbers of places, never blocks.
class first_in_first_out {
 public:
  void reserve(std::size_t n) { order_.reserve(n); }  // the only call that may allocate
  void inserted(ba::slot_id slot, const ba::entry_info&) noexcept { order_.push_back(slot); }
  void touched(ba::slot_id) noexcept {}
  void erased(ba::slot_id slot) noexcept { std::erase(order_, slot); }
  std::optional<ba::slot_id> victim(ba::evictable_ref evictable) noexcept {
    const auto at = std::find_if(order_.begin(), order_.end(), evictable);  // not those that somebody holds
    return at == order_.end() ? std::nullopt : std::optional(*at);
  }

 private:
  std::vector<ba::slot_id> order_;
};
static_assert(ba::eviction_policy<first_in_first_out>);
// endregion: policy

// region: hook
struct evictions_seen {
  std::atomic<int>* count;
  void operator()(const ba::store_event& e) const noexcept {
    if (e.action == ba::store_action::evict) ++*count;
  }
};
// endregion: hook

int main() {
  const ba::model_config config{.layers = 2, .dim = 64, .heads = 4, .kv_heads = 2, .head_dim = 16, .ffn = 128,
                                .vocab = 258, .rope = {.rotary_dim = 16}};
  const auto model = ba::llama<>::bind(ba::random_weights(config)).value();
  ba::session chat(model, ba::inline_executor{});
  const std::vector<std::vector<ba::token>> lore{{10, 11, 12, 13, 14}, {20, 21, 22}, {30, 31, 32, 33}};
  const std::size_t two = 2 * ba::kv_block::bytes_for(chat.shape(), 5);
  std::atomic<int> evicted = 0;

  // region: store
  ba::map_tier behind;  // a directory or a server in a program
  using store_type = ba::kv_store<first_in_first_out, std::mutex, ba::heap_storage<>, ba::tiers<ba::map_tier&>,
                                  evictions_seen>;
  store_type store({.budget_bytes = two}, ba::tiers<ba::map_tier&>(behind), evictions_seen{&evicted});
  ba::background_worker worker(store);  // this thread saves; without one, call store.drain() when you have time

  constexpr ba::owner_id smith = 7;  // a character of a game, with half of the memory
  store.set_quota(smith, two / 2).value();
  std::vector<ba::block_origin> origins;
  for (int round = 0; round < 2; ++round)
    for (const auto& passage : lore)
      (void)store.find_or_encode({&passage, 1}, chat, {.owner = smith, .origins = &origins}).value();
  // endregion: store

  for (const auto& e : store.explain(lore, chat.realm()))
    std::cout << e.tokens << " tokens: " << to_string(e.outcome) << ", in " << (e.where.empty() ? "-" : e.where) << "\n";
  std::cout << "evicted " << (evicted > 0 ? "some" : "none") << ", the last came from " << origins[0].where << "\n";
  return evicted > 0 && store.used_by(smith) <= two / 2 ? 0 : 1;
}
