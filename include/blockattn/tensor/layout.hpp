// SPDX-License-Identifier: MIT
/// Where the elements of a tensor lie: from indices to an offset in elements.
///
/// A layout is a tag with a member template `mapping<Extents>`, as in `std::mdspan`. Three are given; a program's own
/// needs what the concept below lists. The panels of stored keys and values are `kv_shape`, in kv_panels.hpp.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>

#include "extents.hpp"

namespace blockattn::inline v0 {

/// What a layout's mapping offers.
/// - `m(i, j, ...)`: the offset of an element, in elements;
/// - `required_size()`: one more than the largest offset, 0 for an empty tensor;
/// - `stride(r)`: the distance of neighbours along dimension r;
/// - `extents()`, and a constructor from extents alone, which an owning tensor uses.
template <class M>
concept layout_mapping = std::copyable<M> && std::constructible_from<M, typename M::extents_type> &&
                         requires(const M& m, std::size_t i, std::array<std::size_t, M::extents_type::rank()> at) {
                           { m.extents() } -> std::convertible_to<typename M::extents_type>;
                           { m.offset(at) } -> std::same_as<std::size_t>;
                           { m.required_size() } -> std::same_as<std::size_t>;
                           { m.stride(i) } -> std::same_as<std::size_t>;
                         };

template <class L, class Extents>
concept layout = layout_mapping<typename L::template mapping<Extents>> &&
                 requires { { L::contiguous_rows } -> std::convertible_to<bool>; };

namespace detail {

// The part that all mappings here share. Strides live in the derived class.
template <class Derived, class Extents>
class mapping_base {
 public:
  using extents_type = Extents;

  constexpr mapping_base() noexcept = default;
  constexpr explicit mapping_base(const Extents& e) noexcept : extents_(e) {}

  [[nodiscard]] constexpr const Extents& extents() const noexcept { return extents_; }

  [[nodiscard]] constexpr std::size_t offset(const std::array<std::size_t, Extents::rank()>& at) const noexcept {
    std::size_t sum = 0;
    for (std::size_t r = 0; r < Extents::rank(); ++r) {
      BLOCKATTN_EXPECTS(at[r] < extents_.extent(r));
      sum += at[r] * self().stride(r);
    }
    return sum;
  }

  template <class... Index>
    requires(sizeof...(Index) == Extents::rank() && (std::is_convertible_v<Index, std::size_t> && ...))
  [[nodiscard]] constexpr std::size_t operator()(Index... index) const noexcept {
    return offset({static_cast<std::size_t>(index)...});
  }

  [[nodiscard]] constexpr std::size_t required_size() const noexcept {
    std::size_t last = 0;
    for (std::size_t r = 0; r < Extents::rank(); ++r) {
      if (extents_.extent(r) == 0) return 0;
      last += (extents_.extent(r) - 1) * self().stride(r);
    }
    return last + 1;
  }

 private:
  [[nodiscard]] constexpr const Derived& self() const noexcept { return static_cast<const Derived&>(*this); }

  [[no_unique_address]] Extents extents_{};
};

}  // namespace detail

/// The last index runs fastest, without gaps.
struct row_major {
  static constexpr bool contiguous_rows = true;

  template <class Extents>
  class mapping : public detail::mapping_base<mapping<Extents>, Extents> {
   public:
    constexpr mapping() noexcept = default;
    constexpr explicit(false) mapping(const Extents& e) noexcept
        : detail::mapping_base<mapping<Extents>, Extents>(e) {}

    [[nodiscard]] constexpr std::size_t stride(std::size_t r) const noexcept {
      std::size_t s = 1;
      for (std::size_t k = r + 1; k < Extents::rank(); ++k) s *= this->extents().extent(k);
      return s;
    }
    friend constexpr bool operator==(const mapping& a, const mapping& b) noexcept { return a.extents() == b.extents(); }
  };
};

/// Row-major, but rows (runs of the last index) begin `pitch` elements apart. From extents alone the pitch is the row
/// length rounded up to `Multiple`, so that every row of an aligned tensor can start on an aligned address; a view may
/// be given any pitch, which is how a kernel sees some columns of a wider matrix. Rank 1 has no pitch to speak of.
template <std::size_t Multiple = 16>
struct padded_rows {
  static_assert(Multiple >= 1);
  static constexpr bool contiguous_rows = true;

