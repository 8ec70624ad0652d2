// SPDX-License-Identifier: MIT
/// A non-owning tensor: a pointer, sizes and a layout. What kernels take.
///
/// Views are small values: pass them by copy. A view never outlives the memory it names, and is as thread-safe as it.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "extents.hpp"
#include "layout.hpp"

namespace blockattn::inline v0 {

/// Elements of type T (which may be const) at `data()`, addressed by `Layout` over `Extents`.
/// Indices are preconditions (BLOCKATTN_EXPECTS). Nothing allocates or throws.
template <class T, class Extents, class Layout = row_major>
class view {
  static_assert(layout<Layout, Extents>);

 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using extents_type = Extents;
  using layout_type = Layout;
  using mapping_type = typename Layout::template mapping<Extents>;

  constexpr view() noexcept = default;
  constexpr view(T* data, const mapping_type& mapping) noexcept : data_(data), mapping_(mapping) {}
  constexpr view(T* data, const Extents& e) noexcept : data_(data), mapping_(e) {}
  /// From the dynamic sizes, or from all sizes.
  template <class... Sizes>
    requires((std::is_convertible_v<Sizes, std::size_t> && ...) && sizeof...(Sizes) > 0 &&
             std::is_constructible_v<Extents, Sizes...>)
  constexpr view(T* data, Sizes... sizes) noexcept : view(data, Extents(sizes...)) {}
  /// A matrix whose rows begin `stride` elements apart.
  constexpr view(T* data, std::size_t rows, std::size_t cols, std::size_t stride) noexcept
    requires(Extents::rank() == 2 && Extents::rank_dynamic() == 2 &&
             std::is_constructible_v<mapping_type, Extents, std::size_t>)
      : view(data, mapping_type(Extents(rows, cols), stride)) {}

  /// From a view of the same elements under a narrower type: adds const, forgets static sizes, generalises the layout.
  template <class U, class E, class L>
    requires(!std::is_same_v<view<U, E, L>, view> && std::is_convertible_v<U (*)[], T (*)[]> &&
             std::is_convertible_v<const E&, Extents> && detail::layout_converts<Layout, L>)
  constexpr view(const view<U, E, L>& other) noexcept
      : data_(other.data()), mapping_(detail::convert_mapping<Layout, Extents>(other.mapping())) {}

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr const mapping_type& mapping() const noexcept { return mapping_; }
  [[nodiscard]] constexpr const Extents& extents() const noexcept { return mapping_.extents(); }
  [[nodiscard]] static constexpr std::size_t rank() noexcept { return Extents::rank(); }
  [[nodiscard]] constexpr std::size_t extent(std::size_t r) const noexcept { return extents().extent(r); }
  [[nodiscard]] constexpr std::size_t stride(std::size_t r) const noexcept { return mapping_.stride(r); }
  /// The number of elements, without padding.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return extents().elements(); }
  [[nodiscard]] constexpr bool empty() const noexcept { return size() == 0; }

  template <class... Index>
    requires(sizeof...(Index) == Extents::rank() && (std::is_convertible_v<Index, std::size_t> && ...))
  [[nodiscard]] constexpr T& operator()(Index... index) const noexcept {
    return data_[mapping_(index...)];
  }
  [[nodiscard]] constexpr T& operator[](std::size_t i) const noexcept
    requires(Extents::rank() == 1)
  {
    return data_[mapping_(i)];
  }

  // The words of a matrix. `row(i)` is a plain pointer, because that is what an inner loop wants.
  [[nodiscard]] constexpr std::size_t rows() const noexcept
    requires(Extents::rank() == 2)
  {
    return extent(0);
  }
  [[nodiscard]] constexpr std::size_t cols() const noexcept
    requires(Extents::rank() == 2)
  {
    return extent(1);
  }
  /// The distance of rows, in elements.
  [[nodiscard]] constexpr std::size_t stride() const noexcept
    requires(Extents::rank() == 2)
  {
    return mapping_.stride(0);
  }
  [[nodiscard]] constexpr T* row(std::size_t i) const noexcept
    requires(Extents::rank() == 2 && Layout::contiguous_rows)
  {
    BLOCKATTN_EXPECTS(i < rows());
    return data_ + i * mapping_.stride(0);
  }

 private:
  T* data_ = nullptr;
  [[no_unique_address]] mapping_type mapping_{};
};

/// A vector without gaps.
template <class T>
using vector_view = view<T, dims<1>>;

/// Rows of contiguous elements, `stride()` apart: the argument of nearly every kernel.
///
///     matrix_view<const float> a(pointer, rows, cols);           // dense
///     matrix_view<const float> b(pointer, rows, cols, stride);   // some columns of a wider matrix
template <class T>
using matrix_view = view<T, dims<2>, padded_rows<1>>;

/// Rows `[first, first + count)` of a matrix.
template <class T>
[[nodiscard]] constexpr matrix_view<T> rows_of(matrix_view<T> m, std::size_t first, std::size_t count) noexcept {
  BLOCKATTN_EXPECTS(first <= m.rows() && count <= m.rows() - first);
  return {m.data() + first * m.stride(), count, m.cols(), m.stride()};
}

/// Columns `[first, first + count)` of a matrix: one head of a row of heads.
template <class T>
[[nodiscard]] constexpr matrix_view<T> columns_of(matrix_view<T> m, std::size_t first, std::size_t count) noexcept {
  BLOCKATTN_EXPECTS(first <= m.cols() && count <= m.cols() - first);
  return {m.data() + first, m.rows(), count, m.stride()};
}

/// The matrix with its indices exchanged. No element moves.
template <class T, class Extents, class Layout>
  requires(Extents::rank() == 2)
[[nodiscard]] constexpr view<T, dims<2>, strided> transposed(const view<T, Extents, Layout>& m) noexcept {
  using mapping = strided::mapping<dims<2>>;
  return {m.data(), mapping(dims<2>(m.cols(), m.rows()), {m.stride(1), m.stride(0)})};
}

/// What is left when the first index is fixed at `i`: a matrix of a rank-3 tensor, a row of a matrix.
template <class T, class Extents, class Layout>
  requires(Extents::rank() >= 2)
[[nodiscard]] constexpr auto slice(const view<T, Extents, Layout>& v, std::size_t i) noexcept {
  BLOCKATTN_EXPECTS(i < v.extent(0));
  constexpr std::size_t rank = Extents::rank() - 1;
  std::array<std::size_t, rank> sizes{};
  std::array<std::size_t, rank> strides{};
  for (std::size_t r = 0; r < rank; ++r) {
    sizes[r] = v.extent(r + 1);
    strides[r] = v.stride(r + 1);
  }
  T* at = v.data() == nullptr ? nullptr : v.data() + i * v.stride(0);
  const dims<rank> e(sizes);
  if constexpr (std::is_same_v<Layout, row_major> || (Layout::contiguous_rows && rank == 1)) {
    return view<T, dims<rank>, row_major>(at, e);
  } else if constexpr (Layout::contiguous_rows && rank >= 2) {
    using mapping = typename Layout::template mapping<dims<rank>>;
    return view<T, dims<rank>, Layout>(at, mapping(e, strides[rank - 2]));
  } else {
    return view<T, dims<rank>, strided>(at, strided::mapping<dims<rank>>(e, strides));
  }
}

}  // namespace blockattn::inline v0
