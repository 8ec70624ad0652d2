// SPDX-License-Identifier: MIT
/// The memory of a store: tables of blocks under one hard budget, each behind its own lock.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "account.hpp"
#include "block.hpp"
#include "eviction.hpp"
#include "explain.hpp"
#include "flight.hpp"
#include "key.hpp"
#include "lock.hpp"
#include "request.hpp"
#include "slot_table.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// What a store holds in memory, and who may stay. Thread-safe where it says nothing else; members that take a `shard&`
/// want its lock held. Blocks that leave are handed out, so that they are saved and freed outside the lock.
template <eviction_policy Eviction, class Lock, class Allocator>
class block_memory {
 public:
  using lock_type = typename detail::lock_traits<Lock>::type;
  using table_type = slot_table<Eviction, Allocator>;
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr std::size_t shard_count = detail::lock_traits<Lock>::shards;
  static constexpr slot_id none = table_type::none;

  /// A part of the keys.
  struct alignas(64) shard {
    shard(Eviction eviction, const Allocator& allocator, std::size_t remembered)
        : table(std::move(eviction), allocator), gone(remembered, allocator) {}
    mutable lock_type lock;
    table_type table;
    departures<Allocator> gone;
    kv_store_counters counters;  // but for the bytes: the account knows
    time_point next_deadline = block_terms::no_deadline;  // no block expires before
  };
  /// A block that has left, and for whom it must be saved, if it must.
  struct departed {
    block_handle block = {};
    std::shared_ptr<const block_realm> unsaved = {};
  };

  block_memory(std::size_t budget, std::size_t remembered, time_point (*now)() noexcept, Eviction eviction,
               const Allocator& allocator)
      : account_(std::allocate_shared<byte_account>(allocator, budget)),
        owners_(allocator),
        allocator_(allocator),
        now_(now),
        shards_(make_shards(eviction, (remembered + shard_count - 1) / shard_count,
                            std::make_index_sequence<shard_count>())) {}

  [[nodiscard]] shard& shard_of(const block_key& key) noexcept { return shards_[key.value.high % shard_count]; }
  [[nodiscard]] const shard& shard_of(const block_key& key) const noexcept {
    return shards_[key.value.high % shard_count];
  }
  [[nodiscard]] std::array<shard, shard_count>& shards() noexcept { return shards_; }
  [[nodiscard]] const byte_account& account() const noexcept { return *account_; }

  // ---- Under the lock of a shard.

  /// The slot of these tokens or `none`; whether another text has the key; and a block whose time is over, taken out.
  struct lookup {
    slot_id at = none;
    bool collision = false;
  };
  [[nodiscard]] lookup find(shard& s, const block_key& key, std::span<const token> ids, departed& expired) noexcept {
    const slot_id at = s.table.find(key);
    if (at == none) return {};
    if (s.next_deadline != block_terms::no_deadline && s.table[at].block != nullptr &&
        s.table[at].terms.deadline <= now_()) {
      expired = depart(s, at, block_outcome::expired);
      return {};
    }
    if (!std::ranges::equal(s.table[at].tokens(), ids)) return {none, true};
    return {at, false};
  }
  block_handle hit(shard& s, slot_id at, const kv_request& request) noexcept {
    ++s.counters.hits;
    s.table.touch(at);
    block_terms& terms = s.table[at].terms;
    s.table.raise(at, request.priority);
    if (terms.deadline != block_terms::no_deadline && request.time_to_live.count() > 0)
      terms.deadline = std::max(terms.deadline, deadline(request));
    return s.table[at].block;
  }
  void fill(shard& s, slot_id at, const block_handle& block, const block_terms& terms) noexcept {
    s.table.fill(at, block, terms);
    s.next_deadline = std::min(s.next_deadline, terms.deadline);
    ++s.counters.insertions;
    ++s.counters.blocks;
  }
  [[nodiscard]] departed depart(shard& s, slot_id at, block_outcome why) noexcept {
    std::shared_ptr<const block_realm> unsaved = std::move(s.table[at].terms.unsaved);
    block_handle block = s.table.remove(at);
    s.gone.note(block->key(), why);
    ++(why == block_outcome::evicted   ? s.counters.evictions
       : why == block_outcome::expired ? s.counters.expirations
                                       : s.counters.erasures);
    --s.counters.blocks;
    return {std::move(block), std::move(unsaved)};
  }

  // ---- Without a lock.

  [[nodiscard]] block_terms terms(const kv_request& request) const noexcept {
    return {request.owner, request.priority,
            request.time_to_live.count() > 0 ? deadline(request) : block_terms::no_deadline, nullptr};
  }

  /// What an owner may use. Complexity: linear in the owners that have a quota.
  void set_quota(owner_id owner, std::size_t bytes) {
    const std::lock_guard guard(owners_lock_);
    for (auto& [id, account] : owners_)
      if (id == owner) return account->set_budget(bytes);
    owners_.emplace_back(owner, std::allocate_shared<byte_account>(allocator_, bytes));
  }
  [[nodiscard]] std::shared_ptr<byte_account> account_of(owner_id owner) const noexcept {
    if (owner == 0) return nullptr;
    const std::lock_guard guard(owners_lock_);
    for (const auto& [id, account] : owners_)
      if (id == owner) return account;
    return nullptr;
  }

