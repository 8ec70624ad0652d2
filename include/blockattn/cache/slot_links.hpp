// SPDX-License-Identifier: MIT
/// Queues of slots in one array of links: what eviction policies are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// A place in a store. Numbers are small and are used again after `erased`.
using slot_id = std::uint32_t;

/// Links of slots, and queues over them. A slot is in at most one queue. Only `reserve` allocates; all else is constant
/// time. Not thread-safe.
template <class Allocator = std::allocator<std::byte>>
class slot_links {
 public:
  static constexpr slot_id none = std::numeric_limits<slot_id>::max();

  /// First in, first out: `oldest` leads along `newer` to `newest`.
  struct queue {
    slot_id newest = none;
    slot_id oldest = none;
  };

  explicit slot_links(const Allocator& allocator = Allocator()) : links_(allocator) {}

  void reserve(std::size_t n) {
    if (n > links_.size()) links_.resize(n);
  }
  [[nodiscard]] slot_id newer(slot_id slot) const noexcept { return links_[slot].newer; }
  void push(queue& q, slot_id slot) noexcept {
    links_[slot] = {none, q.newest};
    (q.newest == none ? q.oldest : links_[q.newest].newer) = slot;
    q.newest = slot;
  }
  void remove(queue& q, slot_id slot) noexcept {
    const link at = links_[slot];
    (at.newer == none ? q.newest : links_[at.newer].older) = at.older;
    (at.older == none ? q.oldest : links_[at.older].newer) = at.newer;
  }

 private:
  struct link {
    slot_id newer = none;
    slot_id older = none;
  };
  std::vector<link, typename std::allocator_traits<Allocator>::template rebind_alloc<link>> links_;  // by slot
};

}  // namespace blockattn::inline v0
