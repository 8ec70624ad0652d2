// SPDX-License-Identifier: MIT
/// How answers are judged: the paper's `best_subspan_em` (PAPER 2.2), and likelihood. And the samples they come from.
#pragma once

#include <blockattn/text/passages.hpp>
#include <blockattn/text/read_file.hpp>
#include <blockattn/text/utf8.hpp>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace cli {

namespace ba = blockattn;

/// A line of a dataset: {"passages": [{"title", "text"}], "question", "answers": [...]}.
struct sample {
  std::vector<ba::passage> passages;
  std::string question;
  std::vector<std::string> answers;
};

namespace detail {

// Lower case of ASCII, Latin-1, Greek and Cyrillic letters: what answers are written in, without tables.
constexpr char32_t lower(char32_t c) noexcept {
  if ((c >= U'A' && c <= U'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7)) return c + 0x20;
  if ((c >= 0x391 && c <= 0x3A9) || (c >= 0x410 && c <= 0x42F)) return c + 0x20;
  return c >= 0x400 && c <= 0x40F ? c + 0x50 : c;
}
constexpr bool is_ascii_punctuation(char32_t c) noexcept {
  return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) || (c >= 0x7B && c <= 0x7E);
}
// Signs that end a word without being ASCII: quotation marks, dashes, the ellipsis.
constexpr bool is_other_sign(char32_t c) noexcept {
  return c < 0x20 || c == 0x7F || (c >= 0x80 && c <= 0xBF && c != 0xAA && c != 0xB5 && c != 0xBA) ||
         (c >= 0x2000 && c <= 0x206F) || (c >= 0x3000 && c <= 0x303F);
}

}  // namespace detail

/// The normal form of answers (PAPER 2.2), step for step that of the published metric: lower case; ASCII punctuation
/// dropped, so that "U.S." is "us"; the words a, an and the dropped; single spaces.
inline std::string normal_answer(std::string_view text) {
  std::string plain, word;
  const auto end_word = [&] {
    plain += word == "a" || word == "an" || word == "the" ? " " : word;
    word.clear();
  };
  while (!text.empty()) {
    const ba::utf8_step step = ba::next_utf8(text);
    const bool valid = step.state == ba::utf8_step::kind::valid;
    const char32_t c = valid ? detail::lower(step.code) : 0xFFFD;
    text.remove_prefix(step.bytes);
    if (detail::is_ascii_punctuation(c)) continue;
    const bool space = ba::is_strippable(c);
    if (!space && !detail::is_other_sign(c)) {
      ba::append_utf8(word, c);
      continue;
    }
    end_word();
    if (space)
      plain += ' ';
    else
      ba::append_utf8(plain, c);
  }
  end_word();
  std::string out;
  for (const char c : plain)
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

/// Whether any answer is a part of the output, both in normal form. As published, an answer that has no normal form
/// ("The") is a part of everything.
inline bool best_subspan_em(std::string_view output, std::span<const std::string> answers) {
  const std::string plain = normal_answer(output);
  for (const std::string& answer : answers)
    if (plain.find(normal_answer(answer)) != std::string::npos) return true;
  return false;
}

/// -log softmax(logits)[id], in double.
inline double negative_log_likelihood(std::span<const float> logits, ba::token id) {
  double top = logits[0], sum = 0;
  for (const float x : logits) top = std::max(top, static_cast<double>(x));
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  return top + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
}

/// Reads a dataset. Errors: `io`; `bad_format` names the line.
inline ba::result<std::vector<sample>> read_samples(const std::string& file) {
  const auto text = ba::read_file(file);
  if (!text) return text.error();
  std::vector<sample> out;
  std::string_view lines = *text;
  for (std::size_t number = 1; !lines.empty(); ++number) {
    const std::size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto bad = [&](const char* expected) {
      return ba::fail(ba::errc::bad_format, file, ", line ", number, ": expected ", expected);
    };
    const auto object = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!object.is_object()) return bad("an object with \"passages\", \"question\" and \"answers\"");
    const auto passages = object.find("passages"), question = object.find("question"), answers = object.find("answers");
    if (passages == object.end() || !passages->is_array()) return bad("\"passages\" to be a list");
    if (question == object.end() || !question->is_string()) return bad("\"question\" to be a string");
    if (answers == object.end() || !answers->is_array() || answers->empty())
      return bad("\"answers\" to be a list of strings");
    sample s;
    s.question = question->get<std::string>();
    for (const auto& answer : *answers) {
      if (!answer.is_string()) return bad("\"answers\" to be a list of strings");
      s.answers.push_back(answer.get<std::string>());
    }
    for (const auto& passage : *passages) {
      const auto read = ba::read_passages(passage.dump());
      if (!read || read->size() != 1) return bad("each of \"passages\" to be an object with \"text\"");
      s.passages.push_back(read->front());
    }
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace cli
