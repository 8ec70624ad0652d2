// SPDX-License-Identifier: MIT
/// An executor over the compiler's OpenMP team. The only file of the library that includes <omp.h>: compile with
/// `-fopenmp`, or link `blockattn::openmp`.
#pragma once

#ifndef _OPENMP
#error "blockattn/core/omp_executor.hpp needs OpenMP: compile with -fopenmp or link blockattn::openmp"
#endif

#include <omp.h>

#include <algorithm>

#include "config.hpp"
#include "executor.hpp"

namespace blockattn::inline v0 {

/// A parallel loop with dynamic claim, one task at a time. The caller takes part as worker 0.
///
/// Holds no state but the number of workers, so copies are free. Each calling thread gets a team of its own: give
/// every session its own scratch, as always. A task must not call `for_each` of its own executor.
class omp_executor {
 public:
  /// As many workers as OpenMP would take by itself (OMP_NUM_THREADS).
  omp_executor() noexcept : omp_executor(static_cast<std::size_t>(std::max(omp_get_max_threads(), 1))) {}
  /// 0 means 1.
  explicit omp_executor(std::size_t num_threads) noexcept : threads_(std::max<std::size_t>(num_threads, 1)) {}

  [[nodiscard]] std::size_t concurrency() const noexcept { return threads_; }

  void for_each(std::size_t n, task_ref task) const {
    // The number is named in the pragma, so that neither OMP_NUM_THREADS nor a host's setting adds a worker for whom no
    // scratch exists.
    const int team = static_cast<int>(std::min(threads_, n));
    if (team <= 1) {
      for (std::size_t i = 0; i < n; ++i) task(0, i);
      return;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::size_t i = 0; i < n; ++i) task(static_cast<std::size_t>(omp_get_thread_num()), i);
  }

 private:
  std::size_t threads_;
};

static_assert(executor<omp_executor>);

}  // namespace blockattn::inline v0
