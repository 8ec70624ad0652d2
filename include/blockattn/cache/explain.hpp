// SPDX-License-Identifier: MIT
/// What a store says about itself: counters, and why a block would hit or miss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../core/config.hpp"
#include "histogram.hpp"
#include "key.hpp"
#include "request.hpp"

namespace blockattn::inline v0 {

/// What has happened in the memory of a store so far, and what it holds now.
///
/// Always: `insertions == blocks + evictions + erasures + expirations`. When no request runs and only `find_or_encode`
/// has added blocks: `misses == insertions + uncounted + failures`. When no request has failed: `hits + misses + waits`
/// lists were asked for.
struct kv_store_counters {
  std::uint64_t hits = 0;         // lists found in memory
  std::uint64_t misses = 0;       // lists not found: left to the caller by `find`, provided by `find_or_encode`
  std::uint64_t loads = 0;        // of these, found in a tier
  std::uint64_t waits = 0;        // lists that another request, or the same one, was already providing
  std::uint64_t collisions = 0;   // misses where other tokens had the key
  std::uint64_t insertions = 0;   // blocks that entered the store
  std::uint64_t evictions = 0;    // blocks that left for want of room
  std::uint64_t erasures = 0;     // blocks that left by `erase` or `clear`
  std::uint64_t expirations = 0;  // blocks whose time was over
  std::uint64_t prefetches = 0;   // blocks that entered by `prefetch`
  std::uint64_t uncounted = 0;    // blocks made for a caller that the store could not take
  std::uint64_t failures = 0;     // lists whose encoding failed
  std::size_t blocks = 0;         // blocks held now
  std::size_t bytes = 0;       // bytes counted now: blocks held, being encoded, or gone from the store but still pinned
  std::size_t peak_bytes = 0;  // the most there ever were
  std::size_t budget_bytes = 0;

  /// Adds all but the bytes, which belong to no part of a store alone.
  kv_store_counters& operator+=(const kv_store_counters& other) noexcept {
    for (const auto member : {&kv_store_counters::hits, &kv_store_counters::misses, &kv_store_counters::loads,
                              &kv_store_counters::waits, &kv_store_counters::collisions,
                              &kv_store_counters::insertions, &kv_store_counters::evictions,
                              &kv_store_counters::erasures, &kv_store_counters::expirations,
                              &kv_store_counters::prefetches, &kv_store_counters::uncounted,
                              &kv_store_counters::failures})
      this->*member += other.*member;
    blocks += other.blocks;
    return *this;
  }
};

/// What has happened between a store and one of its tiers. `loads + misses + load_errors` lists were asked for.
struct tier_counters {
  std::string_view name;
  std::uint64_t loads = 0;        // blocks that came from it
  std::uint64_t misses = 0;       // lists that it did not have
  std::uint64_t load_errors = 0;  // bad copies, and tiers that could not be reached
  std::uint64_t loaded_bytes = 0;
  std::uint64_t saves = 0;
  std::uint64_t save_errors = 0;
  std::uint64_t saved_bytes = 0;
  latency_counts load_ns;  // found or not
  latency_counts save_ns;
  std::string last_error;  // empty: none
};

/// How long the two steps of a request took that every store has.
struct store_latencies {
  latency_counts lookup_ns;  // one for each request: all its lists looked up and claimed, waiting for locks included
  latency_counts encode_ns;  // one for each call of an encoder
};

/// Why one list hits or misses.
struct explanation {
  block_key key;
  std::size_t tokens = 0;
  block_outcome outcome = block_outcome::never_seen;  ///< in memory
  std::string_view where;  ///< "memory", or the first tier that says it has a copy; empty: nobody, it would be encoded
  std::string reason;      ///< the last complaint of a tier about this key; empty: none, or forgotten
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
