// SPDX-License-Identifier: MIT
/// The sizes of a tensor: each one either a compile-time constant or a number kept at run time.
/// Names follow `std::mdspan`, which the compilers of the floor do not have.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// Marks a size that is known only at run time. The same value as `std::dynamic_extent`.
inline constexpr std::size_t dynamic = std::dynamic_extent;

/// The sizes of a tensor, slowest index first. Static sizes take no room in the object.
///
/// `extents<dynamic, 64>(rows)` or `extents<dynamic, 64>(rows, 64)`: give the dynamic sizes, or all of them.
template <std::size_t... Sizes>
class extents {
  static constexpr std::size_t count = sizeof...(Sizes);
  static constexpr std::size_t dynamic_count = (std::size_t{Sizes == dynamic} + ... + 0);

 public:
  constexpr extents() noexcept = default;

  /// From the dynamic sizes, or from all sizes. In the second case a static size must be given as it is.
  template <class... Given>
    requires(sizeof...(Given) > 0 && (sizeof...(Given) == count || sizeof...(Given) == dynamic_count) &&
             (std::is_convertible_v<Given, std::size_t> && ...))
  constexpr explicit(sizeof...(Given) != dynamic_count) extents(Given... given) noexcept
      : extents(std::array<std::size_t, sizeof...(Given)>{static_cast<std::size_t>(given)...}) {}

  template <std::size_t N>
    requires(N > 0 && (N == count || N == dynamic_count))
  constexpr explicit extents(const std::array<std::size_t, N>& given) noexcept {
    for (std::size_t r = 0, next = 0; r < count; ++r) {
      if (fixed[r] != dynamic) {
        BLOCKATTN_EXPECTS(N != count || given[r] == fixed[r]);
      } else if constexpr (dynamic_count > 0) {
        dynamic_[next] = given[N == count ? r : next];
        ++next;
      }
    }
  }

  /// From extents of the same rank; sizes that are static here must agree.
  template <std::size_t... Others>
    requires(sizeof...(Others) == count && !std::is_same_v<extents<Others...>, extents<Sizes...>> &&
             ((Sizes == Others || Sizes == dynamic || Others == dynamic) && ...))
  constexpr explicit(((Sizes != dynamic && Others == dynamic) || ...)) extents(const extents<Others...>& other) noexcept
      : extents(other.sizes()) {}

  [[nodiscard]] static constexpr std::size_t rank() noexcept { return count; }
  [[nodiscard]] static constexpr std::size_t rank_dynamic() noexcept { return dynamic_count; }
  /// The size as the type says it: `dynamic` if it is kept at run time.
  [[nodiscard]] static constexpr std::size_t static_extent(std::size_t r) noexcept { return fixed[r]; }

  [[nodiscard]] constexpr std::size_t extent(std::size_t r) const noexcept {
    BLOCKATTN_EXPECTS(r < count);
    if constexpr (dynamic_count > 0) {
      if (fixed[r] == dynamic) return dynamic_[slot[r]];
    }
    return fixed[r];
  }

  [[nodiscard]] constexpr std::array<std::size_t, count> sizes() const noexcept {
    std::array<std::size_t, count> out{};
    for (std::size_t r = 0; r < count; ++r) out[r] = extent(r);
    return out;
  }

  /// The number of elements. Requires that it fits; `checked_elements` asks.
  [[nodiscard]] constexpr std::size_t elements() const noexcept {
    std::size_t n = 1;
    for (std::size_t r = 0; r < count; ++r) n *= extent(r);
    return n;
  }

  /// The number of elements, or nothing if `elements * scale` passes what a size_t holds. Sizes out of a file go
  /// through here before anybody allocates by them.
  [[nodiscard]] constexpr std::optional<std::size_t> checked_elements(std::size_t scale = 1) const noexcept {
    std::size_t n = 1;
    bool overflow = false;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t e = extent(r);
      if (e == 0) return 0;
      overflow = overflow || n > std::numeric_limits<std::size_t>::max() / scale / e;
      n *= e;
    }
    if (overflow) return std::nullopt;
    return n;
  }

  template <std::size_t... Others>
  friend constexpr bool operator==(const extents& a, const extents<Others...>& b) noexcept {
    if constexpr (sizeof...(Others) != count) {
      return false;
    } else {
      return a.sizes() == b.sizes();
    }
  }

 private:
  static constexpr std::array<std::size_t, count> fixed{Sizes...};
  // Where the dynamic size of dimension r is kept.
  static constexpr std::array<std::size_t, count> slot = [] {
    std::array<std::size_t, count> out{};
    for (std::size_t r = 0, next = 0; r < count; ++r) {
      out[r] = next;
      if (fixed[r] == dynamic) ++next;
    }
    return out;
  }();

  // A std::array of no elements would still take a byte of every view.
  struct nothing {};
  using storage = std::conditional_t<dynamic_count == 0, nothing, std::array<std::size_t, dynamic_count>>;
  [[no_unique_address]] storage dynamic_{};
};

namespace detail {
template <std::size_t... R>
extents<(static_cast<void>(R), dynamic)...> all_dynamic(std::index_sequence<R...>);
}  // namespace detail

/// Extents of the given rank, all of them dynamic.
template <std::size_t Rank>
using dims = decltype(detail::all_dynamic(std::make_index_sequence<Rank>{}));

}  // namespace blockattn::inline v0
