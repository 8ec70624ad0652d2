// SPDX-License-Identifier: MIT
/// Random work on a tier, by several threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "../support/random_model.hpp"
#include "folder_of_blocks.hpp"

namespace blockattn_test {

/// Saves, loads and erases blocks 0..7; returns how much was wrong. Catch assertions stay on the main thread.
template <class Tier>
std::size_t work(Tier& tier, std::size_t thread, std::size_t operations) {
  small_blocks s;
  random_numbers random(thread + 1);
  std::size_t wrong = 0;
  for (std::size_t n = 0; n < operations; ++n) {
    const std::size_t i = random.below(8);
    switch (random.below(6)) {
      case 0: wrong += !tier.erase(s.key(i)); break;
      case 1:
      case 2: wrong += !s.save(tier, i); break;
      case 3: (void)tier.contains(s.key(i)); break;
      default: {
        const auto found = s.load(tier, i);
        if (!found || (*found && (!(*found)->verify() || !has_fake_payload(**found)))) ++wrong;
      }
    }
  }
  return wrong;
}

template <class Tier>
std::size_t work_on_threads(Tier& tier, std::size_t operations) {
  std::atomic<std::size_t> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) threads.emplace_back([&, t] { wrong += work(tier, t, operations); });
  for (auto& t : threads) t.join();
  return wrong;
}

}  // namespace blockattn_test
