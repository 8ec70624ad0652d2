// SPDX-License-Identifier: MIT
/// What a caller may say with a request to a store: for whom, how important, for how long; and what it may be told.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../core/config.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// Whoever pays for blocks: a tenant, a game character. 0 is nobody, who has no quota.
using owner_id = std::uint32_t;

/// A block never makes room for one of lower priority, and blocks of lower priority go first.
enum class block_priority : std::uint8_t { low, normal, high };
inline constexpr std::size_t block_priorities = 3;

/// What a list of tokens would meet in a store now, or met.
enum class block_outcome : std::uint8_t {
  hit,         ///< it is there
  in_flight,   ///< somebody is encoding it
  never_seen,  ///< it was never there, or so long ago that the store has forgotten
  evicted,     ///< it made room for others
  erased,      ///< `erase` or `clear` took it
  expired,     ///< its time to live was over
  too_large,   ///< it did not fit beside pinned or more important blocks, or at all, when it was last encoded
  over_quota,  ///< it did not fit into what its owner may use, when it was last encoded
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
    case block_outcome::expired: return "expired";
    case block_outcome::too_large: return "too_large";
    case block_outcome::over_quota: return "over_quota";
    case block_outcome::collision: return "collision";
  }
  return "unknown";
}

/// Where the block of one list came from.
struct block_origin {
  std::string_view where = "miss";                   ///< "memory", the name of a tier, or "miss": it was encoded
  block_outcome memory = block_outcome::never_seen;  ///< what memory said when it was asked first
  std::string reason;                                ///< what tiers complained of on the way; empty: nothing
};

struct kv_request {
  owner_id owner = 0;  ///< who pays for blocks that enter now; a block already there stays its owner's
  block_priority priority = block_priority::normal;  ///< a hit raises a block to it
  /// How long blocks may stay; a hit extends it. Zero: no limit. Blocks with a limit stay in memory: no tier gets them,
  /// because a tier knows nothing of limits.
  std::chrono::nanoseconds time_to_live{0};
  /// Where payloads live that the store has no room for; the store's storage if nothing is given.
  std::optional<storage_ref> overflow = std::nullopt;
  const std::atomic<bool>* cancel = nullptr;     ///< looked at before encoding; whoever waits for this request takes over
  std::vector<block_origin>* origins = nullptr;  ///< if given, becomes one origin for each list
};

}  // namespace blockattn::inline v0
