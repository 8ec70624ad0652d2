// SPDX-License-Identifier: MIT
/// One request's encoding, while others may wait for it: the reason why concurrent misses of one key encode once.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "../core/config.hpp"
#include "block.hpp"
#include "eviction.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

/// The lists that one request of a store has taken on and, once it has landed, their blocks.
///
/// `claims` grows under the store's lock and is complete before encoding starts. `block` belongs to the request until
/// `land()`; to everybody after `wait()`, to read.
struct encoding_flight {
  static constexpr slot_id no_slot = std::numeric_limits<slot_id>::max();

  struct claim {
    block_key key;
    std::span<const token> tokens;  // the request's own list: valid until the slot is given up
    std::size_t list = 0;           // which list of the request it is
    slot_id slot = no_slot;         // the slot that announces it to others; none for a collision
    block_handle block = {};        // null after landing: the request failed, and whoever waited tries again
  };

  std::vector<claim> claims;

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

/// For stores that one thread uses alone.
struct no_lock {
  void lock() noexcept {}
  void unlock() noexcept {}
};

}  // namespace blockattn::inline v0
