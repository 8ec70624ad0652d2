// SPDX-License-Identifier: MIT
/// What a store still has to do with its tiers: blocks to save, blocks to fetch ahead.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../tensor/kv_panels.hpp"
#include "block.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

/// One thing to do. With a block: save it to the tiers before `end`. Without: fetch these tokens into memory.
struct store_job {
  std::shared_ptr<const block_realm> realm = {};
  block_handle block = {};
  std::size_t end = 0;
  block_key key = {};
  kv_shape shape = {};
  std::vector<token> ids = {};
};

/// Jobs in order, saves before prefetches. All members may be called from any thread at any time; no thread is started.
class job_queue {
 public:
  explicit job_queue(std::size_t most_saves) noexcept : most_saves_(most_saves) {}

  /// Adds a job. Refuses a save when there are too many, handing the job back: whoever makes saves faster than they
  /// are done must do some.
  [[nodiscard]] std::optional<store_job> push(store_job job) {
    {
      const std::lock_guard guard(lock_);
      auto& jobs = job.block != nullptr ? saves_ : fetches_;
      if (&jobs == &saves_ && saves_.size() >= most_saves_) return job;
      jobs.push_back(std::move(job));
    }
    change_.notify_all();
    return std::nullopt;
  }
  /// The next job, if there is one. Whoever takes a job calls `done()` after it.
  [[nodiscard]] std::optional<store_job> take(bool saves_only = false) {
    const std::lock_guard guard(lock_);
    return take_locked(saves_only);
  }
  /// The same, waiting for one; none once `stop` is set and there is nothing left.
  [[nodiscard]] std::optional<store_job> wait(const std::atomic<bool>& stop) {
    std::unique_lock guard(lock_);
    change_.wait(guard, [&] { return stop || !saves_.empty() || !fetches_.empty(); });
    return take_locked(false);
  }
  void done() {
    {
      const std::lock_guard guard(lock_);
      --running_;
    }
    change_.notify_all();
  }
  /// Until no save waits and nobody works on a job.
  void wait_idle() {
    std::unique_lock guard(lock_);
    change_.wait(guard, [&] { return saves_.empty() && running_ == 0; });
  }
  /// Wakes those who wait, to look at their `stop`.
  void wake() {
    { const std::lock_guard guard(lock_); }
    change_.notify_all();
  }
  void forget(const block_key& key) {
    const std::lock_guard guard(lock_);
    std::erase_if(saves_, [&](const store_job& job) { return job.key == key; });
    std::erase_if(fetches_, [&](const store_job& job) { return job.key == key; });
  }
  /// Jobs that wait.
  [[nodiscard]] std::size_t size() const {
    const std::lock_guard guard(lock_);
    return saves_.size() + fetches_.size();
  }

 private:
  std::optional<store_job> take_locked(bool saves_only) {
    auto& jobs = saves_only || !saves_.empty() ? saves_ : fetches_;
    if (jobs.empty()) return std::nullopt;
    std::optional<store_job> out(std::move(jobs.front()));
    jobs.pop_front();
    ++running_;
    return out;
  }

  mutable std::mutex lock_;
  std::condition_variable change_;
  std::deque<store_job> saves_, fetches_;
  std::size_t most_saves_;
  std::size_t running_ = 0;
};

}  // namespace blockattn::inline v0
