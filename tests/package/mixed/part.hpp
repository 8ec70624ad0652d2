// SPDX-License-Identifier: MIT
// The same code in two translation units with different -m flags: a projection and an attention over stored keys, each
// against a double computation of its own.
#pragma once

#include <blockattn/blockattn.hpp>
#include <cmath>
#include <vector>

namespace {

// The largest error, or a large number if something is not as it should be.
double run_kernels() {
  using namespace blockattn;
  constexpr std::size_t rows = 37, cols = 53, n = 5;
  inline_executor here;
  const executor_ref workers(here);
  std::vector<float> w(rows * cols), x(n * cols), y(n * rows);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<float>(i));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<float>(i));
  packed_matrix packed{nullptr, dtype::f32, rows, cols};
  aligned_buffer<> panels(packed.bytes());
  packed.data = panels.data();
  native_kernels::pack(workers, packed, panels.data(), 0, dtype::f32, reinterpret_cast<const std::byte*>(w.data()), rows);
  aligned_buffer<> scratch(native_kernels::project_scratch(workers.concurrency(), packed, compute_type::f32, n));
  native_kernels::project(workers, packed, compute_type::f32, x.data(), cols, n, y.data(), rows, scratch.bytes());
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t k = 0; k < cols; ++k) sum += static_cast<double>(w[r * cols + k]) * static_cast<double>(x[i * cols + k]);
      worst = std::fmax(worst, std::fabs(sum - static_cast<double>(y[i * rows + r])));
    }
  return worst;
}

}  // namespace
