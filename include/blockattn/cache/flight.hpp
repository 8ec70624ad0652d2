// SPDX-License-Identifier: MIT
/// One request's encoding, while others may wait for it: the reason why concurrent misses of one key encode once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "block.hpp"
#include "key.hpp"
#include "request.hpp"
#include "slot_links.hpp"

namespace blockattn::inline v0 {

/// The lists that one request of a store has taken on and, once it has landed, their blocks.
///
/// All of it belongs to the request until `land()`; to everybody after `wait()`, to read.
struct encoding_flight {
  static constexpr slot_id no_slot = std::numeric_limits<slot_id>::max();

  struct claim {
    block_key key;
    std::span<const token> tokens;  // the request's own list: valid until the slot is given up
    std::size_t list = 0;           // which list of the request it is
    slot_id slot = no_slot;         // the slot that announces it to others; none for a collision
    block_handle block = {};        // null after landing: the request failed
    bool counted = false;           // a store's budget has its bytes
    block_outcome refusal = block_outcome::too_large;  // if not, why
    std::string_view where = "miss";                   // or the name of the tier that it came from
    std::size_t tier = 0;                              // and its number
    std::string reason = {};                           // what tiers complained of
  };

  std::vector<claim> claims;
  /// Why the request failed, if that must be so for everybody who asks for the list; otherwise whoever waited tries
  /// again. Only a flight of one list can tell.
  std::optional<failure> verdict;

  /// Whether a failure may be the fault of the request alone: it was cancelled, or its session had no room.
  [[nodiscard]] static constexpr bool private_matter(errc code) noexcept {
    return code == errc::cancelled || code == errc::out_of_memory || code == errc::context_full;
  }

  void land() {
    {
      const std::lock_guard guard(mutex_);
      landed_ = true;
    }
    landing_.notify_all();
  }
  void wait() {
    std::unique_lock guard(mutex_);
    landing_.wait(guard, [this] { return landed_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable landing_;
  bool landed_ = false;
};

}  // namespace blockattn::inline v0
