// SPDX-License-Identifier: MIT
/// The bAbI tasks (Weston et al. 2015) as questions over passages: a story's sentences in groups, with questions in between.
///
/// A line is `N sentence`, or `N question<tab>answer<tab>numbers`; a number that does not grow begins a new story. A question
/// sees the sentences before it.
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "../core/result.hpp"
#include "dataset.hpp"

namespace blockattn::inline v0 {

/// The questions of a file, each over passages of `group` sentences (the last has what is left). Answers are as the file
/// spells them, several things with commas between them. Errors: `bad_format` names the line; `invalid_argument` for a
/// group of none. Memory: for each question a copy of what it sees.
[[nodiscard]] inline result<std::vector<sample>> read_babi(std::string_view text, std::size_t group) {
  if (group == 0) return fail(errc::invalid_argument, "group: expected at least one sentence, found 0");
  std::vector<sample> out;
  std::vector<std::string_view> story;
  std::uint64_t before = 0;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    std::uint64_t id = 0;
    const auto [rest, code] = std::from_chars(line.data(), line.data() + line.size(), id);
    const auto used = static_cast<std::size_t>(rest - line.data());
    if (code != std::errc() || used == line.size() || line[used] != ' ' || id == 0)
      return fail(errc::bad_format, "line ", number, ": expected a number, a space and a sentence, found \"",
                  std::string(line.substr(0, 32)), "\"");
    line.remove_prefix(used + 1);
    if (id <= before) story.clear();
    before = id;
    const std::size_t tab = line.find('\t');
    if (tab == std::string_view::npos) {
      story.push_back(line);
      continue;
    }
    sample s;
    std::string_view question = line.substr(0, tab), answer = line.substr(tab + 1);
    answer = answer.substr(0, answer.find('\t'));
    while (question.ends_with(' ')) question.remove_suffix(1);
    if (question.empty() || answer.empty())
      return fail(errc::bad_format, "line ", number, ": expected a question, a tab and an answer, found one that is empty");
    s.question = std::string(question);
    s.answers.emplace_back(answer);
    for (std::size_t i = 0; i < story.size(); ++i) {
      if (i % group == 0) s.passages.emplace_back();
      std::string& passage = s.passages.back().text;
      passage.append(passage.empty() ? "" : " ").append(story[i]);
    }
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace blockattn::inline v0
