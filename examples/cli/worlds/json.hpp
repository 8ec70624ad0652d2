// SPDX-License-Identifier: MIT
/// Worlds as JSON lines: a question a line, as `score` reads them, or a context with all its questions a line.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "world.hpp"

namespace worlds {

namespace detail {
[[nodiscard]] inline nlohmann::ordered_json passages_of(const world& w) {
  auto out = nlohmann::ordered_json::array();
  for (const passage& p : w.passages) out.push_back({{"title", p.title}, {"text", p.text}});
  return out;
}
}  // namespace detail

/// `{"passages":[{"title","text"}],"question","answers":[..],"kind"}` for each question.
[[nodiscard]] inline std::string question_lines(const world& w) {
  std::string out;
  const auto passages = detail::passages_of(w);
  for (const question& q : w.questions)
    out += nlohmann::ordered_json{{"passages", passages}, {"question", q.text},
                                  {"answers", q.answers()}, {"kind", to_string(q.what)}}.dump() + "\n";
  return out;
}

/// `{"passages":[{"title","text"}],"questions":[{"question","answers":[..],"kind"}]}`.
[[nodiscard]] inline std::string context_line(const world& w) {
  auto questions = nlohmann::ordered_json::array();
  for (const question& q : w.questions)
    questions.push_back({{"question", q.text}, {"answers", q.answers()}, {"kind", to_string(q.what)}});
  return nlohmann::ordered_json{{"passages", detail::passages_of(w)}, {"questions", std::move(questions)}}.dump() + "\n";
}

}  // namespace worlds
