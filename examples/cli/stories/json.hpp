// SPDX-License-Identifier: MIT
/// Stories as JSON lines, a sentence a passage: what `babi --group 1` makes of bAbI's files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "story.hpp"

namespace stories {

/// `{"passages":[{"text"}],"question","answers":[..],"kind"}` for each question.
[[nodiscard]] inline std::string question_lines(const story& s) {
  auto passages = nlohmann::ordered_json::array();
  for (const std::string& sentence : s.sentences) passages.push_back({{"text", sentence}});
  std::string out;
  for (const question& q : s.questions)
    out += nlohmann::ordered_json{{"passages", passages}, {"question", q.text}, {"answers", {q.answer}}, {"kind", to_string(s.what)}}.dump() + "\n";
  return out;
}

}  // namespace stories
