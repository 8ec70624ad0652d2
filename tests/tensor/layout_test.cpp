// SPDX-License-Identifier: MIT
#include <blockattn/tensor/layout.hpp>
#include <set>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

// What every mapping owes: offsets follow the strides, are distinct, and end where required_size says.
template <class Mapping>
void check_mapping(const Mapping& m) {
  std::set<std::size_t> seen;
  for (std::size_t i = 0; i < m.extents().extent(0); ++i)
    for (std::size_t j = 0; j < m.extents().extent(1); ++j)
      for (std::size_t k = 0; k < m.extents().extent(2); ++k) {
        const std::size_t at = m(i, j, k);
        CHECK(at == i * m.stride(0) + j * m.stride(1) + k * m.stride(2));
        CHECK(at < m.required_size());
        CHECK(seen.insert(at).second);
      }
  CHECK(seen.size() == m.extents().elements());
  CHECK((seen.empty() ? 0 : *seen.rbegin() + 1) == m.required_size());
}

// A user's layout: the first index runs fastest.
struct column_major {
  static constexpr bool contiguous_rows = false;
  template <class Extents>
  class mapping {
   public:
    using extents_type = Extents;
    explicit mapping(const Extents& e) : extents_(e) {}
    const Extents& extents() const { return extents_; }
    std::size_t stride(std::size_t r) const {
      std::size_t s = 1;
      for (std::size_t k = 0; k < r; ++k) s *= extents_.extent(k);
      return s;
    }
    std::size_t offset(const std::array<std::size_t, Extents::rank()>& at) const {
      std::size_t sum = 0;
      for (std::size_t r = 0; r < Extents::rank(); ++r) sum += at[r] * stride(r);
      return sum;
    }
    std::size_t required_size() const { return extents_.elements(); }

   private:
    Extents extents_;
  };
};
static_assert(ba::layout<column_major, ba::dims<2>>);
struct not_a_layout {};
static_assert(!ba::layout<not_a_layout, ba::dims<2>>);

}  // namespace

TEST_CASE("layout: every mapping is injective and ends at required_size") {
  const ba::dims<3> e(3, 4, 5);
  check_mapping(ba::row_major::mapping<ba::dims<3>>(e));
  check_mapping(ba::row_major::mapping<ba::extents<3, 4, 5>>(ba::extents<3, 4, 5>{}));
  check_mapping(ba::padded_rows<16>::mapping<ba::dims<3>>(e));
  check_mapping(ba::padded_rows<1>::mapping<ba::dims<3>>(e, 9));
  check_mapping(ba::strided::mapping<ba::dims<3>>(e));
  check_mapping(ba::strided::mapping<ba::dims<3>>(e, {1, 3, 12}));
  for (const auto& empty : {ba::dims<3>(0, 4, 5), ba::dims<3>(3, 0, 5), ba::dims<3>(3, 4, 0)}) {
    check_mapping(ba::row_major::mapping<ba::dims<3>>(empty));
    check_mapping(ba::padded_rows<16>::mapping<ba::dims<3>>(empty));
    check_mapping(ba::strided::mapping<ba::dims<3>>(empty));
  }
}

TEST_CASE("layout: row_major is dense, padded_rows rounds the row up") {
  const ba::row_major::mapping<ba::dims<3>> dense(ba::dims<3>(2, 3, 4));
  CHECK(dense.stride(0) == 12);
  CHECK(dense.stride(1) == 4);
  CHECK(dense.stride(2) == 1);
  CHECK(dense.required_size() == 24);

  for (const std::size_t cols : {1u, 15u, 16u, 17u}) {
    const ba::padded_rows<16>::mapping<ba::dims<2>> padded(ba::dims<2>(3, cols));
    CHECK(padded.pitch() == (cols <= 16 ? 16u : 32u));
    CHECK(padded.stride(0) == padded.pitch());
    CHECK(padded.stride(1) == 1);
    CHECK(padded.required_size() == 2 * padded.pitch() + cols);
  }
  // Above rank 2 only the innermost rows are padded; matrices follow each other without a gap.
  const ba::padded_rows<8>::mapping<ba::dims<3>> cube(ba::dims<3>(2, 3, 5));
  CHECK(cube.stride(1) == 8);
  CHECK(cube.stride(0) == 24);
}

TEST_CASE("layout: static extents cost a mapping nothing") {
  STATIC_REQUIRE(std::is_empty_v<ba::row_major::mapping<ba::extents<4, 8>>>);
  STATIC_REQUIRE(ba::row_major::mapping<ba::extents<4, 8>>{}(3, 7) == 31);
}
