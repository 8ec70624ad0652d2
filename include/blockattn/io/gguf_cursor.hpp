// SPDX-License-Identifier: MIT
/// Reads the head of a GGUF file front to back: numbers, strings and the walk over values, each checked against the
/// bytes that remain before anything is read or allocated.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "byte_source.hpp"
#include "gguf_types.hpp"

namespace blockattn::inline v0 {

namespace detail {

/// Files in memory are read in place. With a read function the head is copied, in parts that double, so that a short
/// head of a large file costs little and a false length costs no memory before it is refused.
class gguf_cursor {
 public:
  explicit gguf_cursor(const byte_source& source) : source_(source) {
    if (const auto view = source.view()) head_ = *view;
  }

  /// What is being read, for messages: `"key general.name"`.
  void where(std::string text) { where_ = std::move(text); }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  [[nodiscard]] std::uint64_t at() const noexcept { return at_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return source_.size() - at_; }

  /// An error about the thing being read.
  template <class... Pieces>
  [[nodiscard]] failure error(errc code, const Pieces&... pieces) const {
    return fail(code, where_, ": ", pieces...);
  }

  /// The next `n` bytes, which are then passed. Valid until the next call.
  [[nodiscard]] result<const std::byte*> take(std::uint64_t n) {
    if (n > left()) return error(errc::bad_format, "expected ", n, " more bytes, found ", left());
    if (auto there = reach(at_ + n); !there) return std::move(there).error();
    const std::byte* first = head_.data() + at_;
    at_ += n;
    return first;
  }

  template <class T>
  [[nodiscard]] result<T> number() {
    const auto bytes = take(sizeof(T));
    if (!bytes) return bytes.error();
    T value;
    std::memcpy(&value, *bytes, sizeof value);
    return value;
  }

  /// A string: its length in 8 bytes, then as many bytes. Valid until the next call.
  [[nodiscard]] result<std::string_view> text() {
    const auto length = number<std::uint64_t>();
    if (!length) return length.error();
    if (*length > left())
      return error(errc::bad_format, "expected a string of at most ", left(), " bytes, found a length of ", *length);
    const auto bytes = take(*length);
    if (!bytes) return bytes.error();
    return std::string_view(reinterpret_cast<const char*>(*bytes), static_cast<std::size_t>(*length));
  }

  /// The name of a key or tensor: printable ASCII, not empty, at most `longest` bytes.
  [[nodiscard]] result<std::string> name(std::size_t longest) {
    const auto found = text();
    if (!found) return found.error();
    if (found->empty() || found->size() > longest)
      return error(errc::bad_format, "expected a name of 1 to ", longest, " bytes, found ", found->size());
    if (std::any_of(found->begin(), found->end(), [](char c) { return c < '!' || c > '~'; }))
      return error(errc::bad_format, "expected a name of printable characters, found \"", shown(*found), "\"");
    return std::string(*found);
  }

  /// Passes `count` values of a type, checking that all are there.
  [[nodiscard]] result<void> skip(gguf_type type, std::uint64_t count) {
    const std::uint64_t least = type == gguf_type::string ? 8 : value_bytes(type);
    if (count > left() / least)
      return error(errc::bad_format, "expected at most ", left() / least, " values of type ", to_string(type),
                   ", found a count of ", count);
    if (type == gguf_type::string) {
      for (std::uint64_t i = 0; i < count; ++i)
        if (auto s = text(); !s) return std::move(s).error();
      return {};
    }
    const auto bytes = take(count * least);
    if (!bytes) return bytes.error();
    if (type == gguf_type::boolean)
      for (std::uint64_t i = 0; i < count; ++i)
        if (const auto b = std::to_integer<unsigned>((*bytes)[i]); b > 1)
          return error(errc::bad_format, "expected a bool of 0 or 1, found ", b);
    return {};
  }

  /// The copy of the head, if there is one: everything that was passed. The cursor cannot be used afterwards.
  [[nodiscard]] std::vector<std::byte> release_head() && {
    own_.resize(std::min<std::size_t>(own_.size(), static_cast<std::size_t>(at_)));
    own_.shrink_to_fit();
    return std::move(own_);
  }

 private:
  // Copies parts until `end` is there: a false length is refused by a failed read, not by a failed allocation.
  result<void> reach(std::uint64_t end) {
    constexpr std::uint64_t first = 64_KiB, most = 1_GiB;
    if (end <= head_.size()) return {};
    if (end > most) return error(errc::unsupported, "expected a head of at most ", most, " bytes, found ", end);
    while (own_.size() < end) {
      const std::size_t have = own_.size();
      own_.resize(static_cast<std::size_t>(std::min(source_.size(), std::max(2 * std::uint64_t{have}, first))));
      head_ = own_;
      if (auto done = source_.read(have, std::span(own_).subspan(have)); !done)
        return error(done.error().code, done.error().message);
    }
    return {};
  }

  const byte_source& source_;
  std::vector<std::byte> own_;
  std::span<const std::byte> head_;
  std::uint64_t at_ = 0;
  std::string where_ = "header";
};

}  // namespace detail

}  // namespace blockattn::inline v0
