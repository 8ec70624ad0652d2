// SPDX-License-Identifier: MIT
/// How a store is guarded: by nothing, by one lock, or by one lock for each part of the keys.
#pragma once

#include <cstddef>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// For stores that one thread uses alone.
struct no_lock {
  void lock() noexcept {}
  void unlock() noexcept {}
};

/// The lock policy `sharded<std::mutex, 16>`: keys are spread over so many tables, each with its own lock and its own
/// copy of the eviction policy (which takes its memory from the default resource if its allocator is polymorphic). The budget stays one: a full store evicts from each table in turn, so that the order
/// of eviction is that of the policy in each table and only nearly so overall.
template <class Lock, std::size_t Shards = 16>
struct sharded {
  static_assert(Shards > 0);
};

namespace detail {
template <class Lock>
struct lock_traits {
  using type = Lock;
  static constexpr std::size_t shards = 1;
};
template <class Lock, std::size_t Shards>
struct lock_traits<sharded<Lock, Shards>> {
  using type = Lock;
  static constexpr std::size_t shards = Shards;
};
}  // namespace detail

}  // namespace blockattn::inline v0
