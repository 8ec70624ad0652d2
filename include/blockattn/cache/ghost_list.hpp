// SPDX-License-Identifier: MIT
/// The names of the last blocks that left, without the blocks: how a policy recognises one that comes back too soon.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// A set of names that forgets the oldest first. Only `reserve` allocates; all else is constant time on average.
/// Not thread-safe.
template <class Allocator = std::allocator<std::byte>>
class ghost_list {
 public:
  explicit ghost_list(const Allocator& allocator = Allocator()) : ring_(allocator), table_(allocator) {}

  /// Room for `n` names. Never shrinks; keeps what is remembered.
  void reserve(std::size_t n) {
    if (n <= ring_.size()) return;
    const std::size_t room = std::bit_ceil(n);
    // Everything that may fail comes before anything that changes.
    decltype(ring_) ring(room, 0, ring_.get_allocator());
    decltype(table_) table(2 * room, entry(), table_.get_allocator());
    ring.swap(ring_);
    table.swap(table_);
    // The old ring, oldest name first. A place whose name was taken out is stale, and stays behind.
    const std::uint64_t end = next_;
    const std::uint64_t first = oldest_;
    next_ = oldest_ = 0;
    for (std::uint64_t at = first; at != end; ++at) {
      const std::uint64_t name = ring[at % ring.size()];
      if (const std::size_t old = find_in(table, name); old != npos && table[old].when == at + 1) put(name);
    }
  }

  /// Remembers a name as the newest; once there are more than `most` places in use, forgets the oldest.
  void put(std::uint64_t name, std::size_t most) noexcept {
    (void)take(name);
    most = most < ring_.size() ? most : ring_.size();
    if (most == 0) return;
    while (next_ - oldest_ >= most) forget_oldest();
    put(name);
  }
  [[nodiscard]] bool contains(std::uint64_t name) const noexcept { return find_in(table_, name) != npos; }

  /// Takes a name out; whether it was there.
  bool take(std::uint64_t name) noexcept {
    const std::size_t at = find_in(table_, name);
    if (at == npos) return false;
    remove(at);
    return true;
  }

 private:
  static constexpr std::size_t npos = ~std::size_t{0};
  struct entry {
    std::uint64_t name = 0;
    std::uint64_t when = 0;  // one more than the place in the ring; 0: nothing here
  };
  template <class T>
  using vector = std::vector<T, typename std::allocator_traits<Allocator>::template rebind_alloc<T>>;

  // Names are parts of hashes already; a multiplication spares them from being good ones.
  static std::size_t home(const vector<entry>& table, std::uint64_t name) noexcept {
    return static_cast<std::size_t>((name * 0x9e3779b97f4a7c15u) >> 32) & (table.size() - 1);
  }
  // The table is at most half full, so a probe ends.
  static std::size_t find_in(const vector<entry>& table, std::uint64_t name) noexcept {
    if (table.empty()) return npos;
    for (std::size_t at = home(table, name); table[at].when != 0; at = (at + 1) & (table.size() - 1))
      if (table[at].name == name) return at;
    return npos;
  }
  void put(std::uint64_t name) noexcept {
    ring_[next_ % ring_.size()] = name;
    ++next_;
    std::size_t at = home(table_, name);
    while (table_[at].when != 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = {name, next_};
  }
  void forget_oldest() noexcept {
    const std::size_t at = find_in(table_, ring_[oldest_ % ring_.size()]);
    ++oldest_;
    if (at != npos && table_[at].when == oldest_) remove(at);
  }
  // Linear probing without tombstones: whatever could have stood here moves up.
  void remove(std::size_t hole) noexcept {
    const std::size_t mask = table_.size() - 1;
    for (std::size_t at = (hole + 1) & mask; table_[at].when != 0; at = (at + 1) & mask) {
      const std::size_t from_home = (at - home(table_, table_[at].name)) & mask;
      if (from_home < ((at - hole) & mask)) continue;
      table_[hole] = table_[at];
      hole = at;
    }
    table_[hole] = entry();
  }

  vector<std::uint64_t> ring_;  // a power of two; places oldest_ to next_ are in use, some of them stale
  vector<entry> table_;         // twice as many
  std::uint64_t next_ = 0;
  std::uint64_t oldest_ = 0;
};

}  // namespace blockattn::inline v0
