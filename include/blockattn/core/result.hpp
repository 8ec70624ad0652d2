// SPDX-License-Identifier: MIT
/// `result<T>`: a value or a typed error. What touches a file, a size or user data returns one.
/// The names are those of `std::expected`; the type is our own, so that C++20 and C++23 translation units agree.
#pragma once

#include <exception>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "config.hpp"

namespace blockattn::inline v0 {

/// What went wrong, coarse enough to act on. The message says the rest.
enum class errc {
  io,                ///< the system refused a file or a read
  bad_format,        ///< the bytes are not what their format promises
  unsupported,       ///< well formed, but not something this library does
  shape_mismatch,    ///< a tensor or a list of another size than expected
  invalid_argument,  ///< a value of the caller's that cannot be used
  out_of_memory,     ///< an allocator had no more
  store_full,        ///< the budget of a store cannot take the block
  context_full,      ///< more tokens than the room of a context
  cancelled          ///< the caller's cancel flag was raised
};

/// The name of an error code, as printed by tools: `"bad_format"`.
[[nodiscard]] constexpr const char* to_string(errc code) noexcept {
  switch (code) {
    case errc::io: return "io";
    case errc::bad_format: return "bad_format";
    case errc::unsupported: return "unsupported";
    case errc::shape_mismatch: return "shape_mismatch";
    case errc::invalid_argument: return "invalid_argument";
    case errc::out_of_memory: return "out_of_memory";
    case errc::store_full: return "store_full";
    case errc::context_full: return "context_full";
    case errc::cancelled: return "cancelled";
  }
  return "unknown";
}

/// A code and one line that names the thing, what was expected and what was found.
struct failure {
  errc code = errc::invalid_argument;
  std::string message;

  friend bool operator==(const failure&, const failure&) = default;
};

/// What `.value()` throws on an error.
class exception : public std::exception {
 public:
  explicit exception(failure e) : error_(std::move(e)) {}
  [[nodiscard]] const char* what() const noexcept override { return error_.message.c_str(); }
  [[nodiscard]] errc code() const noexcept { return error_.code; }
  [[nodiscard]] const failure& error() const noexcept { return error_; }

 private:
  failure error_;
};

namespace detail {
// The only throw of the library. Without exceptions, a broken precondition ends the program, as with any wrong `*p`.
[[noreturn]] inline void throw_error([[maybe_unused]] const failure& e) {
#if BLOCKATTN_EXCEPTIONS
  throw exception(e);
#else
  std::terminate();
#endif
}
}  // namespace detail

/// A value or an error. Converts from either.
///
/// `value()` on an error throws `blockattn::exception`, or calls `std::terminate` under `-fno-exceptions`.
/// `*r` and `r->` require a value (checked by BLOCKATTN_EXPECTS).
template <class T>
class [[nodiscard]] result {
  static_assert(!std::is_reference_v<T> && !std::is_same_v<std::remove_cv_t<T>, failure>);

 public:
  using value_type = T;

  result(const T& value) : state_(std::in_place_index<0>, value) {}
  result(T&& value) : state_(std::in_place_index<0>, std::move(value)) {}
  result(failure e) : state_(std::in_place_index<1>, std::move(e)) {}
  template <class U>
    requires(std::is_convertible_v<U &&, T> && !std::is_same_v<std::remove_cvref_t<U>, result> &&
             !std::is_same_v<std::remove_cvref_t<U>, T> && !std::is_same_v<std::remove_cvref_t<U>, failure>)
  result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }

  [[nodiscard]] T& operator*() & noexcept { return unchecked(); }
  [[nodiscard]] const T& operator*() const& noexcept { return const_cast<result*>(this)->unchecked(); }
  [[nodiscard]] T&& operator*() && noexcept { return std::move(unchecked()); }
  [[nodiscard]] T* operator->() noexcept { return &unchecked(); }
  [[nodiscard]] const T* operator->() const noexcept { return &const_cast<result*>(this)->unchecked(); }

  // Not [[nodiscard]]: `context.assemble(blocks).value();` checks an edit whose dropped tokens nobody wants.
  T& value() & {
    require();
    return unchecked();
  }
  const T& value() const& {
    require();
    return **this;
  }
  T&& value() && {
    require();
    return std::move(unchecked());
  }
  template <class U>
  [[nodiscard]] T value_or(U&& otherwise) const& {
    return has_value() ? **this : static_cast<T>(std::forward<U>(otherwise));
  }

  /// The error. Requires `!has_value()`.
  [[nodiscard]] const failure& error() const& noexcept {
    BLOCKATTN_EXPECTS(!has_value());
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] failure&& error() && noexcept {
    BLOCKATTN_EXPECTS(!has_value());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  T& unchecked() noexcept {
    BLOCKATTN_EXPECTS(has_value());
    return *std::get_if<0>(&state_);
  }
  void require() const {
    if (!has_value()) detail::throw_error(*std::get_if<1>(&state_));
  }

  std::variant<T, failure> state_;
};

/// Success without a value, or an error.
template <>
class [[nodiscard]] result<void> {
 public:
  using value_type = void;

  result() noexcept = default;
  result(failure e) : error_(std::move(e)) {}

  [[nodiscard]] bool has_value() const noexcept { return !error_; }
  [[nodiscard]] explicit operator bool() const noexcept { return has_value(); }
  void value() const {
    if (error_) detail::throw_error(*error_);
  }
  [[nodiscard]] const failure& error() const& noexcept {
    BLOCKATTN_EXPECTS(error_.has_value());
    return *error_;
  }
  [[nodiscard]] failure&& error() && noexcept {
    BLOCKATTN_EXPECTS(error_.has_value());
    return std::move(*error_);
  }

 private:
  std::optional<failure> error_;
};

/// An error from a code and message pieces, joined.
template <class... Pieces>
[[nodiscard]] failure fail(errc code, const Pieces&... pieces) {
  failure e{code, {}};
  const auto append = [&e](const auto& piece) {
    using type = std::remove_cvref_t<decltype(piece)>;
    if constexpr (std::is_arithmetic_v<type> && !std::is_same_v<type, char>) {
      e.message += std::to_string(piece);
    } else {
      e.message += piece;
    }
  };
  (append(pieces), ...);
  return e;
}

}  // namespace blockattn::inline v0
