// SPDX-License-Identifier: MIT
/// `s3_fifo`: three queues against blocks that come once and never again (a scan, a one-off document).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "eviction.hpp"
#include "ghost_list.hpp"
#include "slot_links.hpp"

namespace blockattn::inline v0 {

struct s3_fifo_options {
  std::size_t small_percent = 10;  ///< of the bytes held: how much newcomers may take before they must prove themselves
  std::uint8_t promote_at = 2;     ///< uses after the first that prove it
};

/// The algorithm of Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache eviction" (SOSP 2023), with
/// sizes in bytes. A newcomer waits in the small queue; used again, it moves to the main queue, otherwise it leaves and
/// only its name is remembered, for as many names as there are blocks. A block whose name is still known goes to the
/// main queue at once. There, a block that was used since it was last looked at gets another round.
///
/// `touched` is a saturating increment. `victim` is constant time on average, plus the blocks it steps over because
/// they are held.
template <class Allocator = std::allocator<std::byte>>
class basic_s3_fifo {
 public:
  explicit basic_s3_fifo(const Allocator& allocator = Allocator(), s3_fifo_options options = {})
      : options_(options), links_(allocator), blocks_(allocator), ghosts_(allocator) {}

  void reserve(std::size_t n) {
    links_.reserve(n);
    ghosts_.reserve(n);
    if (n > blocks_.size()) blocks_.resize(n);
  }
  void inserted(slot_id slot, const entry_info& info) noexcept {
    nominated_ = none;
    blocks_[slot] = {info.bytes, info.name, 0, ghosts_.take(info.name)};
    push(slot);
  }
  void touched(slot_id slot) noexcept {
    if (blocks_[slot].uses < most_uses) ++blocks_[slot].uses;
  }
  void erased(slot_id slot) noexcept {
    // A newcomer that goes because it was named as the victim is remembered; one that somebody erases is not.
    if (slot == std::exchange(nominated_, none) && !blocks_[slot].main)
      ghosts_.put(blocks_[slot].name, small_.blocks + main_.blocks);
    remove(slot);
  }
  [[nodiscard]] std::optional<slot_id> victim(evictable_ref evictable) noexcept {
    const bool small_first = main_.blocks == 0 || small_.bytes * 100 >= (small_.bytes + main_.bytes) *
                                                                           options_.small_percent;
    nominated_ = small_first ? from_small(evictable) : from_main(evictable);
    if (nominated_ == none) nominated_ = small_first ? from_main(evictable) : from_small(evictable);
    // Newcomers that moved to the main queue while it had been searched already.
    if (nominated_ == none && !small_first) nominated_ = from_main(evictable);
    return nominated_ == none ? std::nullopt : std::optional(nominated_);
  }

 private:
  using links = slot_links<Allocator>;
  static constexpr slot_id none = links::none;
  static constexpr std::uint8_t most_uses = 3;

  struct entry {
    std::size_t bytes = 0;
    std::uint64_t name = 0;
    std::uint8_t uses = 0;  // since it was inserted or last looked at
    bool main = false;      // which queue it is in
  };
  struct queue : links::queue {
    std::size_t bytes = 0;
    std::size_t blocks = 0;
  };

  queue& queue_of(slot_id slot) noexcept { return blocks_[slot].main ? main_ : small_; }
  void push(slot_id slot) noexcept {
    queue& q = queue_of(slot);
    links_.push(q, slot);
    q.bytes += blocks_[slot].bytes;
    ++q.blocks;
  }
  void remove(slot_id slot) noexcept {
    queue& q = queue_of(slot);
    links_.remove(q, slot);
    q.bytes -= blocks_[slot].bytes;
    --q.blocks;
  }
  slot_id from_small(evictable_ref evictable) noexcept {
    for (slot_id slot = small_.oldest; slot != none;) {
      const slot_id after = links_.newer(slot);
      if (blocks_[slot].uses >= options_.promote_at) {
        remove(slot);
        blocks_[slot].uses = 0;
        blocks_[slot].main = true;
        push(slot);
      } else if (evictable(slot)) {
        return slot;
      }
      slot = after;
    }
    return none;
  }
  // A block that goes round loses a use, so each comes by at most most_uses + 1 times. One that is held stays in place.
  slot_id from_main(evictable_ref evictable) noexcept {
    for (int round = 0; round <= most_uses; ++round) {
      std::size_t left = main_.blocks;
      for (slot_id slot = main_.oldest; slot != none && left > 0; --left) {
        const slot_id after = links_.newer(slot);
        if (evictable(slot)) {
          if (blocks_[slot].uses == 0) return slot;
          --blocks_[slot].uses;
          links_.remove(main_, slot);
          links_.push(main_, slot);
        }
        slot = after;
      }
    }
    return none;
  }

  s3_fifo_options options_;
  links links_;
  std::vector<entry, typename std::allocator_traits<Allocator>::template rebind_alloc<entry>> blocks_;  // by slot
  ghost_list<Allocator> ghosts_;
  queue small_, main_;
  slot_id nominated_ = none;  // the last victim
};

using s3_fifo = basic_s3_fifo<>;

}  // namespace blockattn::inline v0
