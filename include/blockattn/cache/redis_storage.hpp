// SPDX-License-Identifier: MIT
/// `redis_storage`: encoded blocks in an existing Redis or Valkey server, for many machines. A tier (cache/tier.hpp).
/// A value is the bytes of a block's file, so the checks are those of files. Component `blockattn::redis`.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "block_file.hpp"
#include "key.hpp"
#include "redis_connection.hpp"
#include "storage.hpp"

namespace blockattn::inline v0 {

struct redis_options {
  redis_server server = {};
  std::string prefix = "blockattn:";        ///< of every key
  std::size_t most_bytes = 64_MiB;          ///< of one value, either way
  std::chrono::seconds expire{0};           ///< how long the server keeps a block; 0: as long as it likes
  std::string isa = {};                     ///< whose bits this process makes: isa_name()
  bool same_producer_only = false;          ///< refuse blocks of another library version or instruction set
};

struct redis_counters {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;     // the server answered, and has no such block
  std::uint64_t refused = 0;    // values that were not the block asked for
  std::uint64_t saves = 0;
  std::uint64_t present = 0;    // saves of blocks that were there already
  std::uint64_t too_large = 0;  // saves beyond most_bytes
  std::uint64_t rejected = 0;   // requests that the server answered with an error, or not at all
  std::uint64_t connects = 0;   // connections opened, or tried
  std::uint64_t failures = 0;   // connections that could not be opened, were lost or fell silent
  std::uint64_t skipped = 0;    // requests not made: the server had failed just before
};

/// Blocks behind a network. All members are safe from several threads; connections are made when needed, one for each
/// request under way. A server that is gone costs one time-out; for a while after that it is not asked. No failure here
/// is one of an answer: a store takes every error for a miss. Values are bounded before they are read into memory.
/// There is no encryption: use it inside a network that you trust, or through a tunnel.
class redis_storage {
 public:
  /// Connects to nothing yet.
  explicit redis_storage(redis_options options) : state_(std::make_unique<state>(std::move(options))) {}

  [[nodiscard]] std::string_view name() const noexcept { return "redis"; }

  /// The block of a key, in memory of its own; null if the server has none. Errors: `io` if the server cannot be asked;
  /// `bad_format` and `unsupported` for a value that is not the block asked for, or longer than it can be.
  [[nodiscard]] result<block_handle> load(const block_realm& realm, const kv_shape& shape, const block_key& key,
                                          std::span<const token> ids) {
    const redis_options& o = state_->options;
    // Nothing longer is read: what a block can be at most, with a generous header.
    const std::size_t longest = kv_block::memory_bytes(shape, ids.size()) + 16_KiB + 1_KiB * shape.layers;
    const std::size_t limit = std::min(o.most_bytes, longest);
    const std::string name = name_of(key), last = std::to_string(limit);
    const auto reply = state_->pool.ask(std::array<std::string_view, 4>{"GETRANGE", name, "0", last});
    if (!reply) return count(&redis_counters::rejected, reply.error());
    const std::string_view value = detail::text_of(**reply);
    if (value.empty()) {
      count(&redis_counters::misses);
      return block_handle();
    }
    auto block = value.size() > limit ? result<block_handle>(fail(errc::bad_format, source_of(name),
                                                                  ": expected at most ", limit, " bytes, found more"))
                                      : restore(value, name, realm, shape, key, ids);
    const std::lock_guard guard(state_->lock);
    if (block) {
      ++state_->counters.hits;
    } else {
      ++state_->counters.refused;
      if (state_->suspects.size() >= 4096) state_->suspects.clear();  // a memory, not a promise
      state_->suspects.insert(key);
    }
    return block;
  }

