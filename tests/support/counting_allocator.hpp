// SPDX-License-Identifier: MIT
/// Allocators that watch: one counts what is alive, one fails on request. Tests of "allocates nothing" and of the
/// strong guarantee stand on them.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>
#include <memory_resource>
#include <new>

namespace blockattn_test {

/// What the copies of one allocator have done together. Safe to use from several threads.
struct allocation_counter {
  std::atomic<std::size_t> allocations{0};    // ever made
  std::atomic<std::size_t> deallocations{0};  // ever made
  std::atomic<std::size_t> live_bytes{0};
  std::atomic<std::size_t> peak_bytes{0};
  std::atomic<std::size_t> remaining{std::numeric_limits<std::size_t>::max()};  // allocations until one fails

  void add(std::size_t bytes) {
    allocations.fetch_add(1);
    const std::size_t now = live_bytes.fetch_add(bytes) + bytes;
    std::size_t peak = peak_bytes.load();
    while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
    }
  }
  void remove(std::size_t bytes) {
    deallocations.fetch_add(1);
    live_bytes.fetch_sub(bytes);
  }
  /// False when this allocation is the one that must fail.
  bool admit() {
    if (remaining.load() == std::numeric_limits<std::size_t>::max()) return true;
    if (remaining.load() == 0) return false;
    remaining.fetch_sub(1);
    return true;
  }
  /// The next `n` allocations succeed, all after them fail.
  void fail_after(std::size_t n) { remaining.store(n); }
  void never_fail() { remaining.store(std::numeric_limits<std::size_t>::max()); }
  [[nodiscard]] std::size_t live() const { return allocations.load() - deallocations.load(); }
};

/// A std-style allocator that reports to a counter. Stateful on purpose: copies compare equal iff they share a counter,
/// there is no default constructor, and it does not propagate, as `std::pmr::polymorphic_allocator` does not.
template <class T>
class counting_allocator {
 public:
  using value_type = T;

  counting_allocator(allocation_counter& counter) noexcept : counter_(&counter) {}
  template <class U>
  counting_allocator(const counting_allocator<U>& other) noexcept : counter_(&other.counter()) {}

  [[nodiscard]] T* allocate(std::size_t n) {
    // Failing before anything is counted keeps live_bytes exact.
    if (!counter_->admit()) {
#if defined(__cpp_exceptions)
      throw std::bad_alloc();
#else
      return nullptr;
#endif
    }
    T* p = std::allocator<T>().allocate(n);
    counter_->add(n * sizeof(T));
    return p;
  }
  void deallocate(T* p, std::size_t n) noexcept {
    std::allocator<T>().deallocate(p, n);
    counter_->remove(n * sizeof(T));
  }

  [[nodiscard]] allocation_counter& counter() const noexcept { return *counter_; }
  template <class U>
  friend bool operator==(const counting_allocator& a, const counting_allocator<U>& b) noexcept {
    return &a.counter() == &b.counter();
  }

 private:
  allocation_counter* counter_;
};

/// The same as a memory resource.
class counting_resource : public std::pmr::memory_resource {
 public:
  explicit counting_resource(allocation_counter& counter) : counter_(&counter) {}

 private:
  void* do_allocate(std::size_t bytes, std::size_t align) override {
    void* p = std::pmr::new_delete_resource()->allocate(bytes, align);
    counter_->add(bytes);
    return p;
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t align) override {
    std::pmr::new_delete_resource()->deallocate(p, bytes, align);
    counter_->remove(bytes);
  }
  [[nodiscard]] bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  allocation_counter* counter_;
};

}  // namespace blockattn_test