  /// Takes `bytes` of the owner's quota and of the budget, evicting for them one block at a time; each goes through
  /// `left(departed&&)`. If nothing can leave, `help()` may free something: false if it cannot. On failure, says why.
  template <class Left, class Help>
  [[nodiscard]] std::optional<byte_charge> charge(std::size_t bytes, const kv_request& request, block_outcome& why,
                                                  Left&& left, Help&& help) {
    byte_charge own;
    if (auto account = account_of(request.owner)) {
      why = block_outcome::over_quota;
      if (!take(*account, bytes, {request.priority, request.owner}, left, help)) return std::nullopt;
      own = byte_charge(std::move(account), bytes);
    }
    why = block_outcome::too_large;
    if (!take(*account_, bytes, {request.priority, std::nullopt}, left, help)) return std::nullopt;
    return byte_charge(account_, bytes, std::move(own));
  }

  /// Takes out what has expired. Returns how many.
  template <class Left>
  std::size_t expire(Left&& left) {
    std::size_t out = 0;
    for (shard& s : shards_) out += expire(s, left);
    return out;
  }

  [[nodiscard]] kv_store_counters counters() const {
    kv_store_counters sum;
    for (const shard& s : shards_) {
      const std::lock_guard guard(s.lock);
      sum += s.counters;
    }
    sum.bytes = account_->used();
    sum.peak_bytes = account_->peak();
    sum.budget_bytes = account_->budget();
    return sum;
  }

 private:
  using choice = typename table_type::choice;
  using owner_account = std::pair<owner_id, std::shared_ptr<byte_account>>;

  template <std::size_t... I>
  std::array<shard, shard_count> make_shards(Eviction& eviction, std::size_t remembered,
                                             std::index_sequence<I...>) {
    return {{make_shard<I>(eviction, remembered)...}};
  }
  // The last takes the policy itself: a copy of a polymorphic allocator would be another one.
  template <std::size_t I>
  shard make_shard(Eviction& eviction, std::size_t remembered) const {
    if constexpr (I + 1 == shard_count) {
      return shard(std::move(eviction), allocator_, remembered);
    } else {
      return shard(eviction, allocator_, remembered);
    }
  }
  [[nodiscard]] time_point deadline(const kv_request& request) const noexcept {
    const time_point now = now_();
    return request.time_to_live < block_terms::no_deadline - now ? now + request.time_to_live
                                                                 : block_terms::no_deadline;
  }

  template <class Left, class Help>
  bool take(byte_account& account, std::size_t bytes, const choice& which, Left& left, Help& help) {
    while (!account.try_take(bytes)) {
      if (expire(left) != 0) continue;
      const std::size_t budget = account.budget(), used = account.used();
      if (bytes > budget) return false;
      if (used <= budget - bytes) continue;  // a handle died meanwhile
      if (!evict(used - (budget - bytes), which, left) && !help()) return false;
    }
    return true;
  }

  // Evicts one block, if all evictions together could free `bytes`. Without that condition a block that fits nowhere
  // would first empty the store.
  template <class Left>
  bool evict(std::size_t bytes, const choice& which, Left& left) {
    std::size_t sum = 0;
    for (const shard& s : shards_) {
      const std::lock_guard guard(s.lock);
      sum += s.table.evictable_bytes(which, bytes - sum);
      if (sum >= bytes) break;
    }
    if (sum < bytes) return false;
    const std::size_t first = turn_.fetch_add(1, std::memory_order_relaxed);
    for (std::size_t k = 0; k < shard_count; ++k) {
      departed gone;
      {
        shard& s = shards_[(first + k) % shard_count];
        const std::lock_guard guard(s.lock);
        const std::optional<slot_id> victim = s.table.victim(which);
        if (!victim) continue;
        gone = depart(s, *victim, block_outcome::evicted);
      }
      left(std::move(gone), block_outcome::evicted);
      return true;
    }
    return false;
  }

  template <class Left>
  std::size_t expire(shard& s, Left& left) {
    std::size_t out = 0;
    for (;;) {
      departed gone;
      {
        const std::lock_guard guard(s.lock);
        if (s.next_deadline == block_terms::no_deadline) return out;
        const time_point now = now_();
        if (s.next_deadline > now) return out;
        time_point next = block_terms::no_deadline;
        slot_id over = none;
        for (slot_id at = 0; at < s.table.size() && over == none; ++at) {
          if (s.table[at].block == nullptr) continue;
          const time_point deadline = s.table[at].terms.deadline;
          if (deadline <= now) over = at;
          next = std::min(next, deadline);
        }
        if (over == none) {
          s.next_deadline = next;
          return out;
        }
        gone = depart(s, over, block_outcome::expired);
      }
      left(std::move(gone), block_outcome::expired);
      ++out;
    }
  }

  std::shared_ptr<byte_account> account_;
  mutable lock_type owners_lock_;
  std::vector<owner_account, typename std::allocator_traits<Allocator>::template rebind_alloc<owner_account>> owners_;
  Allocator allocator_;
  time_point (*now_)() noexcept;
  std::array<shard, shard_count> shards_;
  std::atomic<std::size_t> turn_{0};  // which shard evicts next
};

}  // namespace blockattn::inline v0
