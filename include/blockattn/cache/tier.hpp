// SPDX-License-Identifier: MIT
/// A tier: a place behind memory that keeps encoded blocks, such as a directory or a server. Stores ask it for what
/// memory lacks and give it what was encoded.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "key.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

/// What a store asks of a tier. All calls come from several threads at once, and none is made under a store's lock.
/// - `name()`: what explanations and JSON print: "directory", "redis". Outlives the tier.
/// - `load(realm, shape, key, ids)`: the block of these tokens; null if the tier does not have it. An error says that a
///   copy is there but bad, or that the tier cannot be reached: the store counts it, remembers the reason, and goes on
///   as after a miss. The block's key, shape and ids are the ones asked for. A load may find what `contains` denied.
/// - `save(realm, block)`: keeps a copy; success if it has one already. May be called by a background worker.
/// - `contains(key)`: cheap, and may be wrong either way; for explanations and prefetching.
/// - `erase(key)`: forgets; success if there was nothing.
template <class T>
concept block_tier = requires(T& tier, const block_realm& realm, const kv_shape& shape, const block_key& key,
                              std::span<const token> ids, const block_handle& block) {
  { tier.name() } -> std::convertible_to<std::string_view>;
  { tier.load(realm, shape, key, ids) } -> std::same_as<result<block_handle>>;
  { tier.save(realm, block) } -> std::same_as<result<void>>;
  { tier.contains(key) } -> std::same_as<bool>;
  { tier.erase(key) } -> std::same_as<result<void>>;
};

/// Blocks in a map, for as long as the tier lives and without a limit: the tier that documents the concept. Copies of a
/// tier share the map.
class map_tier {
 public:
  [[nodiscard]] std::string_view name() const noexcept { return "map"; }

  result<block_handle> load(const block_realm&, const kv_shape& shape, const block_key& key,
                            std::span<const token> ids) {
    const std::lock_guard guard(shared_->lock);
    const auto at = shared_->blocks.find(key);
    if (at == shared_->blocks.end()) return block_handle();
    if (at->second->shape() != shape || !std::ranges::equal(at->second->tokens(), ids))
      return fail(errc::bad_format, "map tier: key ", key.value.hex(), " holds a block of other tokens or shape");
    return at->second;
  }
  // A copy: holding the block itself would pin it in the store.
  result<void> save(const block_realm&, const block_handle& block) {
    heap_storage<> heap;
    auto memory = heap.allocate(kv_block::memory_bytes(block->shape(), block->tokens().size()));
    if (!memory) return std::move(memory).error();
    std::ranges::copy(block->payload(), memory->get());
    auto copy = make_block(block->key(), block->shape(), block->tokens(), std::move(*memory), heap.get_allocator(),
                           block->encode_ns());
    const std::lock_guard guard(shared_->lock);
    shared_->blocks.emplace(block->key(), std::move(copy));
    return {};
  }
  bool contains(const block_key& key) {
    const std::lock_guard guard(shared_->lock);
    return shared_->blocks.contains(key);
  }
  result<void> erase(const block_key& key) {
    const std::lock_guard guard(shared_->lock);
    shared_->blocks.erase(key);
    return {};
  }

 private:
  struct state {
    std::mutex lock;
    std::unordered_map<block_key, block_handle> blocks;
  };
  std::shared_ptr<state> shared_ = std::make_shared<state>();
};

}  // namespace blockattn::inline v0
