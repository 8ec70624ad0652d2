// SPDX-License-Identifier: MIT
/// An owning tensor: 64-byte aligned elements from any std-style allocator, `std::pmr` included.
#pragma once

#include <algorithm>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "../core/memory.hpp"
#include "../core/result.hpp"
#include "extents.hpp"
#include "layout.hpp"
#include "view.hpp"

namespace blockattn::inline v0 {

/// Asks a tensor not to fill its elements.
struct uninitialized_t {};
inline constexpr uninitialized_t uninitialized{};

/// Elements of T over `Extents`, placed by `Layout`. Elements, padding included, start as zero unless `uninitialized`
/// is given.
///
/// A regular value: a copy copies the elements and takes its allocator as a std container does. A moved-from tensor may
/// only be destroyed or assigned to. Const members are safe to call from any number of threads.
/// Constructors report a full allocator as the allocator does (`std::bad_alloc`) and require that the bytes fit into a
/// size_t; `make` turns both into a result, for sizes that come from outside.
template <class T, class Extents, class Layout = row_major, class Allocator = std::allocator<T>>
class tensor {
  static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T> && alignof(T) <= alignment);
  using byte_allocator = typename std::allocator_traits<Allocator>::template rebind_alloc<std::byte>;
  using traits = std::allocator_traits<Allocator>;

 public:
  using value_type = T;
  using extents_type = Extents;
  using layout_type = Layout;
  using mapping_type = typename Layout::template mapping<Extents>;
  using allocator_type = Allocator;
  using view_type = blockattn::view<T, Extents, Layout>;
  using const_view_type = blockattn::view<const T, Extents, Layout>;

  tensor()
    requires(Extents::rank_dynamic() > 0 && std::is_default_constructible_v<Allocator>)
      : buffer_(byte_allocator(Allocator())) {}
  explicit tensor(const mapping_type& mapping, const Allocator& allocator = Allocator())
      : tensor(uninitialized, mapping, allocator) {
    std::fill_n(data(), mapping_.required_size(), T{});
  }
  explicit tensor(const Extents& e, const Allocator& allocator = Allocator()) : tensor(mapping_type(e), allocator) {}
  /// From the dynamic sizes, or from all sizes: `tensor<float, dims<2>> t(rows, cols)`.
  template <class... Sizes>
    requires((std::is_convertible_v<Sizes, std::size_t> && ...) && sizeof...(Sizes) > 0 &&
             std::is_constructible_v<Extents, Sizes...>)
  explicit tensor(Sizes... sizes) : tensor(Extents(sizes...)) {}
  tensor(uninitialized_t, const mapping_type& mapping, const Allocator& allocator = Allocator())
      : mapping_(mapping), buffer_(bytes_of(mapping), byte_allocator(allocator)) {}
  tensor(uninitialized_t, const Extents& e, const Allocator& allocator = Allocator())
      : tensor(uninitialized, mapping_type(e), allocator) {}

  tensor(const tensor& other)
      : tensor(other, traits::select_on_container_copy_construction(other.get_allocator())) {}
  tensor(const tensor& other, const Allocator& allocator) : tensor(uninitialized, other.mapping_, allocator) {
    std::copy_n(other.data(), other.mapping_.required_size(), data());
  }
  tensor(tensor&&) noexcept = default;
  tensor& operator=(const tensor& other) {
    if (this == &other) return *this;
    // The copy is complete before anything of this tensor changes: the strong guarantee.
    if constexpr (traits::propagate_on_container_copy_assignment::value) {
      return *this = tensor(other, other.get_allocator());
    } else {
      return *this = tensor(other, get_allocator());
    }
  }
  tensor& operator=(tensor&&) = default;
  ~tensor() = default;

