// SPDX-License-Identifier: MIT
/// What a store says about itself: counters, and why a block would hit or miss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../core/config.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

/// What has happened in a store so far, and what it holds now.
///
/// Always: `insertions == blocks + evictions + erasures`. When no request runs and only `find_or_encode` has added
/// blocks: `misses == insertions + uncounted + failures`. When no request has failed: `hits + misses + waits` lists
/// were asked for.
struct kv_store_counters {
  std::uint64_t hits = 0;        // lists found
  std::uint64_t misses = 0;      // lists not found: left to the caller by `find`, encoded by `find_or_encode`
  std::uint64_t waits = 0;       // lists that another request, or the same one, was already encoding
  std::uint64_t collisions = 0;  // misses where other tokens had the key
  std::uint64_t insertions = 0;  // blocks that entered the store
  std::uint64_t evictions = 0;   // blocks that left for want of room
  std::uint64_t erasures = 0;    // blocks that left by `erase` or `clear`
  std::uint64_t uncounted = 0;   // blocks encoded for a caller that the store could not take
  std::uint64_t failures = 0;    // lists whose encoding failed
  std::size_t blocks = 0;        // blocks held now
  std::size_t bytes = 0;       // bytes counted now: blocks held, being encoded, or gone from the store but still pinned
  std::size_t peak_bytes = 0;  // the most there ever were
  std::size_t budget_bytes = 0;
};

/// What a list of tokens would meet in a store now.
enum class block_outcome : std::uint8_t {
  hit,         ///< it is there
  in_flight,   ///< somebody is encoding it
  never_seen,  ///< it was never there, or so long ago that the store has forgotten
  evicted,     ///< it made room for others
  erased,      ///< `erase` or `clear` took it
  too_large,   ///< it did not fit beside pinned blocks, or at all, when it was last encoded
  collision    ///< another text has its key, and the store keeps the first
};

/// The name of an outcome, as printed by tools: `"never_seen"`.
[[nodiscard]] constexpr const char* to_string(block_outcome outcome) noexcept {
  switch (outcome) {
    case block_outcome::hit: return "hit";
    case block_outcome::in_flight: return "in_flight";
    case block_outcome::never_seen: return "never_seen";
    case block_outcome::evicted: return "evicted";
    case block_outcome::erased: return "erased";
    case block_outcome::too_large: return "too_large";
    case block_outcome::collision: return "collision";
  }
  return "unknown";
}

/// Why one list hits or misses.
struct explanation {
  block_key key;
  std::size_t tokens = 0;
  block_outcome outcome = block_outcome::never_seen;
};

/// The last keys that left a store or could not enter it, and why. Writing is constant time and never fails; only
/// `explain` reads, so a scan is good enough.
template <class Allocator = std::allocator<std::byte>>
class departures {
 public:
  departures(std::size_t remembered, const Allocator& allocator) : ring_(remembered, entry(), allocator) {}

  void note(const block_key& key, block_outcome why) noexcept {
    if (ring_.empty()) return;
    ring_[noted_++ % ring_.size()] = {key, why};
  }
  /// The latest outcome of a key. Complexity: linear in what is remembered.
  [[nodiscard]] block_outcome why(const block_key& key) const noexcept {
    const std::size_t known = noted_ < ring_.size() ? noted_ : ring_.size();
    for (std::size_t back = 1; back <= known; ++back) {
      const entry& e = ring_[(noted_ - back) % ring_.size()];
      if (e.key == key) return e.why;
    }
    return block_outcome::never_seen;
  }

 private:
  struct entry {
    block_key key = {};
    block_outcome why = block_outcome::never_seen;
  };
  std::vector<entry, typename std::allocator_traits<Allocator>::template rebind_alloc<entry>> ring_;
  std::size_t noted_ = 0;
};

}  // namespace blockattn::inline v0
