// SPDX-License-Identifier: MIT
/// How sure a share of right answers is.
#pragma once

#include <cmath>
#include <cstddef>
#include <utility>

namespace cli {

/// The 95 % interval of a probability of which `right` of `n` trials were seen (Wilson 1927). No trials: 0 to 1.
inline std::pair<double, double> wilson(std::size_t right, std::size_t n) {
  if (n == 0) return {0.0, 1.0};
  constexpr double z = 1.959963984540054;
  const double trials = static_cast<double>(n), p = static_cast<double>(right) / trials, z2 = z * z / trials;
  const double center = (p + z2 / 2) / (1 + z2), half = z * std::sqrt(p * (1 - p) / trials + z2 / (4 * trials)) / (1 + z2);
  return {std::fmax(0.0, center - half), std::fmin(1.0, center + half)};
}

}  // namespace cli
