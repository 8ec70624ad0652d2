// SPDX-License-Identifier: MIT
/// Large pages for large buffers. Weights, keys and values are read front to back by the gigabyte, and outputs of
/// projections in rows that lie kilobytes apart: with pages of 4 KiB, translating addresses costs up to a fifth of a
/// product, and first touch runs at a fraction of its speed (docs/performance.md).
#pragma once

#include <memory>
#include <type_traits>

#include "config.hpp"

#if defined(__linux__) && __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

namespace blockattn::inline v0 {

/// Whether buffers of this allocator ask for large pages. True for std::allocator only: whoever brings memory of its own
/// knows best what it lies on. Specialise it to change that.
template <class Allocator>
inline constexpr bool asks_for_large_pages = false;
template <class T>
inline constexpr bool asks_for_large_pages<std::allocator<T>> = true;

#if defined(__linux__) && defined(MADV_HUGEPAGE)
inline constexpr std::size_t large_page = std::size_t{2} << 20;
#else
inline constexpr std::size_t large_page = 0;  // there are none to ask for
#endif

/// Whether a buffer of so many bytes is laid on large pages: two of them or more.
[[nodiscard]] constexpr bool wants_large_pages(std::size_t bytes) noexcept {
  return large_page != 0 && bytes >= 2 * large_page;
}

/// Asks for large pages in what `bytes` bytes at `p` hold of them, if they want any. A hint that changes no contents, for
/// memory that nobody has touched; nothing outside Linux. One system call.
inline void ask_for_large_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (!wants_large_pages(bytes)) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(p);
  const std::uintptr_t first = round_up(begin, large_page), last = (begin + bytes) / large_page * large_page;
  // What the system answers does not matter: without large pages everything works as before.
  if (first < last) (void)madvise(static_cast<std::byte*>(p) + (first - begin), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace blockattn::inline v0
