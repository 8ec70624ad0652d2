// SPDX-License-Identifier: MIT
/// Our own 128-bit hash for keys of blocks. Fast on short inputs, the same on every machine, pinned by golden values.
/// It is not a cryptographic hash: stored token ids are compared on every hit, and a salt separates tenants.
#pragma once

#include <bit>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "config.hpp"

namespace blockattn::inline v0 {

/// 128 bits, ordered, printable.
struct hash128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  friend constexpr auto operator<=>(const hash128&, const hash128&) = default;

  /// 32 lower-case hexadecimal digits.
  [[nodiscard]] std::string hex() const {
    constexpr char digits[] = "0123456789abcdef";
    std::string text(32, '0');
    for (int i = 0; i < 16; ++i) {
      text[static_cast<std::size_t>(15 - i)] = digits[(high >> (4 * i)) & 15u];
      text[static_cast<std::size_t>(31 - i)] = digits[(low >> (4 * i)) & 15u];
    }
    return text;
  }
};

/// Feeds bytes and numbers, in order, into a hash. Equal sequences of calls give equal hashes; every call mixes its
/// length, so that no two different sequences are one.
///
/// Two 64-bit lanes each take 8 bytes a step through a 64x64 -> 128 bit product; the product's halves cross over, so a
/// flipped input bit reaches both lanes within a step.
class hasher {
 public:
  constexpr explicit hasher(std::uint64_t seed = 0) noexcept
      : a_(0x9e3779b97f4a7c15u ^ seed), b_(0xc2b2ae3d27d4eb4fu + seed) {}

  constexpr hasher& number(std::uint64_t value) noexcept {
    step(value, 0x8ebc6af09c88c6e3u);
    return *this;
  }

  hasher& bytes(std::span<const std::byte> data) noexcept {
    number(data.size());
    std::size_t i = 0;
    for (; i + 16 <= data.size(); i += 16) step(load(data.data() + i, 8), load(data.data() + i + 8, 8));
    if (i < data.size()) {
      const std::size_t rest = data.size() - i;
      step(load(data.data() + i, rest < 8 ? rest : 8), rest > 8 ? load(data.data() + i + 8, rest - 8) : 0);
    }
    return *this;
  }

  hasher& text(std::string_view value) noexcept {
    return bytes(std::as_bytes(std::span<const char>(value.data(), value.size())));
  }

  /// Token ids, as little-endian 32-bit numbers.
  constexpr hasher& tokens(std::span<const token> ids) noexcept {
    number(ids.size());
    std::size_t i = 0;
    for (; i + 4 <= ids.size(); i += 4) step(pair(ids[i], ids[i + 1]), pair(ids[i + 2], ids[i + 3]));
    if (i < ids.size()) {
      const auto at = [&](std::size_t k) { return k < ids.size() ? ids[k] : token{0}; };
      step(pair(at(i), at(i + 1)), pair(at(i + 2), at(i + 3)));
    }
    return *this;
  }

  [[nodiscard]] constexpr hash128 finish() const noexcept {
    return {avalanche(a_ ^ std::rotl(b_, 23)), avalanche(b_ + 0x165667b19e3779f9u * (a_ | 1u))};
  }

 private:
  struct product {
    std::uint64_t low, high;
  };
  static constexpr product multiply(std::uint64_t x, std::uint64_t y) noexcept {
    // Schoolbook on 32-bit halves: portable, constexpr, and compilers turn it into one instruction.
    const std::uint64_t x0 = x & 0xffffffffu, x1 = x >> 32, y0 = y & 0xffffffffu, y1 = y >> 32;
    const std::uint64_t p00 = x0 * y0, p01 = x0 * y1, p10 = x1 * y0, p11 = x1 * y1;
    const std::uint64_t middle = p10 + (p00 >> 32) + (p01 & 0xffffffffu);
    return {(middle << 32) | (p00 & 0xffffffffu), p11 + (middle >> 32) + (p01 >> 32)};
  }
  static constexpr std::uint64_t avalanche(std::uint64_t x) noexcept {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
  }
  static constexpr std::uint64_t pair(token first, token second) noexcept {
    return static_cast<std::uint32_t>(first) | static_cast<std::uint64_t>(static_cast<std::uint32_t>(second)) << 32;
  }
  static std::uint64_t load(const std::byte* at, std::size_t n) noexcept {
    std::uint64_t value = 0;
    if constexpr (std::endian::native == std::endian::little) {
      std::memcpy(&value, at, n);
    } else {
      for (std::size_t i = 0; i < n; ++i) value |= static_cast<std::uint64_t>(at[i]) << (8 * i);
    }
    return value;
  }
  constexpr void step(std::uint64_t x, std::uint64_t y) noexcept {
    const product p = multiply(a_ ^ x, b_ ^ y ^ 0xa0761d6478bd642fu);
    // Adding the lanes back keeps the state alive when a factor happens to be zero.
    a_ = std::rotl(a_, 29) + p.high + x;
    b_ = std::rotl(b_, 37) + p.low + y;
  }

  std::uint64_t a_;
  std::uint64_t b_;
};

}  // namespace blockattn::inline v0

template <>
struct std::hash<blockattn::hash128> {
  std::size_t operator()(const blockattn::hash128& h) const noexcept { return static_cast<std::size_t>(h.low); }
};
