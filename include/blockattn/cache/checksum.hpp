// SPDX-License-Identifier: MIT
/// XXH3-64 of a block's bytes, and its text form. Component `blockattn::store` (xxHash).
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../core/config.hpp"
#include "../core/hash.hpp"

namespace blockattn::inline v0::detail {

// 16 lower-case hexadecimal digits.
inline std::string hex64(std::uint64_t x) { return hash128{0, x}.hex().substr(16); }
inline bool parse_hex64(std::string_view text, std::uint64_t& out) noexcept {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return text.size() == 16 && code == std::errc() && end == text.data() + text.size();
}

// XXH3-64 with seed 0 of bytes that no cache holds.
//
// From the cache it runs several times faster than memory delivers. From memory, one core that reads one stream waits
// for a single run of its prefetcher and gets two thirds of what it gets from several streams (bench/restore_bench). A
// hash takes its bytes in order; so they are asked for out of order, one chunk ahead, at eight places of it in turn.
inline std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept {
  constexpr std::size_t line = 64, streams = 8, chunk = 64_KiB;  // two chunks are a small part of any L2 cache
  constexpr std::size_t piece = 1_KiB;                           // two lines of each stream: a pair that memory fetches
  if (bytes.size() < 2 * chunk) return XXH3_64bits(bytes.data(), bytes.size());
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
#if defined(__GNUC__) || defined(__clang__)
    // The next chunk may lie behind the end: most often the next layer is there, and asking for what nobody has is no
    // access. Hence numbers, not pointers.
    const std::uintptr_t next = reinterpret_cast<std::uintptr_t>(bytes.data()) + at / chunk * chunk + chunk +
                                at % chunk / streams;
    for (std::size_t s = 0; s < streams; ++s)
      for (std::size_t k = 0; k < piece / streams; k += line)
        __builtin_prefetch(reinterpret_cast<const void*>(next + s * (chunk / streams) + k), 0, 2);
#endif
    XXH3_64bits_update(&state, bytes.data() + at, std::min(piece, bytes.size() - at));
  }
  return XXH3_64bits_digest(&state);
}

}  // namespace blockattn::inline v0::detail
