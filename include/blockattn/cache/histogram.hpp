// SPDX-License-Identifier: MIT
/// How long things took: counts by powers of two of nanoseconds.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// A copy of a histogram: `counts[b]` durations were in [2^(b-1), 2^b) nanoseconds, `counts[0]` were 0.
struct latency_counts {
  static constexpr std::size_t buckets = 48;  // the last also takes what is longer: a day and a half
  std::array<std::uint64_t, buckets> counts{};

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t n : counts) sum += n;
    return sum;
  }
  /// The end, in nanoseconds, of the bucket in which a share of all durations is reached: `below(0.5)` is the median,
  /// rounded up to a power of two. 0 if nothing was recorded.
  [[nodiscard]] std::uint64_t below(double share) const noexcept {
    const double wanted = share * static_cast<double>(total());
    std::uint64_t sum = 0;
    for (std::size_t b = 0; b < buckets; ++b) {
      sum += counts[b];
      if (sum != 0 && static_cast<double>(sum) >= wanted) return std::uint64_t{1} << b;
    }
    return 0;
  }
};

/// A histogram that any thread may add to at any time: one relaxed increment.
class latency_histogram {
 public:
  void record(std::uint64_t ns) noexcept {
    const auto bucket = static_cast<std::size_t>(std::bit_width(ns));
    counts_[bucket < latency_counts::buckets ? bucket : latency_counts::buckets - 1].fetch_add(
        1, std::memory_order_relaxed);
  }
  [[nodiscard]] latency_counts read() const noexcept {
    latency_counts out;
    for (std::size_t b = 0; b < latency_counts::buckets; ++b) out.counts[b] = counts_[b].load(std::memory_order_relaxed);
    return out;
  }

 private:
  std::array<std::atomic<std::uint64_t>, latency_counts::buckets> counts_{};
};

namespace detail {
/// Nanoseconds since it was made.
class elapsed {
 public:
  [[nodiscard]] std::uint64_t ns() const noexcept {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - begin_).count());
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};
}  // namespace detail

}  // namespace blockattn::inline v0
