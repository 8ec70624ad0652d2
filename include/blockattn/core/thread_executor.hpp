// SPDX-License-Identifier: MIT
/// A pool of std::threads that models `executor`. The only file of the library that starts a thread, and only when a
/// program makes one of these.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "config.hpp"
#include "executor.hpp"

namespace blockattn::inline v0 {

namespace detail {

// What the threads hold the address of. The contract is `thread_executor`'s.
class thread_pool {
 public:
  thread_pool(std::size_t workers, std::chrono::nanoseconds spin) : spin_(spin) {
    const std::size_t wanted = std::max<std::size_t>(workers, 1) - 1;
    threads_.reserve(wanted);
#if BLOCKATTN_EXCEPTIONS
    try {
      start(wanted);
    } catch (const std::system_error&) {
    }
#else
    start(wanted);
#endif
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  ~thread_pool() {
    stop_.store(true, std::memory_order_relaxed);
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  [[nodiscard]] std::size_t concurrency() const noexcept { return threads_.size() + 1; }

  void for_each(std::size_t n, task_ref task) noexcept {
    const std::size_t self = worker_of_this_thread();
    if (self != nobody || n <= 1 || threads_.empty()) {
      run_alone(self, n, task);
      return;
    }
    const std::lock_guard region(one_region_);
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    task_ = &task;
    count_ = n;
    next_.store(0, std::memory_order_relaxed);
    gate_.store(open, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_release);
    if (n - 1 >= threads_.size()) {
      epoch_.notify_all();
    } else {
      for (std::size_t i = 0; i + 1 < n; ++i) epoch_.notify_one();
    }
    claim(0);
    close();
    owner_.store(std::thread::id(), std::memory_order_relaxed);
  }

 private:
  // The gate decides who takes part in a region: bit 0 says that it is open, the rest counts the threads inside, in
  // steps of two. A thread that wakes late finds it shut and goes back to sleep, so nobody ever waits for it.
  static constexpr std::uint32_t open = 1;
  static constexpr std::uint32_t one_inside = 2;
  static constexpr std::size_t nobody = static_cast<std::size_t>(-1);

  void start(std::size_t wanted) {
    for (std::size_t i = 1; i <= wanted; ++i) threads_.emplace_back([this, i] { serve(i); });
  }

  // Which worker the calling thread is inside a region of this pool, or nobody. It is asked once per region, so a walk
  // over the threads is cheap enough, and it needs no thread-local state.
  [[nodiscard]] std::size_t worker_of_this_thread() const noexcept {
    const std::thread::id self = std::this_thread::get_id();
    if (owner_.load(std::memory_order_relaxed) == self) return 0;
    for (std::size_t i = 0; i < threads_.size(); ++i)
      if (threads_[i].get_id() == self) return i + 1;
    return nobody;
  }

  void run_alone(std::size_t self, std::size_t n, task_ref task) noexcept {
    if (self != nobody) {
      for (std::size_t i = 0; i < n; ++i) task(self, i);
      return;
    }
    // Still one region at a time: another thread's worker 0 owns the same scratch.
    const std::lock_guard region(one_region_);
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    for (std::size_t i = 0; i < n; ++i) task(0, i);
    owner_.store(std::thread::id(), std::memory_order_relaxed);
  }

  void claim(std::size_t worker) noexcept {
    const std::size_t n = count_;
    const task_ref task = *task_;
    for (std::size_t i = next_.fetch_add(1, std::memory_order_relaxed); i < n;
         i = next_.fetch_add(1, std::memory_order_relaxed))
      task(worker, i);
  }

  // Shuts the gate and waits for the threads inside: every task was claimed before, so then every task is done.
  void close() noexcept {
    std::uint32_t inside = gate_.fetch_sub(open, std::memory_order_acq_rel) - open;
    spin_until([&] { return (inside = gate_.load(std::memory_order_acquire)) == 0; });
    while (inside != 0) {
      gate_.wait(inside, std::memory_order_acquire);
      inside = gate_.load(std::memory_order_acquire);
    }
  }

  [[nodiscard]] bool enter() noexcept {
    std::uint32_t seen = gate_.load(std::memory_order_relaxed);
    while ((seen & open) != 0)
      if (gate_.compare_exchange_weak(seen, seen + one_inside, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    return false;
  }

  void leave() noexcept {
    if (gate_.fetch_sub(one_inside, std::memory_order_release) == one_inside) gate_.notify_one();
  }

  void serve(std::size_t worker) noexcept {
    for (std::uint32_t seen = 0;;) {
      spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; });
      epoch_.wait(seen, std::memory_order_acquire);
      seen = epoch_.load(std::memory_order_acquire);
      if (stop_.load(std::memory_order_relaxed)) return;
      if (enter()) {
        claim(worker);
        leave();
      }
    }
  }

  // Returns when `done()` or after the set time. The clock is read once in many looks: it costs more than a look.
  template <class Done>
  void spin_until(Done&& done) const noexcept {
    if (done() || spin_.count() <= 0) return;
    const auto end = std::chrono::steady_clock::now() + spin_;
    do {
      for (int look = 0; look < 32; ++look) {
        if (done()) return;
        relax();
      }
    } while (std::chrono::steady_clock::now() < end);
  }

  static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#else
    std::this_thread::yield();
#endif
  }

  std::chrono::nanoseconds spin_;
  std::vector<std::thread> threads_;
  std::mutex one_region_;
  std::atomic<std::thread::id> owner_{};  // who runs a region as worker 0
  const task_ref* task_ = nullptr;        // written before the gate opens, read by those inside
  std::size_t count_ = 0;

  // Each on a line of its own: they are written by different threads at different times.
  alignas(alignment) std::atomic<std::uint32_t> epoch_{0};
  std::atomic<bool> stop_{false};
  alignas(alignment) std::atomic<std::uint32_t> gate_{0};
  alignas(alignment) std::atomic<std::size_t> next_{0};
};

}  // namespace detail

/// `concurrency() - 1` threads and the caller, who is worker 0.
///
/// Between two regions a thread spins for at most `spin` and then sleeps; zero sleeps at once. Tasks are claimed one by
/// one, so an uneven load evens out. A region that the caller finishes alone never waits for a sleeping thread.
///
/// Two threads may call `for_each` at once: one region runs after the other. A task may call `for_each` of its own
/// executor: the inner tasks run at once on the worker that asked. A task that throws ends the program.
/// `for_each` allocates nothing. Moves hand the threads over; a moved-from executor may only be destroyed or assigned.
/// Destroying it joins the threads and requires that no region runs.
class thread_executor {
 public:
  static constexpr std::chrono::nanoseconds default_spin = std::chrono::microseconds(20);

  /// As many workers as the machine has hardware threads.
  thread_executor() : thread_executor(std::thread::hardware_concurrency()) {}

  /// `workers` counts the caller; 0 means 1, which starts nothing. If the system refuses a thread, the pool goes on with
  /// those it has: `concurrency()` says how many.
  explicit thread_executor(std::size_t workers, std::chrono::nanoseconds spin = default_spin)
      : pool_(std::make_unique<detail::thread_pool>(workers, spin)) {}

  [[nodiscard]] std::size_t concurrency() const noexcept { return pool_->concurrency(); }
  void for_each(std::size_t n, task_ref task) noexcept { pool_->for_each(n, task); }

 private:
  std::unique_ptr<detail::thread_pool> pool_;
};

static_assert(executor<thread_executor>);

}  // namespace blockattn::inline v0
