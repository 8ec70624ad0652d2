// SPDX-License-Identifier: MIT
/// Passages, and their JSON Lines form: one object `{"title": ..., "text": ...}` a line.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../core/json_text.hpp"
#include "../core/result.hpp"
#include "read_file.hpp"

namespace blockattn::inline v0 {

/// A document that questions refer to. Valid UTF-8 when it comes from `read_passages`.
struct passage {
  std::string title;
  std::string text;

  friend bool operator==(const passage&, const passage&) = default;
};

/// Passages from JSON Lines. Empty lines are skipped, a byte order mark at the start too; other members of an object
/// are ignored; a missing title is empty. The first line that is not such an object is `bad_format`, by number.
[[nodiscard]] inline result<std::vector<passage>> read_passages(std::string_view lines) {
  std::vector<passage> out;
  if (lines.substr(0, 3) == "\xEF\xBB\xBF") lines.remove_prefix(3);
  for (std::size_t number = 1; !lines.empty(); ++number) {
    const std::size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;

    const auto error = [number](const char* expected, const char* found) {
      return fail(errc::bad_format, "passages, line ", number, ": expected ", expected, ", found ", found);
    };
    // The form without exceptions: a discarded value says that the line is not JSON.
    const nlohmann::json object = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (object.is_discarded() || !detail::refuse_zero_bytes(line)) return error("JSON", "something else");
    if (!object.is_object()) return error("an object with \"title\" and \"text\"", object.type_name());
    passage p;
    const auto text = object.find("text");
    if (text == object.end()) return error("a member \"text\"", "none");
    if (!text->is_string()) return error("\"text\" to be a string", text->type_name());
    p.text = text->get_ref<const std::string&>();
    if (const auto title = object.find("title"); title != object.end() && !title->is_null()) {
      if (!title->is_string()) return error("\"title\" to be a string", title->type_name());
      p.title = title->get_ref<const std::string&>();
    }
    out.push_back(std::move(p));
  }
  return out;
}

/// The same from a file. Errors name it.
[[nodiscard]] inline result<std::vector<passage>> open_passages(const std::filesystem::path& file) {
  const auto bytes = read_file(file);
  if (!bytes) return bytes.error();
  auto passages = read_passages(*bytes);
  if (!passages) return fail(passages.error().code, file.string(), ": ", passages.error().message);
  return passages;
}

}  // namespace blockattn::inline v0
