// SPDX-License-Identifier: MIT
/// What CLI11 leaves open: numbers are checked as text before they are converted, because a conversion that wraps or
/// rounds cannot be told from a number that was meant; lists; rules between options. All of it is usage: exit 2.
#pragma once

#include <CLI/CLI.hpp>
#include <blockattn/model/sampler.hpp>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"
#include "stories/words.hpp"

namespace cli {

/// A whole number in decimal digits. Rewrites the text, so that "010" is ten and not eight.
inline CLI::Validator whole(std::uint64_t low, std::uint64_t high) {
  const std::string range = std::to_string(low) + " to " + std::to_string(high);
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        std::uint64_t value = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (code != std::errc() || end != text.data() + text.size() || value < low || value > high)
          return "expected a whole number from " + range + ", found \"" + text + "\"";
        text = std::to_string(value);
        return {};
      },
      range);
}

/// A finite number.
inline CLI::Validator real(double low, double high) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        double value = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (code == std::errc() && end == text.data() + text.size() && value >= low && value <= high) return {};
        return "expected a number from " + CLI::detail::to_string(low) + " to " + CLI::detail::to_string(high) +
               ", found \"" + text + "\"";
      },
      "NUMBER");
}

/// "1,2,3" as numbers; spaces may stand beside or instead of commas. Throws what CLI11 throws for a wrong option.
template <class T>
std::vector<T> parse_list(const std::string& option, std::string_view text) {
  constexpr std::string_view space = " \t\r\n";
  std::vector<T> out;
  const auto skip_space = [&] { text.remove_prefix(std::min(text.find_first_not_of(space), text.size())); };
  for (skip_space(); !text.empty();) {
    T value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    const auto used = static_cast<std::size_t>(end - text.data());
    const bool ends = used == text.size() || text[used] == ',' || space.find(text[used]) != std::string_view::npos;
    if (code != std::errc() || !ends)
      throw CLI::ValidationError(
          option, "expected numbers with commas between them, found \"" + std::string(text.substr(0, 32)) + "\"");
    out.push_back(value);
    text.remove_prefix(used);
    skip_space();
    if (text.empty() || text.front() != ',') continue;
    text.remove_prefix(1);
    skip_space();
    if (text.empty()) throw CLI::ValidationError(option, "expected a number after the last comma");
  }
  return out;
}

/// Reads --ids and --blocks, which must fit each other.
inline void read_lists(options& o, bool needs_ids) {
  o.ids = parse_list<blockattn::token>("--ids", o.ids_text);
  if (needs_ids && o.ids.empty()) throw CLI::ValidationError("--ids", "expected at least one id, found none");
  o.blocks = parse_list<std::size_t>("--blocks", o.blocks_text);
  if (o.blocks.empty()) return;
  std::size_t left = o.ids.size();
  for (const std::size_t n : o.blocks) {
    if (n == 0) throw CLI::ValidationError("--blocks", "expected lengths of at least 1, found 0");
    if (n > left) {
      left = 1;  // any remainder: the lengths pass the ids, and their sum could wrap
      break;
    }
    left -= n;
  }
  if (left != 0)
    throw CLI::ValidationError("--blocks", "expected lengths whose sum is the number of ids, " +
                                               std::to_string(o.ids.size()) + ", found \"" + o.blocks_text + "\"");
}

/// Reads --tasks: numbers of bAbI's tasks that stories have.
inline void read_tasks(options& o) {
  o.tasks = parse_list<std::size_t>("--tasks", o.tasks_text);
  for (const std::size_t number : o.tasks)
    if (!stories::find_task(number))
      throw CLI::ValidationError("--tasks", "expected 1, 2, 5, 6, 8, 11 or 12, found " + std::to_string(number));
}

/// A scaling by name needs the numbers that the file does not give.
inline void check_rope(const common_options& o) {
  if ((o.rope_scaling == "yarn" || o.rope_scaling == "llama3") && o.rope_original_context == 0)
    throw CLI::ValidationError("--rope-scaling " + o.rope_scaling, "expected --rope-original-context beside it");
}

}  // namespace cli
