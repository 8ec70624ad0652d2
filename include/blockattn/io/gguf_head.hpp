// SPDX-License-Identifier: MIT
/// The head of a GGUF file (version 3) as it is put together: keys with their values, then the tensors that follow.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gguf_types.hpp"

namespace blockattn::inline v0 {

namespace detail {
template <class T>
[[nodiscard]] constexpr gguf_type gguf_type_of() noexcept {
  if constexpr (std::is_same_v<T, std::uint8_t>) return gguf_type::u8;
  else if constexpr (std::is_same_v<T, std::uint32_t>) return gguf_type::u32;
  else if constexpr (std::is_same_v<T, std::int32_t>) return gguf_type::i32;
  else if constexpr (std::is_same_v<T, float>) return gguf_type::f32;
  else if constexpr (std::is_same_v<T, bool>) return gguf_type::boolean;
  else if constexpr (std::is_same_v<T, std::uint64_t>) return gguf_type::u64;
  else return gguf_type::f64;
}
}  // namespace detail

/// A number that a GGUF key may hold.
template <class T>
concept gguf_value = std::same_as<T, std::uint8_t> || std::same_as<T, std::uint32_t> || std::same_as<T, std::int32_t> ||
                     std::same_as<T, float> || std::same_as<T, bool> || std::same_as<T, std::uint64_t> ||
                     std::same_as<T, double>;

/// Collects keys and tensors in order. Keys are the caller's to keep distinct. Host byte order is little-endian, as
/// everywhere in this library.
class gguf_head {
 public:
  static constexpr std::uint64_t alignment = 32;

  gguf_head& text(std::string_view key, std::string_view value) {
    begin(key, gguf_type::string);
    put_text(keys_, value);
    return *this;
  }
  template <gguf_value T>
  gguf_head& number(std::string_view key, T value) {
    begin(key, detail::gguf_type_of<T>());
    put(keys_, value);
    return *this;
  }
  gguf_head& texts(std::string_view key, std::span<const std::string> values) {
    begin_list(key, gguf_type::string, values.size());
    for (const std::string& value : values) put_text(keys_, value);
    return *this;
  }
  template <gguf_value T>
  gguf_head& numbers(std::string_view key, std::span<const T> values) {
    begin_list(key, detail::gguf_type_of<T>(), values.size());
    for (const T value : values) put(keys_, value);
    return *this;
  }

  /// Adds a tensor of `rows` rows of `columns` elements; one row is a vector. Its bytes come at the place where this
  /// order puts them, each tensor padded to `alignment`.
  gguf_head& tensor(std::string_view name, std::uint64_t columns, std::uint64_t rows, std::uint32_t format,
                    std::uint64_t bytes) {
    put_text(tensors_, name);
    put(tensors_, std::uint32_t{rows == 1 ? 1u : 2u});
    put(tensors_, columns);
    if (rows != 1) put(tensors_, rows);
    put(tensors_, format);
    put(tensors_, room_);
    room_ += padded(bytes);
    ++tensor_count_;
    return *this;
  }

  /// The bytes before the first tensor, padding included.
  [[nodiscard]] std::vector<std::byte> bytes() const {
    std::vector<std::byte> out;
    const auto* magic = reinterpret_cast<const std::byte*>("GGUF");
    out.insert(out.end(), magic, magic + 4);
    put(out, std::uint32_t{3});
    put(out, tensor_count_);
    put(out, key_count_);
    out.insert(out.end(), keys_.begin(), keys_.end());
    out.insert(out.end(), tensors_.begin(), tensors_.end());
    out.resize(static_cast<std::size_t>(padded(out.size())));
    return out;
  }

  [[nodiscard]] static constexpr std::uint64_t padded(std::uint64_t bytes) noexcept {
    return (bytes + alignment - 1) / alignment * alignment;
  }

 private:
  template <class T>
  static void put(std::vector<std::byte>& to, T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    to.insert(to.end(), first, first + sizeof value);
  }
  static void put_text(std::vector<std::byte>& to, std::string_view text) {
    put(to, std::uint64_t{text.size()});
    const auto* first = reinterpret_cast<const std::byte*>(text.data());
    to.insert(to.end(), first, first + text.size());
  }
  void begin(std::string_view key, gguf_type type) {
    put_text(keys_, key);
    put(keys_, static_cast<std::uint32_t>(type));
    ++key_count_;
  }
  void begin_list(std::string_view key, gguf_type element, std::size_t count) {
    begin(key, gguf_type::array);
    put(keys_, static_cast<std::uint32_t>(element));
    put(keys_, std::uint64_t{count});
  }

  std::vector<std::byte> keys_, tensors_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0, room_ = 0;
};

}  // namespace blockattn::inline v0
