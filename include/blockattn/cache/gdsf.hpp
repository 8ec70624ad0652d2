// SPDX-License-Identifier: MIT
/// `gdsf`: keeps what saves the most time for its bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "eviction.hpp"
#include "slot_links.hpp"

namespace blockattn::inline v0 {

/// Greedy-Dual-Size-Frequency (Cherkasova, HP Labs report HPL-98-69): a block is worth `age + uses * encode_ns / bytes`,
/// and the one worth least goes first. `age` is what the last victim was worth, so that blocks nobody asks for are
/// overtaken by newcomers. A long passage costs more nanoseconds per byte than a short one, because attention is
/// quadratic: it stays longer. Blocks of unknown cost get the mean rate of the others.
///
/// `inserted`, `touched`, `erased`: logarithmic. `victim`: constant, plus the blocks it steps over because they are
/// held.
template <class Allocator = std::allocator<std::byte>>
class basic_gdsf {
 public:
  explicit basic_gdsf(const Allocator& allocator = Allocator()) : blocks_(allocator), heap_(allocator) {}

  void reserve(std::size_t n) {
    if (n > blocks_.size()) blocks_.resize(n);
    heap_.reserve(n);
  }
  void inserted(slot_id slot, const entry_info& info) noexcept {
    nominated_ = slot_links<>::none;
    const double bytes = static_cast<double>(std::max<std::size_t>(info.bytes, 1));
    if (info.encode_ns != 0) {
      known_ns_ += static_cast<double>(info.encode_ns);
      known_bytes_ += bytes;
    }
    const double mean = known_bytes_ == 0 ? 1 : known_ns_ / known_bytes_;
    const double rate = info.encode_ns != 0 ? static_cast<double>(info.encode_ns) / bytes : mean;
    blocks_[slot] = {age_ + rate, rate, 1, ++clock_, static_cast<slot_id>(heap_.size())};
    heap_.push_back(slot);
    up(heap_.size() - 1);
  }
  void touched(slot_id slot) noexcept {
    nominated_ = slot_links<>::none;
    entry& e = blocks_[slot];
    e.uses += 1;
    e.worth = age_ + e.uses * e.rate;
    e.when = ++clock_;
    down(e.place);
  }
  void erased(slot_id slot) noexcept {
    if (slot == std::exchange(nominated_, slot_links<>::none)) age_ = std::max(age_, blocks_[slot].worth);
    const std::size_t at = blocks_[slot].place;
    const slot_id last = heap_.back();
    heap_.pop_back();
    if (last == slot) return;
    place(at, last);
    up(at);
    down(blocks_[last].place);
  }
  /// The least worth that may go. A heap is walked from its root, and not below a block that is worth more than the
  /// best so far.
  [[nodiscard]] std::optional<slot_id> victim(evictable_ref evictable) noexcept {
    slot_id best = slot_links<>::none;
    for (std::size_t at = 0; at < heap_.size();) {
      bool below = false;
      if (best == slot_links<>::none || less(heap_[at], best)) {
        if (evictable(heap_[at])) {
          best = heap_[at];
        } else {
          below = true;
        }
      }
      at = below && 2 * at + 1 < heap_.size() ? 2 * at + 1 : after(at);
      if (at == 0) break;
    }
    nominated_ = best;
    return best == slot_links<>::none ? std::nullopt : std::optional(best);
  }

 private:
  struct entry {
    double worth = 0;
    double rate = 0;         // nanoseconds per byte
    double uses = 0;         // the first one, too
    std::uint64_t when = 0;  // of the last use: among equals, the older goes first
    slot_id place = 0;       // in the heap
  };
  template <class T>
  using vector = std::vector<T, typename std::allocator_traits<Allocator>::template rebind_alloc<T>>;

  bool less(slot_id a, slot_id b) const noexcept {
    const entry &x = blocks_[a], &y = blocks_[b];
    return x.worth != y.worth ? x.worth < y.worth : x.when < y.when;
  }
  // The next place of a walk in preorder that has done with `at` and all below it; 0 at the end.
  std::size_t after(std::size_t at) const noexcept {
    while (at != 0) {
      if (at % 2 == 1 && at + 1 < heap_.size()) return at + 1;
      at = (at - 1) / 2;
    }
    return 0;
  }
  void place(std::size_t at, slot_id slot) noexcept {
    heap_[at] = slot;
    blocks_[slot].place = static_cast<slot_id>(at);
  }
  void up(std::size_t at) noexcept {
    const slot_id slot = heap_[at];
    for (; at != 0 && less(slot, heap_[(at - 1) / 2]); at = (at - 1) / 2) place(at, heap_[(at - 1) / 2]);
    place(at, slot);
  }
  void down(std::size_t at) noexcept {
    const slot_id slot = heap_[at];
    for (std::size_t child; (child = 2 * at + 1) < heap_.size(); at = child) {
      if (child + 1 < heap_.size() && less(heap_[child + 1], heap_[child])) ++child;
      if (!less(heap_[child], slot)) break;
      place(at, heap_[child]);
    }
    place(at, slot);
  }

  vector<entry> blocks_;  // by slot
  vector<slot_id> heap_;  // the least worth at the root
  slot_id nominated_ = slot_links<>::none;  // the last victim: if it goes, its worth is the age
  double age_ = 0;
  double known_ns_ = 0;  // of all blocks whose cost was known
  double known_bytes_ = 0;
  std::uint64_t clock_ = 0;
};

using gdsf = basic_gdsf<>;

}  // namespace blockattn::inline v0
