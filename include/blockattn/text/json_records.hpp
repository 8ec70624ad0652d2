// SPDX-License-Identifier: MIT
/// The records of a JSON file one by one, whether it holds a line each, a list, or a list within an object. The whole is
/// never parsed at once, so a large file costs memory for one record.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../core/result.hpp"

namespace blockattn::inline v0 {

namespace detail {

// Walks over JSON text without checking it: that is the parser's work.
class json_walk {
 public:
  explicit json_walk(std::string_view text, std::size_t at = 0, std::size_t line = 1)
      : text_(text), at_(at), line_(line) {}

  [[nodiscard]] std::size_t at() const noexcept { return at_; }
  [[nodiscard]] std::size_t line() const noexcept { return line_; }
  [[nodiscard]] bool done() const noexcept { return at_ >= text_.size(); }
  [[nodiscard]] char peek() const noexcept { return done() ? '\0' : text_[at_]; }
  void step() noexcept { line_ += text_[at_++] == '\n' ? 1u : 0u; }

  void skip_space() noexcept {
    while (!done() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) step();
  }
  /// Over a string whose first quote comes next. Returns what is between the quotes.
  std::string_view skip_string() noexcept {
    step();
    const std::size_t begin = at_;
    while (!done() && peek() != '"') {
      if (peek() == '\\') step();
      if (!done()) step();
    }
    const std::string_view inside = text_.substr(begin, at_ - begin);
    if (!done()) step();
    return inside;
  }
  /// Over a value, up to the comma or bracket behind it.
  void skip_value() noexcept {
    std::size_t depth = 0;
    while (!done()) {
      const char c = peek();
      if (c == '"') {
        skip_string();
        continue;
      }
      if (depth == 0 && (c == ',' || c == ']' || c == '}')) return;
      if (c == '[' || c == '{') ++depth;
      if (c == ']' || c == '}') --depth;
      step();
    }
  }

 private:
  std::string_view text_;
  std::size_t at_, line_;
};

// Where the list of member "Data" of an outermost object begins, as TriviaQA's files have it; or the text's end.
[[nodiscard]] inline json_walk find_data_list(std::string_view text) {
  json_walk walk(text);
  walk.skip_space();
  const json_walk nothing(text, text.size());
  if (walk.peek() != '{') return nothing;
  walk.step();
  for (;;) {
    walk.skip_space();
    if (walk.peek() != '"') return nothing;
    const std::string_view key = walk.skip_string();
    walk.skip_space();
    if (walk.peek() != ':') return nothing;
    walk.step();
    walk.skip_space();
    if (key == "Data" && walk.peek() == '[') return walk;
    walk.skip_value();
    if (walk.peek() != ',') return nothing;
    walk.step();
  }
}

}  // namespace detail

/// Calls `f(record, line)` for each record of a file, in order, until it fails; `line` counts from 1. A file is a JSON
/// list of records, an object whose member "Data" is one, or a record a line (empty lines are skipped). A byte order
/// mark is skipped. Errors: `bad_format` names the line; those of `f`. Linear.
template <class F>
[[nodiscard]] result<void> for_each_json_record(std::string_view text, F&& f) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  detail::json_walk walk(text);
  walk.skip_space();
  if (walk.peek() != '[') walk = detail::find_data_list(text);
  if (walk.done()) {
    for (std::size_t number = 1; !text.empty(); ++number) {
      const std::size_t end = text.find('\n');
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      if (auto done = f(line, number); !done) return done;
    }
    return {};
  }
  walk.step();
  walk.skip_space();
  for (bool first = true; walk.peek() != ']'; first = false) {
    if (!first) {
      if (walk.peek() != ',')
        return fail(errc::bad_format, "line ", walk.line(), ": expected a comma or the end of the list, found ",
                    walk.done() ? "the end of the file" : "something else");
      walk.step();
      walk.skip_space();
    }
    const std::size_t begin = walk.at(), line = walk.line();
    walk.skip_value();
    if (auto done = f(text.substr(begin, walk.at() - begin), line); !done) return done;
  }
  return {};
}

}  // namespace blockattn::inline v0
