// SPDX-License-Identifier: MIT
/// The JSON header of a safetensors file, read front to back without building a document: what the format does not have
/// is refused where it stands, so that a hostile header costs a small multiple of its own size.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/json_text.hpp"
#include "byte_source.hpp"

namespace blockattn::inline v0 {

/// An element type of the format, and how this library calls it, if it does.
struct safetensors_format {
  std::string_view name;
  std::uint32_t bytes;
  std::optional<dtype> type;
};

/// The element types of whole bytes. More than this library computes with: the extents of every tensor are checked.
inline constexpr std::array safetensors_formats = {
    safetensors_format{"F32", 4, dtype::f32},          safetensors_format{"F16", 2, dtype::f16},
    safetensors_format{"BF16", 2, dtype::bf16},        safetensors_format{"F64", 8, dtype::f64},
    safetensors_format{"I64", 8, dtype::i64},          safetensors_format{"I32", 4, dtype::i32},
    safetensors_format{"I16", 2, dtype::i16},          safetensors_format{"I8", 1, dtype::i8},
    safetensors_format{"U64", 8, dtype::u64},          safetensors_format{"U32", 4, dtype::u32},
    safetensors_format{"U16", 2, dtype::u16},          safetensors_format{"U8", 1, dtype::u8},
    safetensors_format{"BOOL", 1, std::nullopt},       safetensors_format{"F8_E4M3", 1, std::nullopt},
    safetensors_format{"F8_E5M2", 1, std::nullopt},    safetensors_format{"F8_E8M0", 1, std::nullopt},
    safetensors_format{"C64", 8, std::nullopt}};

/// The format of that name, or null.
[[nodiscard]] constexpr const safetensors_format* find_safetensors_format(std::string_view name) noexcept {
  for (const safetensors_format& format : safetensors_formats)
    if (format.name == name) return &format;
  return nullptr;
}

/// What the header says of a tensor.
struct safetensors_tensor {
  std::string name;
  std::string format;                // as the file spells it: "BF16"; see safetensors_formats
  std::vector<std::uint64_t> shape;  // outermost first; a matrix is (rows, cols); empty for a single number
  std::uint64_t offset = 0;          // from the beginning of the file
  std::uint64_t bytes = 0;
};

namespace detail {

/// Receives the events of a JSON parser and builds the two lists. Stops at the first thing that the format does not
/// have; `error` then says what it was.
class safetensors_header {
 public:
  static constexpr std::size_t max_rank = 8, max_tensors = std::size_t{1} << 20;

  std::vector<safetensors_tensor> tensors;
  std::map<std::string, std::string, std::less<>> metadata;
  failure error;

  /// Reads all of `text`. On false, `error` is set.
  [[nodiscard]] bool read(std::string_view text) {
    if (auto plain = refuse_zero_bytes(text); !plain) return refuse(plain.error().message);
    if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(), this)) {
      if (error.message.empty()) refuse("expected valid JSON");
      return false;
    }
    return true;
  }

