// SPDX-License-Identifier: MIT
/// A hard budget of bytes: taken before memory is allocated, given back after it is freed, by whoever frees it last.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// Counts bytes against a budget. All members may be called from any thread at any time.
class byte_account {
 public:
  explicit byte_account(std::size_t budget) noexcept : budget_(budget) {}

  /// Takes `bytes` if they fit; takes nothing otherwise.
  [[nodiscard]] bool try_take(std::size_t bytes) noexcept {
    std::size_t used = used_.load(std::memory_order_relaxed);
    do {
      const std::size_t most = budget();
      if (used > most || bytes > most - used) return false;
      // Acquire pairs with give_back: the memory behind the bytes was freed before somebody else may count on them.
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_acquire, std::memory_order_relaxed));
    std::size_t peak = peak_.load(std::memory_order_relaxed);
    while (peak < used + bytes && !peak_.compare_exchange_weak(peak, used + bytes, std::memory_order_relaxed)) {
    }
    return true;
  }
  void give_back(std::size_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_release); }

  /// A new budget. If more is used already, nothing can be taken until enough was given back.
  void set_budget(std::size_t bytes) noexcept { budget_.store(bytes, std::memory_order_relaxed); }

  [[nodiscard]] std::size_t budget() const noexcept { return budget_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t peak() const noexcept { return peak_.load(std::memory_order_relaxed); }
  /// Bytes that can still be taken.
  [[nodiscard]] std::size_t left() const noexcept {
    const std::size_t most = budget(), now = used();
    return now < most ? most - now : 0;
  }

 private:
  std::atomic<std::size_t> budget_;
  std::atomic<std::size_t> used_{0};
  std::atomic<std::size_t> peak_{0};
};

/// Bytes taken from an account, and perhaps from that of an owner too, given back when this dies. It keeps the accounts
/// alive, so that a block may outlive the store that counts it. Move only.
class byte_charge {
 public:
  byte_charge() noexcept = default;
  /// Adopts `bytes` that were taken from `account`.
  byte_charge(std::shared_ptr<byte_account> account, std::size_t bytes) noexcept
      : account_(std::move(account)), bytes_(bytes) {}
  /// The same, together with what was taken from an owner's account.
  byte_charge(std::shared_ptr<byte_account> account, std::size_t bytes, byte_charge&& owner) noexcept
      : account_(std::move(account)), owner_(std::move(owner.account_)), bytes_(bytes) {
    BLOCKATTN_EXPECTS(owner_ == nullptr || owner.bytes_ == bytes);
  }
  byte_charge(byte_charge&& other) noexcept = default;
  byte_charge& operator=(byte_charge&& other) noexcept {
    byte_charge old(std::move(*this));
    account_ = std::move(other.account_);
    owner_ = std::move(other.owner_);
    bytes_ = other.bytes_;
    return *this;
  }
  ~byte_charge() {
    if (account_) account_->give_back(bytes_);
    if (owner_) owner_->give_back(bytes_);
  }

  /// The account that counts the bytes; null if none does.
  [[nodiscard]] const byte_account* account() const noexcept { return account_.get(); }

 private:
  std::shared_ptr<byte_account> account_;
  std::shared_ptr<byte_account> owner_;
  std::size_t bytes_ = 0;
};

}  // namespace blockattn::inline v0
