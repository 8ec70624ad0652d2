// SPDX-License-Identifier: MIT
/// Random numbers that are the same on every machine: integers only, and no distribution of the standard library, whose
/// results are not fixed.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace worlds {

/// A generator of 64-bit numbers (splitmix64). Streams of neighbouring seeds have nothing to do with each other.
class random {
 public:
  explicit random(std::uint64_t seed) noexcept : state_(seed) {}
  /// The stream of the n-th world of a seed, so that any world can be made alone.
  random(std::uint64_t seed, std::uint64_t n) noexcept : state_(mix(mix(seed) + n)) {}

  std::uint64_t next() noexcept { return mix(state_ += 0x9e3779b97f4a7c15u); }

  /// 0 to n - 1; n is at least 1. The bias of the remainder is below n / 2^32.
  std::size_t below(std::size_t n) noexcept { return static_cast<std::size_t>(((next() >> 32) * n) >> 32); }
  /// low to high, both included.
  std::size_t between(std::size_t low, std::size_t high) noexcept { return low + below(high - low + 1); }
  /// True in `percent` of a hundred cases.
  bool chance(std::size_t percent) noexcept { return below(100) < percent; }

  template <class List>
  const auto& pick(const List& list) noexcept {
    return list[below(std::size(list))];
  }
  template <class T>
  void shuffle(std::vector<T>& list) {
    for (std::size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[below(i)]);
  }
  /// `count` different entries of a list, in random order.
  template <class List>
  auto draw(const List& from, std::size_t count) {
    std::vector<std::size_t> order(std::size(from));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::vector<std::decay_t<decltype(from[0])>> out;
    for (std::size_t i = 0; i < count && i < order.size(); ++i) {
      std::swap(order[i], order[i + below(order.size() - i)]);
      out.push_back(from[order[i]]);
    }
    return out;
  }

 private:
  static std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

}  // namespace worlds
