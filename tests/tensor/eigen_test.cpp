// SPDX-License-Identifier: MIT
#include <array>
#include <blockattn/tensor/eigen.hpp>
#include <blockattn/tensor/tensor.hpp>
#include <numeric>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("eigen: a map shares the elements of a view with a stride") {
  std::array<float, 40> memory{};
  std::iota(memory.begin(), memory.end(), 0.0f);
  const ba::matrix_view<float> m(memory.data(), 4, 7, 10);
  auto map = ba::as_eigen(m);
  REQUIRE(map.rows() == 4);
  REQUIRE(map.cols() == 7);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t j = 0; j < 7; ++j)
      CHECK(&map(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(j)) == &m(i, j));
  map(1, 1) = -2;
  CHECK(memory[11] == -2);
}

TEST_CASE("eigen: a product through maps is the product") {
  ba::matrix<double> a(3, 4), b(4, 2), c(3, 2);
  std::iota(a.elements().begin(), a.elements().end(), 1.0);
  std::iota(b.elements().begin(), b.elements().end(), -3.0);
  ba::as_eigen(ba::matrix_view<double>(c)).noalias() =
      ba::as_eigen(ba::matrix_view<const double>(a)) * ba::as_eigen(ba::matrix_view<const double>(b));
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 2; ++j) {
      double sum = 0;
      for (std::size_t k = 0; k < 4; ++k) sum += a(i, k) * b(k, j);
      CHECK(c(i, j) == sum);
    }
}

TEST_CASE("eigen: static sizes, transposed views and vectors") {
  std::array<float, 12> memory{};
  std::iota(memory.begin(), memory.end(), 0.0f);
  const ba::view<const float, ba::extents<3, 4>> fixed(memory.data(), ba::extents<3, 4>{});
  const auto map = ba::as_eigen(fixed);
  STATIC_REQUIRE(decltype(map)::RowsAtCompileTime == 3);
  STATIC_REQUIRE(decltype(map)::ColsAtCompileTime == 4);
  CHECK(map(2, 1) == 9);
  const auto turned = ba::as_eigen(ba::transposed(fixed));
  CHECK(turned(1, 2) == 9);
  CHECK((turned - map.transpose()).norm() == 0);

  const auto column = ba::as_eigen(ba::slice(ba::transposed(fixed), 1));
  CHECK(column(2) == 9);
  CHECK(column.sum() == 1 + 5 + 9);
  const ba::view<float, ba::extents<3, 1>> thin(memory.data(), ba::extents<3, 1>{});
  CHECK(ba::as_eigen(thin)(2, 0) == 2);
}

TEST_CASE("eigen: a row-major matrix as a view") {
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> m(2, 3);
  m << 1, 2, 3, 4, 5, 6;
  const auto view = ba::as_view(m);
  CHECK(view(1, 0) == 4);
  view(1, 0) = 8;
  CHECK(m(1, 0) == 8);
  const auto& constant = m;
  STATIC_REQUIRE(std::is_same_v<decltype(ba::as_view(constant)), ba::matrix_view<const float>>);
}
