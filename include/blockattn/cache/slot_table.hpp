// SPDX-License-Identifier: MIT
/// The index of a store: keys to slots, slots to blocks or to whoever is encoding them, and the eviction order.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "block.hpp"
#include "eviction.hpp"
#include "flight.hpp"
#include "key.hpp"
#include "request.hpp"

namespace blockattn::inline v0 {

/// On which terms a block stays.
struct block_terms {
  static constexpr std::chrono::steady_clock::time_point no_deadline = std::chrono::steady_clock::time_point::max();

  owner_id owner = 0;
  block_priority priority = block_priority::normal;
  std::chrono::steady_clock::time_point deadline = no_deadline;
  std::shared_ptr<const block_realm> unsaved = {};  // set if tiers are to have it before it leaves
};

/// Not thread-safe: a store calls it under its lock. Only `take` allocates, and what it takes is enough for all that
/// follows, so that publishing a block cannot fail.
template <eviction_policy Eviction, class Allocator>
class slot_table {
 public:
  static constexpr slot_id none = encoding_flight::no_slot;

  /// In use, a slot holds a block, or announces one that `coming` is encoding.
  struct slot {
    block_handle block = {};
    std::shared_ptr<encoding_flight> coming = {};
    std::span<const token> announced = {};  // the claim's tokens
    std::uint32_t claim = 0;                // which claim of `coming`
    slot_id next_free = none;               // while it is not in use
    block_terms terms = {};                 // of the block

    [[nodiscard]] std::span<const token> tokens() const noexcept {
      return block != nullptr ? block->tokens() : announced;
    }
  };

  /// Which blocks may leave: those that nobody holds, up to a priority, and perhaps of one owner only.
  struct choice {
    block_priority most = block_priority::high;
    std::optional<owner_id> owner = std::nullopt;
  };

  slot_table(Eviction eviction, const Allocator& allocator)
      : eviction_(std::move(eviction)), slots_(allocator), index_(allocator) {}

  /// The slot of a key, or `none`.
  [[nodiscard]] slot_id find(const block_key& key) const noexcept {
    const auto at = index_.find(key);
    return at == index_.end() ? none : at->second;
  }
  [[nodiscard]] slot& operator[](slot_id at) noexcept { return slots_[at]; }
  [[nodiscard]] const slot& operator[](slot_id at) const noexcept { return slots_[at]; }
  /// Slots in use and not.
  [[nodiscard]] std::size_t size() const noexcept { return slots_.size(); }

  /// A slot for a key that has none. Strong guarantee.
  [[nodiscard]] slot_id take(const block_key& key) {
    if (free_ == none) {
      slots_.emplace_back();
      free_ = static_cast<slot_id>(slots_.size() - 1);
    }
    eviction_.reserve(slots_.capacity());
    index_.emplace(key, free_);
    const slot_id taken = free_;
    free_ = std::exchange(slots_[taken].next_free, none);
    return taken;
  }
  /// Takes back a slot that holds no block.
  void release(slot_id at, const block_key& key) noexcept {
    index_.erase(key);
    slots_[at] = slot();
    slots_[at].next_free = std::exchange(free_, at);
  }
  /// Puts a block into a slot without one.
  void fill(slot_id at, const block_handle& block, const block_terms& terms) noexcept {
    slots_[at].coming.reset();
    slots_[at].announced = {};
    slots_[at].block = block;
    slots_[at].terms = terms;
    ++of_priority(terms.priority);
    eviction_.inserted(at, {block->bytes(), block->encode_ns(), block->key().value.low});
  }
  /// Takes the block out of its slot, and the slot back.
  [[nodiscard]] block_handle remove(slot_id at) noexcept {
    block_handle block = std::move(slots_[at].block);
    --of_priority(slots_[at].terms.priority);
    eviction_.erased(at);
    release(at, block->key());
    return block;
  }
  void touch(slot_id at) noexcept { eviction_.touched(at); }

  void raise(slot_id at, block_priority priority) noexcept {
    if (priority <= slots_[at].terms.priority) return;
    --of_priority(slots_[at].terms.priority);
    ++of_priority(slots_[at].terms.priority = priority);
  }

  /// How many bytes could leave; stops counting at `enough`. Complexity: linear in the blocks that may not leave.
  [[nodiscard]] std::size_t evictable_bytes(const choice& which, std::size_t enough) const noexcept {
    std::size_t sum = 0;
    for (slot_id at = 0; at < slots_.size() && sum < enough; ++at)
      if (slots_[at].terms.priority <= which.most && evictable(at, which)) sum += slots_[at].block->bytes();
    return sum;
  }
  /// The block that the policy would have leave: among those of the lowest priority, if one of them may.
  [[nodiscard]] std::optional<slot_id> victim(const choice& which) noexcept {
    for (std::size_t level = 0; level <= static_cast<std::size_t>(which.most); ++level) {
      if (blocks_of_[level] == 0) continue;
      const auto may_leave = [&](slot_id at) noexcept {
        return static_cast<std::size_t>(slots_[at].terms.priority) == level && evictable(at, which);
      };
      if (const auto found = eviction_.victim(may_leave)) return found;
    }
    return std::nullopt;
  }

 private:
  template <class T>
  using rebound = typename std::allocator_traits<Allocator>::template rebind_alloc<T>;

  // New handles come from the store under the lock or from handles outside; so if there are none outside, none can
  // appear while the lock is held.
  [[nodiscard]] bool evictable(slot_id at, const choice& which) const noexcept {
    const slot& s = slots_[at];
    return s.block != nullptr && s.block.use_count() == 1 && (!which.owner || s.terms.owner == *which.owner);
  }
  std::size_t& of_priority(block_priority priority) noexcept { return blocks_of_[static_cast<std::size_t>(priority)]; }

  Eviction eviction_;
  std::array<std::size_t, block_priorities> blocks_of_{};  // by priority
  std::vector<slot, rebound<slot>> slots_;
  std::unordered_map<block_key, slot_id, std::hash<block_key>, std::equal_to<block_key>,
                     rebound<std::pair<const block_key, slot_id>>>
      index_;
  slot_id free_ = none;  // the first slot not in use
};

}  // namespace blockattn::inline v0