  template <class Extents>
  class mapping : public detail::mapping_base<mapping<Extents>, Extents> {
    using base = detail::mapping_base<mapping<Extents>, Extents>;
    static constexpr std::size_t last = Extents::rank() - 1;

   public:
    static_assert(Extents::rank() >= 1);

    constexpr mapping() noexcept : mapping(Extents{}) {}
    constexpr explicit(false) mapping(const Extents& e) noexcept
        : base(e), pitch_(round_up(e.extent(last), Multiple)) {}
    /// Requires a pitch that is not below the row length. One row may lie anywhere.
    constexpr mapping(const Extents& e, std::size_t pitch) noexcept : base(e), pitch_(pitch) {
      BLOCKATTN_EXPECTS(pitch >= e.extent(last) || e.elements() <= e.extent(last));
    }

    [[nodiscard]] constexpr std::size_t pitch() const noexcept { return pitch_; }
    [[nodiscard]] constexpr std::size_t stride(std::size_t r) const noexcept {
      if (r == last) return 1;
      std::size_t s = pitch_;
      for (std::size_t k = r + 1; k < last; ++k) s *= this->extents().extent(k);
      return s;
    }
    friend constexpr bool operator==(const mapping& a, const mapping& b) noexcept {
      return a.extents() == b.extents() && a.pitch_ == b.pitch_;
    }

   private:
    std::size_t pitch_ = 0;
  };
};

/// Any stride for any dimension: transposed and sliced views. From extents alone it is row-major.
struct strided {
  static constexpr bool contiguous_rows = false;

  template <class Extents>
  class mapping : public detail::mapping_base<mapping<Extents>, Extents> {
    using base = detail::mapping_base<mapping<Extents>, Extents>;

   public:
    using strides_type = std::array<std::size_t, Extents::rank()>;

    constexpr mapping() noexcept : mapping(Extents{}) {}
    constexpr explicit(false) mapping(const Extents& e) noexcept : base(e) {
      const row_major::mapping<Extents> dense(e);
      for (std::size_t r = 0; r < Extents::rank(); ++r) strides_[r] = dense.stride(r);
    }
    constexpr mapping(const Extents& e, const strides_type& strides) noexcept : base(e), strides_(strides) {}

    [[nodiscard]] constexpr const strides_type& strides() const noexcept { return strides_; }
    [[nodiscard]] constexpr std::size_t stride(std::size_t r) const noexcept { return strides_[r]; }
    friend constexpr bool operator==(const mapping& a, const mapping& b) noexcept {
      return a.extents() == b.extents() && a.strides_ == b.strides_;
    }

   private:
    strides_type strides_{};
  };
};

static_assert(layout<row_major, dims<3>> && layout<padded_rows<16>, dims<2>> && layout<strided, dims<2>>);

namespace detail {

// The same elements under another layout, where that can always be said: row_major -> padded_rows -> strided.
template <class To, class From>
inline constexpr bool layout_converts = std::is_same_v<To, From> || std::is_same_v<To, strided>;
template <std::size_t M>
inline constexpr bool layout_converts<padded_rows<M>, row_major> = true;
template <std::size_t M, std::size_t N>
inline constexpr bool layout_converts<padded_rows<M>, padded_rows<N>> = true;

template <class To, class Extents, class FromMapping>
[[nodiscard]] constexpr auto convert_mapping(const FromMapping& from) noexcept {
  using mapping = typename To::template mapping<Extents>;
  const Extents e(from.extents());
  if constexpr (std::is_same_v<To, strided>) {
    typename mapping::strides_type strides{};
    for (std::size_t r = 0; r < Extents::rank(); ++r) strides[r] = from.stride(r);
    return mapping(e, strides);
  } else if constexpr (std::is_same_v<To, row_major>) {
    return mapping(e);
  } else {
    if constexpr (Extents::rank() < 2) {
      return mapping(e, e.extent(0));
    } else {
      return mapping(e, from.stride(Extents::rank() - 2));
    }
  }
}

}  // namespace detail

}  // namespace blockattn::inline v0
