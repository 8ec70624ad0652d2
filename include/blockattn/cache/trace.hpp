// SPDX-License-Identifier: MIT
/// The hook through which a program watches a store at work.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "../core/config.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

enum class store_action : std::uint8_t {
  hit,          ///< a list was found in memory
  wait,         ///< a list was being encoded by another request, or came twice in this one
  load,         ///< a block came from a tier
  load_failed,  ///< a tier has no good copy, or cannot be reached
  encode,       ///< a block was encoded; `ns` is its share of the pass
  save,         ///< a tier took a block
  save_failed,  ///< a tier could not
  evict,        ///< a block left memory for want of room
  uncounted     ///< a block did not fit and is its request's own
};

[[nodiscard]] constexpr const char* to_string(store_action action) noexcept {
  switch (action) {
    case store_action::hit: return "hit";
    case store_action::wait: return "wait";
    case store_action::load: return "load";
    case store_action::load_failed: return "load_failed";
    case store_action::encode: return "encode";
    case store_action::save: return "save";
    case store_action::save_failed: return "save_failed";
    case store_action::evict: return "evict";
    case store_action::uncounted: return "uncounted";
  }
  return "unknown";
}

struct store_event {
  store_action action = store_action::hit;
  block_key key;
  std::string_view where = "memory";  // or the name of a tier
  std::size_t bytes = 0;
  std::uint64_t ns = 0;  // how long it took; 0 where nothing is measured
};

/// What a store asks of a hook: to take an event. Called from several threads at once, never under the store's lock.
template <class T>
concept trace_hook = requires(T& hook, const store_event& event) {
  { hook(event) } noexcept;
};

/// Watches nothing, and costs nothing: the hook that documents the concept.
struct no_trace {
  void operator()(const store_event&) const noexcept {}
};

}  // namespace blockattn::inline v0
