// SPDX-License-Identifier: MIT
/// Tiers composed by type, in the order in which they are asked; and what a store knows about each.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"
#include "explain.hpp"
#include "histogram.hpp"
#include "storage.hpp"
#include "tier.hpp"
#include "trace.hpp"

namespace blockattn::inline v0 {

/// When tiers get a block that memory has taken.
enum class write_back : std::uint8_t {
  on_insert,    ///< soon: by whoever drains the store's queue, at the latest when the store dies
  on_eviction,  ///< when it leaves memory for want of room, by the request that needs the room; or by `flush`
  never         ///< tiers are only read
};

/// Where a block goes that a lower tier had.
enum class promotion : std::uint8_t {
  memory,     ///< into memory
  all_above,  ///< and into the tiers above the one that had it, soon
};

/// The tiers of a store: `tiers(directory, redis)` is asked in that order. A tier given by name is borrowed and must
/// outlive the store; one given by value (`std::move`) is owned.
template <class... T>
  requires(block_tier<std::remove_reference_t<T>> && ...)
class tiers {
 public:
  static constexpr std::size_t count = sizeof...(T);

  tiers() requires(std::is_default_constructible_v<T> && ...)
  = default;
  explicit tiers(std::type_identity_t<T>... each) requires(count > 0)
      : all_(std::forward<T>(each)...) {}

  /// Calls `body(number, tier)` for each, until one returns false.
  template <class Body>
  void each(Body&& body) {
    each(body, std::make_index_sequence<count>());
  }

 private:
  template <class Body, std::size_t... I>
  void each([[maybe_unused]] Body& body, std::index_sequence<I...>) {
    (void)(body(I, std::get<I>(all_)) && ...);
  }
  std::tuple<T...> all_;
};
template <class... T>
tiers(T&&...) -> tiers<T...>;

/// Tiers with counters, latencies and the last complaints. All members may be called from any thread at any time, and
/// none holds a lock while a tier works.
template <class Tiers, trace_hook Trace>
class tier_chain {
 public:
  static constexpr std::size_t count = Tiers::count;

  tier_chain(Tiers all, Trace& trace) : all_(std::move(all)), trace_(trace) {}

  /// What the first tier that has a block gave, and which one that was.
  struct found {
    block_handle block = {};
    std::size_t tier = count;
    std::string_view name = "miss";
  };
  /// Asks one tier after the other. What they complain of is remembered, and added to `reason`.
  found load(const block_realm& realm, const kv_shape& shape, const block_key& key, std::span<const token> ids,
             std::string& reason) {
    found out;
    all_.each([&](std::size_t i, auto& tier) {
      const detail::elapsed clock;
      result<block_handle> got = calling([&]() -> result<block_handle> { return tier.load(realm, shape, key, ids); });
      const std::uint64_t ns = clock.ns();
      record& r = records_[i];
      r.load_ns.record(ns);
      const std::string_view name = tier.name();
      if (got && *got == nullptr) {
        ++r.misses;
        return true;
      }
      if (!got) {
        ++r.load_errors;
        trace_({store_action::load_failed, key, name, 0, ns});
        reason += (reason.empty() ? "" : "; ") + std::string(name) + ": " + got.error().message;
        complain(i, key, name, got.error().message);
        return true;
      }
      out = {*std::move(got), i, name};
      ++r.loads;
      r.loaded_bytes += out.block->payload_bytes();
      trace_({store_action::load, key, name, out.block->bytes(), ns});
      return false;
    });
    return out;
  }

  /// Gives a block to the tiers before `end`.
  void save(const block_realm& realm, const block_handle& block, std::size_t end = count) {
    all_.each([&](std::size_t i, auto& tier) {
      if (i >= end) return false;
      const detail::elapsed clock;
      const result<void> done = calling([&]() -> result<void> { return tier.save(realm, block); });
      const std::uint64_t ns = clock.ns();
      record& r = records_[i];
      r.save_ns.record(ns);
      const std::string_view name = tier.name();
      if (done) {
        ++r.saves;
        r.saved_bytes += block->payload_bytes();
      } else {
        ++r.save_errors;
        complain(i, block->key(), name, done.error().message);
      }
      trace_({done ? store_action::save : store_action::save_failed, block->key(), name, block->bytes(), ns});
      return true;
    });
  }

  void erase(const block_key& key) {
    all_.each([&](std::size_t i, auto& tier) {
      const result<void> done = calling([&]() -> result<void> { return tier.erase(key); });
      if (!done) complain(i, key, tier.name(), done.error().message);
      return true;
    });
  }

  /// The name of the first tier that says it has a copy; empty if none does.
  [[nodiscard]] std::string_view who_has(const block_key& key) {
    std::string_view out;
    all_.each([&](std::size_t, auto& tier) {
      if (!tier.contains(key)) return true;
      out = tier.name();
      return false;
    });
    return out;
  }
  /// The last complaint about a key, if it is not forgotten.
  [[nodiscard]] std::string complaint(const block_key& key) const {
    const std::lock_guard guard(lock_);
    for (std::size_t back = 1; back <= complaints_.size() && back <= complained_; ++back)
      if (const auto& c = complaints_[(complained_ - back) % complaints_.size()]; c.key == key) return c.message;
    return {};
  }

  [[nodiscard]] std::vector<tier_counters> counters() {
    std::vector<tier_counters> out(count);
    all_.each([&](std::size_t i, auto& tier) {
      const record& r = records_[i];
      out[i] = {tier.name(), r.loads,        r.misses,         r.load_errors,    r.loaded_bytes, r.saves,
                r.save_errors, r.saved_bytes, r.load_ns.read(), r.save_ns.read(), {}};
      const std::lock_guard guard(lock_);
      out[i].last_error = last_[i];
      return true;
    });
    return out;
  }

 private:
  struct record {
    std::atomic<std::uint64_t> loads{0}, misses{0}, load_errors{0}, loaded_bytes{0};
    std::atomic<std::uint64_t> saves{0}, save_errors{0}, saved_bytes{0};
    latency_histogram load_ns, save_ns;
  };
  struct complaint_of {
    block_key key;
    std::string message;
  };

  template <class Body>
  static auto calling(Body&& body) -> decltype(body()) {
    return detail::out_of_memory_as_error("tier", std::forward<Body>(body));
  }
  void complain(std::size_t tier, const block_key& key, std::string_view name, const std::string& message) {
    std::string line = std::string(name) + ": " + message;
    const std::lock_guard guard(lock_);
    last_[tier] = message;
    complaints_[complained_++ % complaints_.size()] = {key, std::move(line)};
  }

  Tiers all_;
  Trace& trace_;
  std::array<record, count> records_;
  mutable std::mutex lock_;
  std::array<std::string, count> last_;
  std::array<complaint_of, count == 0 ? 1 : 64> complaints_;
  std::size_t complained_ = 0;
};

}  // namespace blockattn::inline v0
