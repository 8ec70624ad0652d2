// SPDX-License-Identifier: MIT
/// Reads keys of a JSON object with errors that name the key, what was expected and what the file says. For the small
/// files beside a model: size and depth are bounded before a document is built.
#pragma once

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../core/json_text.hpp"
#include "byte_source.hpp"
#include "gguf_number.hpp"

namespace blockattn::inline v0::detail {

/// A document whose top is an object. Errors: `bad_format`. Memory: at most about 32 times the text, which is at most
/// `most` bytes and 32 levels deep.
[[nodiscard]] inline result<nlohmann::json> parse_json_object(std::string_view text, std::size_t most) {
  if (text.size() > most)
    return fail(errc::bad_format, "expected at most ", most, " bytes of JSON, found ", text.size());
  if (auto plain = refuse_zero_bytes(text); !plain) return std::move(plain).error();
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 32) return fail(errc::bad_format, "expected JSON of at most 32 levels, found more at byte ", i);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  auto document = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  if (document.is_discarded()) return fail(errc::bad_format, "expected valid JSON, found something else");
  if (!document.is_object()) return fail(errc::bad_format, "expected a JSON object, found ", document.type_name());
  return document;
}

/// An object within a document, which must outlive it. A key whose value is null counts as absent.
class json_object {
 public:
  explicit json_object(const nlohmann::json& object, std::string path = {})
      : object_(&object), path_(std::move(path)) {}

  [[nodiscard]] const nlohmann::json* find(const char* name) const {
    const auto it = object_->find(name);
    return it == object_->end() || it->is_null() ? nullptr : &*it;
  }
  [[nodiscard]] bool has(const char* name) const { return find(name) != nullptr; }

  /// What a key holds, for a message.
  [[nodiscard]] std::string found(const char* name) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) return "nothing";
    if (value->is_structured()) return value->is_array() ? "a list of " + std::to_string(value->size()) : "an object";
    return shown(value->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  template <class... Pieces>
  [[nodiscard]] failure error(errc code, const char* name, const Pieces&... expected) const {
    return fail(code, "key ", path_, name, ": expected ", expected..., ", found ", found(name));
  }

  /// A positive integer below 2^31.
  [[nodiscard]] result<std::uint32_t> count(const char* name) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() < 1 ||
        value->get<std::uint64_t>() >= (std::uint64_t{1} << 31))
      return error(errc::bad_format, name, "a positive integer");
    return static_cast<std::uint32_t>(value->get<std::uint64_t>());
  }
  [[nodiscard]] result<std::uint32_t> count(const char* name, std::uint32_t otherwise) const {
    return has(name) ? count(name) : result<std::uint32_t>(otherwise);
  }
  /// A finite number above zero.
  [[nodiscard]] result<double> number(const char* name) const {
    const nlohmann::json* value = find(name);
    const double x = value != nullptr && value->is_number() ? value->get<double>() : 0.0;
    if (!is_finite(x) || !(x > 0)) return error(errc::bad_format, name, "a finite number above zero");
    return x;
  }
  [[nodiscard]] result<double> number(const char* name, double otherwise) const {
    return has(name) ? number(name) : result<double>(otherwise);
  }
  [[nodiscard]] result<bool> flag(const char* name, bool otherwise) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) return error(errc::bad_format, name, "true or false");
    return value->get<bool>();
  }
  [[nodiscard]] result<std::string> text(const char* name) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr || !value->is_string()) return error(errc::bad_format, name, "text");
    return value->get_ref<const std::string&>();
  }
  [[nodiscard]] result<std::string> text(const char* name, const char* otherwise) const {
    return has(name) ? text(name) : result<std::string>(std::string(otherwise));
  }
  /// An object below this one; nothing if the key is absent.
  [[nodiscard]] result<std::optional<json_object>> object(const char* name) const {
    const nlohmann::json* value = find(name);
    if (value == nullptr) return std::optional<json_object>();
    if (!value->is_object()) return error(errc::bad_format, name, "an object");
    return std::optional<json_object>(json_object(*value, path_ + name + "."));
  }

 private:
  const nlohmann::json* object_;
  std::string path_;  // of this object, with a point at its end
};

}  // namespace blockattn::inline v0::detail
