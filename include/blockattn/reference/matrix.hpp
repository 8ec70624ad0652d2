// SPDX-License-Identifier: MIT
/// The few matrix operations of the reference: plain loops over doubles, each sum in the order of its index.
///
/// The order is a promise that the laws rely on: an element of a product depends on its own row alone, so a row is
/// the same to the bit whether it is computed alone or beside others.
#pragma once

#include <span>
#include <vector>

#include "../core/config.hpp"

namespace blockattn::inline v0::reference {

/// A row-major matrix of doubles.
class matrix {
 public:
  matrix() = default;
  matrix(std::size_t rows, std::size_t cols, double value = 0.0)
      : rows_(rows), cols_(cols), data_(rows * cols, value) {}

  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t cols() const noexcept { return cols_; }
  [[nodiscard]] double& operator()(std::size_t row, std::size_t col) { return data_[row * cols_ + col]; }
  [[nodiscard]] double operator()(std::size_t row, std::size_t col) const { return data_[row * cols_ + col]; }
  [[nodiscard]] std::span<double> row(std::size_t row) { return std::span(data_).subspan(row * cols_, cols_); }
  [[nodiscard]] std::span<const double> row(std::size_t row) const {
    return std::span(data_).subspan(row * cols_, cols_);
  }
  /// Columns [first, first + count) of a row: one head of a row of heads.
  [[nodiscard]] std::span<double> part(std::size_t row_index, std::size_t first, std::size_t count) {
    return row(row_index).subspan(first, count);
  }
  [[nodiscard]] std::span<const double> part(std::size_t row_index, std::size_t first, std::size_t count) const {
    return row(row_index).subspan(first, count);
  }
  [[nodiscard]] std::span<double> values() noexcept { return data_; }
  [[nodiscard]] std::span<const double> values() const noexcept { return data_; }

  friend bool operator==(const matrix&, const matrix&) = default;

 private:
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::vector<double> data_;
};

/// <a, b>.
[[nodiscard]] inline double dot(std::span<const double> a, std::span<const double> b) {
  BLOCKATTN_EXPECTS(a.size() == b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// X W^T: every row of X [n][in] through the weights W [out][in], and a bias [out] added where there is one.
[[nodiscard]] inline matrix linear(const matrix& x, const matrix& weights, std::span<const double> bias = {}) {
  matrix y(x.rows(), weights.rows());
  for (std::size_t i = 0; i < x.rows(); ++i)
    for (std::size_t o = 0; o < weights.rows(); ++o)
      y(i, o) = dot(x.row(i), weights.row(o)) + (bias.empty() ? 0.0 : bias[o]);
  return y;
}

/// X += Y.
inline void add(matrix& x, const matrix& y) {
  BLOCKATTN_EXPECTS(x.rows() == y.rows() && x.cols() == y.cols());
  for (std::size_t i = 0; i < x.values().size(); ++i) x.values()[i] += y.values()[i];
}

}  // namespace blockattn::inline v0::reference
