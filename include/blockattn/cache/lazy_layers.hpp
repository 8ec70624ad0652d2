// SPDX-License-Identifier: MIT
/// The check of a block that was handed out before its bytes were read: each layer is compared with its checksum by
/// whoever needs it first, and by nobody again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "block.hpp"

namespace blockattn::inline v0::detail {

class lazy_layers final : public layer_check {
 public:
  struct plan {
    const std::byte* payload = nullptr;  // kept alive by the block
    std::size_t layer_bytes = 0;
    std::vector<std::uint64_t> checksums;  // of each layer
    std::uint64_t (*hash)(std::span<const std::byte>) noexcept = nullptr;
  };
  lazy_layers(plan p, std::string source, std::function<void()> on_damage)
      : plan_(std::move(p)),
        source_(std::move(source)),
        on_damage_(std::move(on_damage)),
        states_(plan_.checksums.size()),
        left_(plan_.checksums.size()) {}

  [[nodiscard]] bool whole(std::size_t l) const noexcept override {
    std::atomic<state>& at = states_[l];
    if (const state known = at.load(std::memory_order_acquire); known != state::unread) return known == state::whole;
    const bool good = plan_.hash({plan_.payload + l * plan_.layer_bytes, plan_.layer_bytes}) == plan_.checksums[l];
    // Two threads may compare the same layer, which is harmless; one of them counts it.
    state expected = state::unread;
    if (at.compare_exchange_strong(expected, good ? state::whole : state::damaged, std::memory_order_acq_rel)) {
      if (good) left_.fetch_sub(1, std::memory_order_acq_rel);
      if (!good && on_damage_) on_damage_();
    }
    return good;
  }
  [[nodiscard]] bool done() const noexcept override { return left_.load(std::memory_order_acquire) == 0; }
  [[nodiscard]] failure damage(std::size_t l) const override {
    return fail(errc::bad_format, source_, ": layer ", l, ": the bytes are damaged");
  }

 private:
  enum class state : std::uint8_t { unread, whole, damaged };
  plan plan_;
  std::string source_;
  std::function<void()> on_damage_;
  mutable std::vector<std::atomic<state>> states_;
  mutable std::atomic<std::size_t> left_;  // layers not known to be whole
};

}  // namespace blockattn::inline v0::detail
