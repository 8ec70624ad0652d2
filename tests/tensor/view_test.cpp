// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <blockattn/core/element.hpp>
#include <blockattn/tensor/view.hpp>
#include <numeric>
#include <type_traits>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("view: is a small value") {
  STATIC_REQUIRE(std::is_trivially_copyable_v<ba::matrix_view<float>>);
  STATIC_REQUIRE(sizeof(ba::view<float, ba::extents<4, 8>>) == sizeof(float*));
  STATIC_REQUIRE(sizeof(ba::vector_view<float>) == sizeof(float*) + sizeof(std::size_t));
  const ba::matrix_view<float> none;
  CHECK(none.data() == nullptr);
  CHECK(none.empty());
}

TEST_CASE("view: a matrix of rows with a stride") {
  std::array<float, 40> memory{};
  std::iota(memory.begin(), memory.end(), 0.0f);
  const ba::matrix_view<float> m(memory.data(), 4, 7, 10);
  CHECK(m.rows() == 4);
  CHECK(m.cols() == 7);
  CHECK(m.stride() == 10);
  CHECK(m.size() == 28);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(m.row(i) == memory.data() + 10 * i);
    for (std::size_t j = 0; j < 7; ++j) CHECK(m(i, j) == static_cast<float>(10 * i + j));
  }
  m(2, 3) = -1;
  CHECK(memory[23] == -1);

  const auto middle = ba::rows_of(m, 1, 2);
  CHECK(middle.rows() == 2);
  CHECK(middle.row(0) == m.row(1));
  const auto head = ba::columns_of(middle, 4, 3);
  CHECK(head.cols() == 3);
  CHECK(head.stride() == 10);
  CHECK(head(1, 2) == 26);
  CHECK(ba::rows_of(m, 4, 0).empty());

  const ba::matrix_view<float> dense(memory.data(), 5, 8);
  CHECK(dense.stride() == 8);
}

TEST_CASE("view: conversions only lose what is known") {
  using fixed = ba::view<float, ba::extents<2, 3>>;
  using constant = ba::matrix_view<const float>;
  STATIC_REQUIRE(std::is_convertible_v<fixed, constant>);
  STATIC_REQUIRE(std::is_convertible_v<ba::matrix_view<float>, constant>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<constant, ba::matrix_view<float>>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<ba::matrix_view<float>, fixed>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<ba::view<float, ba::dims<2>, ba::strided>, ba::matrix_view<float>>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<ba::matrix_view<float>, ba::view<float, ba::dims<2>>>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<ba::matrix_view<ba::bf16>, ba::matrix_view<float>>);

  std::array<float, 6> memory{0, 1, 2, 3, 4, 5};
  const fixed f(memory.data(), ba::extents<2, 3>{});
  const constant c = f;
  const ba::view<const float, ba::dims<2>, ba::strided> s = c;
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t j = 0; j < 3; ++j) {
      CHECK(&c(i, j) == &f(i, j));
      CHECK(&s(i, j) == &f(i, j));
    }
}

TEST_CASE("view: transposing and slicing move no element") {
  std::array<int, 60> memory{};
  std::iota(memory.begin(), memory.end(), 0);
  const ba::view<int, ba::dims<3>> cube(memory.data(), 3, 4, 5);
  const ba::matrix_view<int> second = ba::slice(cube, 1);
  const auto turned = ba::transposed(second);
  CHECK(turned.rows() == 5);
  CHECK(turned.cols() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto row = ba::slice(second, i);
    for (std::size_t j = 0; j < 5; ++j) {
      CHECK(&second(i, j) == &cube(1, i, j));
      CHECK(&turned(j, i) == &cube(1, i, j));
      CHECK(&row[j] == &cube(1, i, j));
    }
  }
  // A column of a matrix is a strided vector.
  const auto column = ba::slice(ba::transposed(second), 2);
  for (std::size_t i = 0; i < 4; ++i) CHECK(&column[i] == &cube(1, i, 2));

  // A slice of a padded tensor keeps its pitch.
  const ba::padded_rows<1>::mapping<ba::dims<3>> mapping(ba::dims<3>(2, 3, 4), 6);
  const ba::view<int, ba::dims<3>, ba::padded_rows<1>> padded(memory.data(), mapping);
  const auto last = ba::slice(padded, 1);
  STATIC_REQUIRE(std::is_same_v<std::remove_const_t<decltype(last)>, ba::matrix_view<int>>);
  CHECK(last.stride() == 6);
  CHECK(&last(2, 3) == &padded(1, 2, 3));
}