  /// A tensor of zeros, or an error. Errors: `invalid_argument` if the bytes pass what a size_t holds, `out_of_memory`
  /// if the allocator throws (without exceptions its failure is its own affair).
  [[nodiscard]] static result<tensor> make(const Extents& e, const Allocator& allocator = Allocator()) {
    // Padding may multiply the last size once more; a factor of 64 is beyond any layout here.
    if (!e.checked_elements(sizeof(T) * alignment))
      return fail(errc::invalid_argument, "tensor: expected a size that fits into memory, found ", describe(e));
#if BLOCKATTN_EXCEPTIONS
    try {
      return tensor(e, allocator);
    } catch (const std::bad_alloc&) {
      return fail(errc::out_of_memory, "tensor: no memory for ", describe(e), " elements of ", sizeof(T), " bytes");
    }
#else
    return tensor(e, allocator);
#endif
  }

  [[nodiscard]] T* data() noexcept { return buffer_.template as<T>(); }
  [[nodiscard]] const T* data() const noexcept { return buffer_.template as<T>(); }
  [[nodiscard]] const mapping_type& mapping() const noexcept { return mapping_; }
  [[nodiscard]] const Extents& extents() const noexcept { return mapping_.extents(); }
  [[nodiscard]] std::size_t extent(std::size_t r) const noexcept { return extents().extent(r); }
  [[nodiscard]] std::size_t stride(std::size_t r) const noexcept { return mapping_.stride(r); }
  [[nodiscard]] std::size_t size() const noexcept { return extents().elements(); }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] Allocator get_allocator() const noexcept { return Allocator(buffer_.get_allocator()); }
  /// All elements in memory order, padding included.
  [[nodiscard]] std::span<T> elements() noexcept { return {data(), mapping_.required_size()}; }
  [[nodiscard]] std::span<const T> elements() const noexcept { return {data(), mapping_.required_size()}; }

  [[nodiscard]] view_type view() noexcept { return view_type(data(), mapping_); }
  [[nodiscard]] const_view_type view() const noexcept { return const_view_type(data(), mapping_); }

  /// A tensor goes wherever a view of it does.
  template <class U, class E, class L>
    requires std::is_convertible_v<view_type, blockattn::view<U, E, L>>
  operator blockattn::view<U, E, L>() noexcept {
    return view();
  }
  template <class U, class E, class L>
    requires std::is_convertible_v<const_view_type, blockattn::view<U, E, L>>
  operator blockattn::view<U, E, L>() const noexcept {
    return view();
  }

  template <class... Index>
    requires std::is_invocable_v<const view_type&, Index...>
  [[nodiscard]] T& operator()(Index... index) noexcept {
    return view()(index...);
  }
  template <class... Index>
    requires std::is_invocable_v<const view_type&, Index...>
  [[nodiscard]] const T& operator()(Index... index) const noexcept {
    return view()(index...);
  }
  [[nodiscard]] T* row(std::size_t i) noexcept
    requires(Extents::rank() == 2 && Layout::contiguous_rows)
  {
    return view().row(i);
  }
  [[nodiscard]] const T* row(std::size_t i) const noexcept
    requires(Extents::rank() == 2 && Layout::contiguous_rows)
  {
    return view().row(i);
  }

 private:
  static std::size_t bytes_of(const mapping_type& mapping) noexcept {
    BLOCKATTN_EXPECTS(mapping.extents().checked_elements(sizeof(T)).has_value());
    return mapping.required_size() * sizeof(T);
  }
  static std::string describe(const Extents& e) {
    std::string text;
    for (std::size_t r = 0; r < Extents::rank(); ++r) {
      if (r != 0) text += " x ";
      text += std::to_string(e.extent(r));
    }
    return text;
  }

  mapping_type mapping_{};
  aligned_buffer<byte_allocator> buffer_;
};

/// A dense matrix of floats or the like; converts to `matrix_view`.
template <class T, class Allocator = std::allocator<T>>
using matrix = tensor<T, dims<2>, row_major, Allocator>;

}  // namespace blockattn::inline v0
