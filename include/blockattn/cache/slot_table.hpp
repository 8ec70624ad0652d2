// SPDX-License-Identifier: MIT
/// The index of a store: keys to slots, slots to blocks or to whoever is encoding them, and the eviction order.
#pragma once

#include <cstddef>
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

namespace blockattn::inline v0 {

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
    std::size_t claim = 0;     // which claim of `coming`
    slot_id next_free = none;  // while it is not in use

    [[nodiscard]] std::span<const token> tokens() const noexcept {
      return block != nullptr ? block->tokens() : coming->claims[claim].tokens;
    }
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
  void fill(slot_id at, const block_handle& block) noexcept {
    slots_[at].coming.reset();
    slots_[at].block = block;
    eviction_.inserted(at, {block->bytes(), block->encode_ns(), block->key().value.low});
  }
  /// Takes the block out of its slot, and the slot back.
  [[nodiscard]] block_handle remove(slot_id at) noexcept {
    block_handle block = std::move(slots_[at].block);
    eviction_.erased(at);
    release(at, block->key());
    return block;
  }
  void touch(slot_id at) noexcept { eviction_.touched(at); }

  /// The block that the policy would have leave to free `bytes`, if evicting can free as many. Without that condition a
  /// block that fits nowhere would first empty the store. Complexity: linear in the blocks that are held outside.
  [[nodiscard]] std::optional<slot_id> victim(std::size_t bytes) noexcept {
    // New handles come from the store under the lock or from handles outside; so if there are none outside, none can
    // appear while the lock is held.
    const auto evictable = [this](slot_id at) noexcept {
      return slots_[at].block != nullptr && slots_[at].block.use_count() == 1;
    };
    std::size_t sum = 0;
    for (slot_id at = 0; at < slots_.size() && sum < bytes; ++at)
      if (evictable(at)) sum += slots_[at].block->bytes();
    if (sum < bytes) return std::nullopt;
    return eviction_.victim(evictable);
  }

 private:
  template <class T>
  using rebound = typename std::allocator_traits<Allocator>::template rebind_alloc<T>;

  Eviction eviction_;
  std::vector<slot, rebound<slot>> slots_;
  std::unordered_map<block_key, slot_id, std::hash<block_key>, std::equal_to<block_key>,
                     rebound<std::pair<const block_key, slot_id>>>
      index_;
  slot_id free_ = none;  // the first slot not in use
};

}  // namespace blockattn::inline v0
