// SPDX-License-Identifier: MIT
/// Replaces the global `operator new` of a test program by one that remembers the largest request. Include it in one
/// file of a program only.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#include "allocation_watch.hpp"

namespace blockattn_test {

inline void* watched_allocate(std::size_t bytes) {
  std::size_t seen = largest_allocation.load();
  while (bytes > seen && !largest_allocation.compare_exchange_weak(seen, bytes)) {
  }
  void* p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace blockattn_test

// Inlined, gcc takes the malloc and free in them for a mismatch with new and delete.
#if defined(__GNUC__)
#define BLOCKATTN_TEST_APART __attribute__((noinline))
#else
#define BLOCKATTN_TEST_APART
#endif

BLOCKATTN_TEST_APART void* operator new(std::size_t bytes) { return blockattn_test::watched_allocate(bytes); }
BLOCKATTN_TEST_APART void* operator new[](std::size_t bytes) { return blockattn_test::watched_allocate(bytes); }
BLOCKATTN_TEST_APART void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes == 0 ? 1 : bytes);
}
BLOCKATTN_TEST_APART void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes == 0 ? 1 : bytes);
}
BLOCKATTN_TEST_APART void operator delete(void* p) noexcept { std::free(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p) noexcept { std::free(p); }
BLOCKATTN_TEST_APART void operator delete(void* p, std::size_t) noexcept { std::free(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
BLOCKATTN_TEST_APART void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
