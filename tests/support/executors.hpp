// SPDX-License-Identifier: MIT
// Executors that run tasks in orders a pool would hardly choose, on threads of their own for each call.
#pragma once

#include <blockattn/core/executor.hpp>

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace blockattn_test {

// Tasks are dealt in turns, the last first.
struct dealing_executor {
  std::size_t workers = 1;
  [[nodiscard]] std::size_t concurrency() const noexcept { return workers; }
  void for_each(std::size_t tasks, blockattn::task_ref task) const {
    std::vector<std::thread> pool;
    for (std::size_t w = 0; w < workers; ++w)
      pool.emplace_back([=, this] {
        for (std::size_t i = tasks; i-- > 0;)
          if (i % workers == w) task(w, i);
      });
    for (std::thread& t : pool) t.join();
  }
};

// A task goes to whoever is free, the last first: another order in each run.
struct racing_executor {
  std::size_t workers = 1;
  [[nodiscard]] std::size_t concurrency() const noexcept { return workers; }
  void for_each(std::size_t tasks, blockattn::task_ref task) const {
    std::atomic<std::size_t> taken{0};
    std::vector<std::thread> pool;
    for (std::size_t w = 0; w < workers; ++w)
      pool.emplace_back([&, w] {
        for (std::size_t i = taken++; i < tasks; i = taken++) task(w, tasks - 1 - i);
      });
    for (std::thread& t : pool) t.join();
  }
};

}  // namespace blockattn_test
