// SPDX-License-Identifier: MIT
/// The bridge between views and Eigen, for programs that use both. Nothing else of the library includes Eigen types in
/// a signature: their alignment, and so the size of a struct that holds one, depends on compiler flags.
#pragma once

#include <Eigen/Core>
#include <type_traits>

#include "view.hpp"

namespace blockattn::inline v0 {

namespace detail {
template <class T, class Plain>
using maybe_const = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;

template <std::size_t Size>
inline constexpr int eigen_size = Size == dynamic ? int{Eigen::Dynamic} : static_cast<int>(Size);

// Eigen has no row-major type of one column, and no column-major type of one row.
template <class T, class Extents>
using eigen_matrix =
    Eigen::Matrix<std::remove_cv_t<T>, eigen_size<Extents::static_extent(0)>, eigen_size<Extents::static_extent(1)>,
                  Extents::static_extent(1) == 1 ? int{Eigen::ColMajor} : int{Eigen::RowMajor}>;
}  // namespace detail

/// The matrix as an `Eigen::Map`, with the static sizes it has and either stride at run time. No element moves; writing
/// to the map writes to the view. T is a type that Eigen computes with: `bf16` and `f16` are not.
template <class T, class Extents, class Layout>
  requires(Extents::rank() == 2 && std::is_arithmetic_v<T>)
[[nodiscard]] auto as_eigen(const view<T, Extents, Layout>& m) noexcept {
  using matrix = detail::eigen_matrix<T, Extents>;
  using strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const auto outer = static_cast<Eigen::Index>(m.stride(matrix::IsRowMajor ? 0 : 1));
  const auto inner = static_cast<Eigen::Index>(m.stride(matrix::IsRowMajor ? 1 : 0));
  return Eigen::Map<detail::maybe_const<T, matrix>, Eigen::Unaligned, strides>(
      m.data(), static_cast<Eigen::Index>(m.rows()), static_cast<Eigen::Index>(m.cols()), strides(outer, inner));
}

/// The same for a matrix whose rows are contiguous: products of such maps take Eigen's vectorised path.
template <class T>
  requires std::is_arithmetic_v<T>
[[nodiscard]] auto as_eigen(const matrix_view<T>& m) noexcept {
  using matrix = detail::eigen_matrix<T, dims<2>>;
  return Eigen::Map<detail::maybe_const<T, matrix>, Eigen::Unaligned, Eigen::OuterStride<>>(
      m.data(), static_cast<Eigen::Index>(m.rows()), static_cast<Eigen::Index>(m.cols()),
      Eigen::OuterStride<>(static_cast<Eigen::Index>(m.stride())));
}

/// A vector as a column vector.
template <class T, class Extents, class Layout>
  requires(Extents::rank() == 1 && std::is_arithmetic_v<T>)
[[nodiscard]] auto as_eigen(const view<T, Extents, Layout>& v) noexcept {
  using vector = Eigen::Matrix<std::remove_cv_t<T>, detail::eigen_size<Extents::static_extent(0)>, 1>;
  return Eigen::Map<detail::maybe_const<T, vector>, Eigen::Unaligned, Eigen::InnerStride<>>(
      v.data(), static_cast<Eigen::Index>(v.extent(0)), Eigen::InnerStride<>(static_cast<Eigen::Index>(v.stride(0))));
}

/// A row-major Eigen matrix as a view. The view must not outlive it.
template <class Derived>
  requires(bool(Derived::IsRowMajor) && !bool(Derived::IsVectorAtCompileTime))
[[nodiscard]] matrix_view<typename Derived::Scalar> as_view(Eigen::PlainObjectBase<Derived>& m) noexcept {
  return {m.data(), static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()),
          static_cast<std::size_t>(m.outerStride())};
}
template <class Derived>
  requires(bool(Derived::IsRowMajor) && !bool(Derived::IsVectorAtCompileTime))
[[nodiscard]] matrix_view<const typename Derived::Scalar> as_view(const Eigen::PlainObjectBase<Derived>& m) noexcept {
  return {m.data(), static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()),
          static_cast<std::size_t>(m.outerStride())};
}

}  // namespace blockattn::inline v0
