// SPDX-License-Identifier: MIT
#include <algorithm>
#include <blockattn/core/element.hpp>
#include <blockattn/tensor/tensor.hpp>
#include <cstdint>
#include <limits>
#include <memory_resource>

#include "../support/catch.hpp"
#include "../support/counting_allocator.hpp"

namespace ba = blockattn;
using blockattn_test::allocation_counter;
using blockattn_test::counting_allocator;

namespace {
template <class T>
using counted_matrix = ba::matrix<T, counting_allocator<T>>;

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % ba::alignment == 0; }
}  // namespace

TEST_CASE("tensor: starts as zeros on a 64-byte boundary, whatever the element") {
  const ba::matrix<float> f(3, 5);
  const ba::tensor<ba::bf16, ba::dims<3>> b(2, 3, 7);
  const ba::tensor<double, ba::extents<4, ba::dynamic>, ba::padded_rows<8>> d(ba::extents<4, ba::dynamic>(5));
  CHECK(aligned(f.data()));
  CHECK(aligned(b.data()));
  CHECK(aligned(d.data()));
  CHECK(std::all_of(f.elements().begin(), f.elements().end(), [](float x) { return x == 0; }));
  CHECK(b.elements().size() == 42);
  CHECK(d.stride(0) == 8);
  for (std::size_t i = 0; i < 4; ++i) CHECK(aligned(d.row(i)));
}

TEST_CASE("tensor: reads and writes through indices, rows and views") {
  ba::matrix<float> m(2, 3);
  m(1, 2) = 5;
  CHECK(m.row(1)[2] == 5);
  const ba::matrix_view<float> writable = m;
  writable(0, 0) = 7;
  const ba::matrix<float>& constant = m;
  const ba::matrix_view<const float> readable = constant;
  CHECK(readable(0, 0) == 7);
  CHECK(constant(1, 2) == 5);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<const ba::matrix<float>&, ba::matrix_view<float>>);
}

TEST_CASE("tensor: copies are deep, moves keep the address") {
  ba::matrix<float> a(2, 2);
  a(0, 1) = 3;
  ba::matrix<float> b = a;
  b(0, 1) = 4;
  CHECK(a(0, 1) == 3);
  const float* before = b.data();
  ba::matrix<float> c = std::move(b);
  CHECK(c.data() == before);
  a = c;
  CHECK(a(0, 1) == 4);
  CHECK(a.data() != c.data());
  a = std::move(c);
  CHECK(a.data() == before);
  ba::matrix<float>& self = a;
  a = self;
  CHECK(a(0, 1) == 4);
}

TEST_CASE("tensor: takes all its memory from the allocator and gives it back") {
  allocation_counter counter;
  {
    counted_matrix<float> a(ba::dims<2>(10, 10), counting_allocator<float>(counter));
    CHECK(counter.live() == 1);
    CHECK(counter.live_bytes >= 400);
    const counted_matrix<float> b = a;
    CHECK(counter.live() == 2);
    const counted_matrix<float> c = std::move(a);
    CHECK(counter.live() == 2);
    CHECK(c.get_allocator() == counting_allocator<float>(counter));
  }
  CHECK(counter.live() == 0);
  CHECK(counter.live_bytes == 0);
}

TEST_CASE("tensor: moving between allocators that differ copies the elements") {
  allocation_counter first, second;
  counted_matrix<int> a(ba::dims<2>(2, 2), counting_allocator<int>(first));
  counted_matrix<int> b(ba::dims<2>(3, 3), counting_allocator<int>(second));
  a(1, 1) = 9;
  b = std::move(a);
  CHECK(b.extents() == ba::dims<2>(2, 2));
  CHECK(b(1, 1) == 9);
  CHECK(b.get_allocator() == counting_allocator<int>(second));
  CHECK(second.live() == 1);
}

TEST_CASE("tensor: works on a polymorphic allocator") {
  allocation_counter counter;
  blockattn_test::counting_resource resource(counter);
  using allocator = std::pmr::polymorphic_allocator<float>;
  {
    const ba::matrix<float, allocator> m(ba::dims<2>(4, 4), allocator(&resource));
    CHECK(aligned(m.data()));
    CHECK(counter.live() == 1);
  }
  CHECK(counter.live_bytes == 0);
}

TEST_CASE("tensor: sizes from outside become typed errors") {
  const auto good = ba::matrix<float>::make(ba::dims<2>(2, 3));
  REQUIRE(good.has_value());
  CHECK((*good)(1, 2) == 0);

  constexpr std::size_t huge = std::size_t{1} << 40;
  const auto overflow = ba::matrix<float>::make(ba::dims<2>(huge, huge));
  REQUIRE_FALSE(overflow.has_value());
  CHECK(overflow.error().code == ba::errc::invalid_argument);
  CHECK(overflow.error().message.find("1099511627776 x 1099511627776") != std::string::npos);

  allocation_counter counter;
  counter.fail_after(0);
  const auto full = counted_matrix<float>::make(ba::dims<2>(2, 3), counting_allocator<float>(counter));
  REQUIRE_FALSE(full.has_value());
  CHECK(full.error().code == ba::errc::out_of_memory);
  CHECK(full.error().message.find("2 x 3") != std::string::npos);
}

TEST_CASE("tensor: a failed assignment changes nothing") {
  allocation_counter counter;
  counted_matrix<int> a(ba::dims<2>(2, 2), counting_allocator<int>(counter));
  const counted_matrix<int> b(ba::dims<2>(5, 5), counting_allocator<int>(counter));
  a(0, 1) = 6;
  counter.fail_after(0);
  CHECK_THROWS_AS(a = b, std::bad_alloc);
  counter.never_fail();
  CHECK(a.extents() == ba::dims<2>(2, 2));
  CHECK(a(0, 1) == 6);
}

TEST_CASE("tensor: an empty one owns nothing") {
  const ba::matrix<float> none;
  CHECK(none.empty());
  CHECK(none.elements().empty());
  const ba::matrix<float> flat(0, 5);
  CHECK(flat.empty());
  CHECK(flat.extent(1) == 5);
}
