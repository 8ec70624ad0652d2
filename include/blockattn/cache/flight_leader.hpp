// SPDX-License-Identifier: MIT
/// The request that provides what it and others asked for: it claims slots, and gives them up whatever happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "block_memory.hpp"
#include "flight.hpp"
#include "key.hpp"
#include "request.hpp"

namespace blockattn::inline v0 {

/// The claims of one request in a `block_memory`. They end and their flight lands when this dies at the latest, so that
/// nobody waits for ever. Used by one thread.
template <class Memory>
class flight_leader {
 public:
  using shard = typename Memory::shard;

  /// `unsaved`: the realm for which blocks that are encoded must be saved when they leave; null if they need not be.
  /// `asked`: whether a request is behind it that counters count; a prefetch is none.
  template <class Allocator>
  flight_leader(Memory& memory, const Allocator& allocator, const kv_request& request,
                std::shared_ptr<const block_realm> unsaved, bool asked)
      : memory_(memory),
        flight_(std::allocate_shared<encoding_flight>(allocator)),
        request_(request),
        unsaved_(std::move(unsaved)),
        asked_(asked) {}
  flight_leader(const flight_leader&) = delete;
  flight_leader& operator=(const flight_leader&) = delete;
  ~flight_leader() {
    if (landed_) return;
    for (auto& c : claims()) c.block = nullptr;
    publish();
  }

  std::vector<encoding_flight::claim>& claims() noexcept { return flight_->claims; }

  /// Under the lock of the shard. If `announce`, others find the claim and wait for it.
  void claim(shard& s, const block_key& key, std::span<const token> ids, std::size_t list, bool announce) {
    claims().push_back({key, ids, list});
    if (asked_) ++s.counters.misses;
    if (!announce) return;
    const slot_id at = s.table.take(key);
    claims().back().slot = at;
    s.table[at].coming = flight_;
    s.table[at].announced = ids;
    s.table[at].claim = static_cast<std::uint32_t>(claims().size() - 1);
  }
  /// The request fails for everybody who waits.
  void judge(const failure& why) { flight_->verdict = why; }

  /// Fills the slots of the claims that have a block, gives the others up, and lets everybody see.
  void publish() noexcept {
    for (const auto& c : claims()) settle(c);
    landed_ = true;
    flight_->land();
  }

 private:
  void settle(const encoding_flight::claim& c) noexcept {
    const bool loaded = c.where != "miss";
    block_terms terms = memory_.terms(request_);
    if (!loaded) terms.unsaved = unsaved_;
    shard& s = memory_.shard_of(c.key);
    const std::lock_guard guard(s.lock);
    // An insert() may have taken the slot meanwhile.
    const bool announced = c.slot != Memory::none && s.table[c.slot].coming == flight_;
    if (c.block == nullptr) {
      s.counters.failures += asked_ ? 1 : 0;
    } else {
      s.counters.loads += asked_ && loaded ? 1 : 0;
      if (announced && c.counted) {
        s.counters.prefetches += asked_ ? 0 : 1;
        memory_.fill(s, c.slot, c.block, terms);
        return;
      }
      s.counters.uncounted += asked_ ? 1 : 0;
      if (announced) s.gone.note(c.key, c.refusal);
    }
    if (announced) s.table.release(c.slot, c.key);
  }

  Memory& memory_;
  std::shared_ptr<encoding_flight> flight_;
  const kv_request& request_;
  std::shared_ptr<const block_realm> unsaved_;
  bool asked_;
  bool landed_ = false;
};

}  // namespace blockattn::inline v0