  // The events. Each returns whether to go on.
  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("a truth value"); }
  bool number_integer(std::int64_t x) { return unexpected(std::to_string(x)); }
  bool number_float(double, const std::string& text) { return unexpected(shown(text)); }
  bool binary(nlohmann::json::binary_t&) { return unexpected("binary data"); }

  bool number_unsigned(std::uint64_t x) {
    if (at_ == place::shape) {
      if (tensors.back().shape.size() == max_rank)
        return refuse("tensor ", shown(tensors.back().name), ": expected at most ", max_rank, " dims, found more");
      tensors.back().shape.push_back(x);
      return true;
    }
    if (at_ == place::offsets && offsets_ < 2) {
      (offsets_++ == 0 ? tensors.back().offset : tensors.back().bytes) = x;  // the end, until the header is whole
      return true;
    }
    return unexpected(std::to_string(x));
  }
  bool string(std::string& text) {
    if (at_ == place::metadata) {
      if (!metadata.emplace(key_, std::move(text)).second)
        return refuse("__metadata__: expected each key once, found ", shown(key_), " twice");
      return true;
    }
    if (at_ == place::tensor && key_ == "dtype") {
      // Short names only, so that they cost no memory of their own.
      if (text.size() > 15)
        return refuse("tensor ", shown(tensors.back().name), ": expected a dtype, found ", shown(text));
      tensors.back().format = std::move(text);
      return true;
    }
    return unexpected("text");
  }
  bool start_object(std::size_t) {
    if (at_ == place::outside) {
      at_ = place::top;
      return true;
    }
    if (at_ != place::top) return unexpected("an object");
    if (key_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) return refuse("expected __metadata__ once, found it twice");
      at_ = place::metadata;
      return true;
    }
    if (tensors.size() == max_tensors) return refuse("expected at most ", max_tensors, " tensors, found more");
    tensors.emplace_back().name = std::move(key_);
    has_dtype_ = has_shape_ = has_offsets_ = false;
    at_ = place::tensor;
    return true;
  }
  bool key(std::string& text) {
    key_ = std::move(text);
    if (at_ != place::tensor) return true;
    bool* const seen = key_ == "dtype" ? &has_dtype_ : key_ == "shape" ? &has_shape_
                       : key_ == "data_offsets"                        ? &has_offsets_
                                                                       : nullptr;
    if (seen == nullptr || std::exchange(*seen, true))
      return refuse("tensor ", shown(tensors.back().name), ": expected dtype, shape and data_offsets once each, found ",
                    shown(key_), seen == nullptr ? "" : " again");
    return true;
  }
  bool end_object() {
    if (at_ == place::tensor && !(has_dtype_ && has_shape_ && has_offsets_))
      return refuse("tensor ", shown(tensors.back().name), ": expected dtype, shape and data_offsets, found no ",
                    !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets");
    at_ = at_ == place::top ? place::outside : place::top;
    return true;
  }
  bool start_array(std::size_t) {
    if (at_ == place::tensor && key_ == "shape") {
      at_ = place::shape;
      return true;
    }
    if (at_ == place::tensor && key_ == "data_offsets") {
      at_ = place::offsets;
      offsets_ = 0;
      return true;
    }
    return unexpected("a list");
  }
  bool end_array() {
    if (at_ == place::offsets && offsets_ != 2)
      return refuse("tensor ", shown(tensors.back().name), ": expected two data_offsets, found ", offsets_);
    at_ = place::tensor;
    return true;
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& token, const Exception&) {
    return refuse("expected valid JSON, found \"", shown(token), "\" at byte ", position);
  }

 private:
  enum class place { outside, top, metadata, tensor, shape, offsets };

  template <class... Pieces>
  bool refuse(const Pieces&... pieces) {
    error = fail(errc::bad_format, "header: ", pieces...);
    return false;
  }
  bool unexpected(const std::string& found) {
    switch (at_) {
      case place::outside: return refuse("expected an object, found ", found);
      case place::top: return refuse(shown(key_), ": expected an object, found ", found);
      case place::metadata: return refuse("__metadata__: ", shown(key_), ": expected text, found ", found);
      case place::tensor:
        return refuse("tensor ", shown(tensors.back().name), ": ", shown(key_), ": expected ",
                      key_ == "dtype" ? "text" : "a list", ", found ", found);
      case place::shape:
      case place::offsets: break;
    }
    return refuse("tensor ", shown(tensors.back().name), ": ", shown(key_), ": expected ",
                  at_ == place::offsets && offsets_ == 2 ? "two numbers" : "integers, not negative", ", found ", found);
  }

  place at_ = place::outside;
  std::string key_;
  std::size_t offsets_ = 0;
  bool has_metadata_ = false, has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

}  // namespace detail

}  // namespace blockattn::inline v0
