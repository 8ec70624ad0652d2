// SPDX-License-Identifier: MIT
/// Reading JSON that strangers wrote: every look into it names the place (`$.model.vocab`), what was expected there and
/// what was found.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "../core/json_text.hpp"
#include "../core/result.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0::detail {

/// A value and where it stands. Borrows the document.
class json_place {
 public:
  json_place(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  [[nodiscard]] const nlohmann::json& value() const noexcept { return *value_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] bool is_null() const noexcept { return value_->is_null(); }

  /// What is there, for messages: a short value itself, of others the kind.
  [[nodiscard]] std::string shown() const {
    if (value_->is_string()) return "\"" + printable(value_->get_ref<const std::string&>()) + "\"";
    if (value_->is_number() || value_->is_boolean())
      return value_->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    return value_->is_null() ? "nothing" : value_->type_name();
  }
  [[nodiscard]] failure error(errc code, std::string_view expected) const {
    return fail(code, path_, ": expected ", expected, ", found ", shown());
  }

  /// The member of an object; null where it is absent or this is no object.
  [[nodiscard]] json_place operator[](const char* key) const {
    static const nlohmann::json none;
    if (value_->is_object())
      if (const auto at = value_->find(key); at != value_->end()) return {*at, path_ + "." + key};
    return {none, path_ + "." + key};
  }
  [[nodiscard]] json_place operator[](std::size_t i) const {
    return {(*value_)[i], path_ + "[" + std::to_string(i) + "]"};
  }

  [[nodiscard]] result<std::string> text() const {
    if (!value_->is_string()) return error(errc::bad_format, "a string");
    return value_->get_ref<const std::string&>();
  }
  [[nodiscard]] result<bool> boolean() const {
    if (!value_->is_boolean()) return error(errc::bad_format, "true or false");
    return value_->get<bool>();
  }
  /// The same, where absent and null mean `otherwise`.
  [[nodiscard]] result<bool> boolean(bool otherwise) const { return is_null() ? otherwise : boolean(); }
  /// A whole number from 0 to `most`.
  [[nodiscard]] result<std::uint64_t> number(std::uint64_t most) const {
    if (!value_->is_number_unsigned() || value_->get<std::uint64_t>() > most)
      return error(errc::bad_format, "a whole number up to " + std::to_string(most));
    return value_->get<std::uint64_t>();
  }
  [[nodiscard]] result<void> array() const {
    if (!value_->is_array()) return error(errc::bad_format, "an array");
    return {};
  }
  [[nodiscard]] result<void> object() const {
    if (!value_->is_object()) return error(errc::bad_format, "an object");
    return {};
  }
  /// Which of the names a string is. Another one is `unsupported`: it may well exist.
  [[nodiscard]] result<std::size_t> one_of(std::initializer_list<const char*> names) const {
    std::string all;
    std::size_t i = 0;
    for (const char* name : names) {
      if (value_->is_string() && value_->get_ref<const std::string&>() == name) return i;
      all.append(i++ == 0 ? "" : ", ").append(name);
    }
    return error(value_->is_string() ? errc::unsupported : errc::bad_format, "one of " + all);
  }

 private:
  const nlohmann::json* value_;
  std::string path_;
};

/// The document in `bytes`. Deeper than 64 levels is an error before anything is parsed: then a document takes at most
/// 40 times its bytes. `name` begins the messages.
[[nodiscard]] inline result<nlohmann::json> parse_json(std::string_view bytes, std::string_view name) {
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") bytes.remove_prefix(3);
  if (auto plain = refuse_zero_bytes(bytes); !plain) return fail(errc::bad_format, name, ": ", plain.error().message);
  std::size_t depth = 0, line = 1;
  bool in_text = false;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const char c = bytes[i];
    if (c == '\n') ++line;
    if (c == '"') in_text = !in_text;
    if (in_text && c == '\\') ++i;
    if (in_text) continue;
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (depth > 64) return fail(errc::bad_format, name, ", line ", line, ": expected at most 64 levels, found more");
  }
  // The form without exceptions: a discarded value says that the text is not JSON. Where it stops being so, a second
  // reading finds out.
  nlohmann::json out = nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (!out.is_discarded()) return out;
  struct finder : nlohmann::json_sax<nlohmann::json> {
    std::size_t at = 0;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override { return true; }
    bool key(string_t&) override { return true; }
    bool end_object() override { return true; }
    bool start_array(std::size_t) override { return true; }
    bool end_array() override { return true; }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
      at = position;
      return false;
    }
  } found;
  (void)nlohmann::json::sax_parse(bytes.begin(), bytes.end(), &found);
  line = 1;
  for (std::size_t i = 0; i < found.at && i < bytes.size(); ++i) line += bytes[i] == '\n';
  return fail(errc::bad_format, name, ", line ", line, ": expected JSON, found something else at byte ", found.at);
}

}  // namespace blockattn::inline v0::detail
