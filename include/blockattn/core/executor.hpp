// SPDX-License-Identifier: MIT
/// How work reaches threads. The library starts none: it splits a job into numbered tasks and hands them to an
/// executor of the caller's. Results never depend on the number of workers or on who ran which task.
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>

#include "config.hpp"

namespace blockattn::inline v0 {

/// A borrowed callable `void(std::size_t worker, std::size_t task)`; valid while the callable lives.
class task_ref {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_ref> &&
             std::is_invocable_v<F&, std::size_t, std::size_t>)
  task_ref(F& callable) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, std::size_t worker, std::size_t task) { (*static_cast<F*>(object))(worker, task); }) {}

  void operator()(std::size_t worker, std::size_t task) const { call_(object_, worker, task); }

 private:
  void* object_;
  void (*call_)(void*, std::size_t, std::size_t);
};

/// What the library asks of an executor.
/// - `concurrency()`: the number of workers; scratch memory is kept for each.
/// - `for_each(n, task)`: calls `task(worker, i)` once for every i in [0, n), with worker < concurrency() and no two
///   calls of one worker at the same time; returns when all are done. Tasks of the library do not throw.
template <class E>
concept executor = requires(E& e, std::size_t n, task_ref task) {
  { e.concurrency() } noexcept -> std::same_as<std::size_t>;
  { e.for_each(n, task) };
};

/// Runs everything on the calling thread. The executor that documents the concept.
struct inline_executor {
  [[nodiscard]] std::size_t concurrency() const noexcept { return 1; }
  void for_each(std::size_t n, task_ref task) const {
    for (std::size_t i = 0; i < n; ++i) task(0, i);
  }
};

/// A borrowed executor of any type: what kernels take, so that they compile once.
class executor_ref {
 public:
  template <class E>
    requires(!std::is_same_v<std::remove_cvref_t<E>, executor_ref> && executor<E>)
  executor_ref(E& e) noexcept
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(e)))),
        concurrency_([](void* object) noexcept { return static_cast<E*>(object)->concurrency(); }),
        for_each_([](void* object, std::size_t n, task_ref task) { static_cast<E*>(object)->for_each(n, task); }) {}

  [[nodiscard]] std::size_t concurrency() const noexcept { return concurrency_(object_); }
  /// One task runs here, without waking anybody.
  void for_each(std::size_t n, task_ref task) const {
    if (n == 1) {
      task(0, 0);
    } else if (n > 1) {
      for_each_(object_, n, task);
    }
  }
  /// The same for a callable given in place.
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, task_ref>)
  void for_each(std::size_t n, F&& callable) const {
    for_each(n, task_ref(callable));
  }

 private:
  void* object_;
  std::size_t (*concurrency_)(void*) noexcept;
  void (*for_each_)(void*, std::size_t, task_ref);
};

}  // namespace blockattn::inline v0
