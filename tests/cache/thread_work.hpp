// SPDX-License-Identifier: MIT
/// What the store's tests on threads share.
#pragma once

#include <cstddef>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "fake_encoder.hpp"

namespace blockattn_test {

/// Runs `body(thread)` on `n` threads. Catch assertions stay on the main thread.
template <class Body>
void on_threads(std::size_t n, Body body) {
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < n; ++t) threads.emplace_back([&body, t] { body(t); });
  for (auto& thread : threads) thread.join();
}

/// A request that stops inside its encoding until told to go on.
struct stopped_request {
  explicit stopped_request(fake_encoder& encoder) {
    encoder.during = [this, first = true]() mutable {
      if (!std::exchange(first, false)) return;
      arrived.set_value();
      go.get_future().wait();
    };
  }
  std::promise<void> arrived, go;
};

}  // namespace blockattn_test