  /// Sends a block unless the server has one under its key. A value that a load has refused is replaced. Errors:
  /// `invalid_argument` for null or a block without tokens; `store_full` beyond `most_bytes`; `io`.
  [[nodiscard]] result<void> save(const block_realm& realm, const block_handle& block) {
    if (block == nullptr) return fail(errc::invalid_argument, "redis: save: expected a block, found null");
    const redis_options& o = state_->options;
    const std::string name = name_of(block->key());
    if (block->payload_bytes() > o.most_bytes) return too_large(name, block->payload_bytes());
    if (!is_suspect(block->key())) {
      const auto there = state_->pool.ask(std::array<std::string_view, 2>{"EXISTS", name});
      if (!there) return count(&redis_counters::rejected, there.error());
      if ((*there)->integer != 0) {
        count(&redis_counters::present);
        return {};
      }
    }
    const auto image = block_file_image::of(realm, *block, o.isa);
    if (!image) return detail::naming(source_of(name), image.error());
    if (image->size() > o.most_bytes) return too_large(name, image->size());
    std::string value;
    value.reserve(image->size());
    for (const auto piece : image->pieces()) value.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    const std::string seconds = std::to_string(o.expire.count());
    const std::array<std::string_view, 5> words{"SET", name, value, "EX", seconds};
    const auto done = state_->pool.ask(std::span(words).first(o.expire.count() > 0 ? 5 : 3));
    if (!done) return count(&redis_counters::rejected, done.error());
    const std::lock_guard guard(state_->lock);
    ++state_->counters.saves;
    state_->suspects.erase(block->key());
    return {};
  }

  /// Whether the server has a value under this key; false if it cannot be asked.
  [[nodiscard]] bool contains(const block_key& key) {
    const std::string name = name_of(key);
    const auto there = state_->pool.ask(std::array<std::string_view, 2>{"EXISTS", name});
    return there && (*there)->integer != 0;
  }

  /// Errors: `io`.
  [[nodiscard]] result<void> erase(const block_key& key) {
    const std::string name = name_of(key);
    if (const auto done = state_->pool.ask(std::array<std::string_view, 2>{"DEL", name}); !done)
      return count(&redis_counters::rejected, done.error());
    return {};
  }

  [[nodiscard]] redis_counters counters() const {
    const auto pool = state_->pool.counters();
    const std::lock_guard guard(state_->lock);
    redis_counters copy = state_->counters;
    copy.connects = pool.connects;
    copy.failures = pool.failures;
    copy.skipped = pool.skipped;
    return copy;
  }

 private:
  struct state {  // behind a pointer, so that a storage can be moved
    explicit state(redis_options o) : options(std::move(o)), pool(options.server) {}
    const redis_options options;
    detail::redis_pool pool;
    std::mutex lock;
    // Under `lock`:
    redis_counters counters;
    std::unordered_set<block_key> suspects;  // keys whose values were refused: the next save replaces them
  };

  std::string name_of(const block_key& key) const { return state_->options.prefix + key.value.hex(); }
  std::string source_of(const std::string& name) const { return state_->pool.name() + ", key " + name; }
  void count(std::uint64_t redis_counters::*what) {
    const std::lock_guard guard(state_->lock);
    ++(state_->counters.*what);
  }
  failure count(std::uint64_t redis_counters::*what, const failure& e) {
    count(what);
    return e;
  }
  failure too_large(const std::string& name, std::size_t bytes) {
    return count(&redis_counters::too_large, fail(errc::store_full, source_of(name), ": expected at most ",
                                                  state_->options.most_bytes, " bytes, found ", bytes));
  }
  bool is_suspect(const block_key& key) const {
    const std::lock_guard guard(state_->lock);
    return state_->suspects.contains(key);
  }

  result<block_handle> restore(std::string_view value, const std::string& name, const block_realm& realm,
                               const kv_shape& shape, const block_key& key, std::span<const token> ids) const {
    return detail::out_of_memory_as_error("redis", [&]() -> result<block_handle> {
      // On a 64-byte boundary, where the header's length puts the payload on one too.
      const std::shared_ptr<std::byte> bytes = detail::shared_bytes(value.size(), std::allocator<std::byte>());
      std::memcpy(bytes.get(), value.data(), value.size());
      read_block_options how;
      if (state_->options.same_producer_only) how.same_producer = state_->options.isa;
      return read_block({source_of(name), bytes, {bytes.get(), value.size()}}, realm, shape, key, ids, std::move(how));
    });
  }

  std::unique_ptr<state> state_;
};

}  // namespace blockattn::inline v0
