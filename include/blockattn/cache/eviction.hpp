// SPDX-License-Identifier: MIT
/// Which block goes first when a store is full. A policy sees slot numbers, never blocks, so it is small and is tested
/// alone.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

#include "../core/config.hpp"
#include "slot_links.hpp"

namespace blockattn::inline v0 {

/// What a policy may want to know of a new block.
struct entry_info {
  std::size_t bytes = 0;        // what leaves with the block
  std::uint64_t encode_ns = 0;  // what it costs to have it back; 0: unknown
  std::uint64_t name = 0;       // equal for equal keys: a policy may know a block that comes back
};

/// A borrowed predicate `bool(slot_id) noexcept`: whether a slot may be evicted now. Blocks that somebody holds may
/// not.
class evictable_ref {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, evictable_ref> && std::is_nothrow_invocable_r_v<bool, F&, slot_id>)
  evictable_ref(F& callable) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, slot_id slot) noexcept -> bool { return (*static_cast<F*>(object))(slot); }) {}

  bool operator()(slot_id slot) const noexcept { return call_(object_, slot); }

 private:
  void* object_;
  bool (*call_)(void*, slot_id) noexcept;
};

/// What a store asks of an eviction policy. All calls are made under the store's lock.
/// - `reserve(n)`: prepares for slots below n; the only call that may allocate. n never shrinks.
/// - `inserted(slot, info)`, `touched(slot)`, `erased(slot)`: a block came, was used, left. An evicted block is erased.
/// - `victim(evictable)`: a slot that came and did not leave, and for which `evictable` is true; or none. It changes
///   nothing but the policy's own order: the store erases.
template <class P>
concept eviction_policy = requires(P& p, slot_id slot, const entry_info& info, std::size_t n, evictable_ref evictable) {
  p.reserve(n);
  { p.inserted(slot, info) } noexcept;
  { p.touched(slot) } noexcept;
  { p.erased(slot) } noexcept;
  { p.victim(evictable) } noexcept -> std::same_as<std::optional<slot_id>>;
};

/// Never evicts: a full store takes no more. The policy that documents the concept.
struct keep_all {
  void reserve(std::size_t) noexcept {}
  void inserted(slot_id, const entry_info&) noexcept {}
  void touched(slot_id) noexcept {}
  void erased(slot_id) noexcept {}
  [[nodiscard]] std::optional<slot_id> victim(evictable_ref) noexcept { return std::nullopt; }
};

/// The least recently used block goes first. All calls are constant time, but `victim`, which steps over the blocks
/// that are held: linear in those.
template <class Allocator = std::allocator<std::byte>>
class basic_lru {
 public:
  explicit basic_lru(const Allocator& allocator = Allocator()) : links_(allocator) {}

  void reserve(std::size_t n) { links_.reserve(n); }
  void inserted(slot_id slot, const entry_info&) noexcept { links_.push(order_, slot); }
  void touched(slot_id slot) noexcept {
    if (slot == order_.newest) return;
    links_.remove(order_, slot);
    links_.push(order_, slot);
  }
  void erased(slot_id slot) noexcept { links_.remove(order_, slot); }
  [[nodiscard]] std::optional<slot_id> victim(evictable_ref evictable) noexcept {
    for (slot_id slot = order_.oldest; slot != links::none; slot = links_.newer(slot))
      if (evictable(slot)) return slot;
    return std::nullopt;
  }

 private:
  using links = slot_links<Allocator>;

  links links_;
  typename links::queue order_;
};

using lru = basic_lru<>;

}  // namespace blockattn::inline v0
