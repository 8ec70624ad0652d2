// SPDX-License-Identifier: MIT
// Floats in [-1, 1), the same for the same seed wherever they are drawn.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace blockattn_test {

inline std::vector<float> random_floats(std::size_t n, unsigned seed) {
  std::mt19937 gen(seed);
  std::vector<float> v(n);
  for (float& x : v) x = static_cast<float>(static_cast<double>(gen()) / 2147483648.0 - 1.0);
  return v;
}

}  // namespace blockattn_test
