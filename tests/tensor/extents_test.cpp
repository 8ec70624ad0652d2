// SPDX-License-Identifier: MIT
#include <blockattn/tensor/extents.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("extents: static sizes live in the type, dynamic ones in the object") {
  using mixed = ba::extents<ba::dynamic, 64, ba::dynamic>;
  STATIC_REQUIRE(mixed::rank() == 3);
  STATIC_REQUIRE(mixed::rank_dynamic() == 2);
  STATIC_REQUIRE(mixed::static_extent(0) == ba::dynamic);
  STATIC_REQUIRE(mixed::static_extent(1) == 64);
  STATIC_REQUIRE(sizeof(mixed) == 2 * sizeof(std::size_t));
  STATIC_REQUIRE(std::is_empty_v<ba::extents<3, 4>>);
  STATIC_REQUIRE(std::is_same_v<ba::dims<2>, ba::extents<ba::dynamic, ba::dynamic>>);

  const mixed from_dynamic(7, 3);
  const mixed from_all(7, 64, 3);
  CHECK(from_dynamic == from_all);
  CHECK(from_dynamic.extent(0) == 7);
  CHECK(from_dynamic.extent(1) == 64);
  CHECK(from_dynamic.extent(2) == 3);
  CHECK(from_dynamic.elements() == 7u * 64u * 3u);
}

TEST_CASE("extents: equality looks at sizes, not at where they are kept") {
  CHECK(ba::extents<2, 3>{} == ba::dims<2>(2, 3));
  CHECK(ba::dims<2>(2, 3) == ba::extents<2, 3>{});
  CHECK_FALSE(ba::extents<2, 3>{} == ba::dims<2>(3, 2));
  CHECK_FALSE(ba::extents<2, 3>{} == ba::dims<3>(2, 3, 1));
}

TEST_CASE("extents: forgetting static sizes is implicit, asserting them is explicit") {
  STATIC_REQUIRE(std::is_convertible_v<ba::extents<2, 3>, ba::dims<2>>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<ba::dims<2>, ba::extents<2, 3>>);
  STATIC_REQUIRE(std::is_constructible_v<ba::extents<2, 3>, ba::dims<2>>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<ba::extents<2, 3>, ba::extents<2, 4>>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<ba::dims<2>, ba::dims<3>>);
  constexpr ba::dims<2> forgot = ba::extents<2, 3>{};
  STATIC_REQUIRE(forgot.extent(1) == 3);
}

TEST_CASE("extents: a product that does not fit is seen before anybody allocates by it") {
  constexpr std::size_t huge = std::size_t{1} << 40;
  CHECK_FALSE(ba::dims<2>(huge, huge).checked_elements().has_value());
  CHECK(ba::dims<2>(huge, 1u << 20).checked_elements() == huge << 20);
  CHECK_FALSE(ba::dims<2>(huge, 1u << 20).checked_elements(16).has_value());
  CHECK(ba::dims<3>(huge, huge, 0).checked_elements() == 0u);
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  CHECK(ba::dims<1>(most - 1).checked_elements() == most - 1);
}
