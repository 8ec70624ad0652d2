// SPDX-License-Identifier: MIT
/// `background_worker`: a thread that saves and fetches for a store, because the program made one.
#pragma once

#include <atomic>
#include <thread>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// Does the jobs of a store with tiers as they come. It must die before the store; what is queued by then is done
/// first. Several may serve one store.
template <class Store>
class background_worker {
 public:
  explicit background_worker(Store& store) : store_(store), thread_([this] { store_.work(stop_); }) {}
  background_worker(const background_worker&) = delete;
  background_worker& operator=(const background_worker&) = delete;
  ~background_worker() {
    stop_ = true;
    store_.wake();
    thread_.join();
  }

 private:
  Store& store_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace blockattn::inline v0
