// SPDX-License-Identifier: MIT
/// How answers are judged: the paper's `best_subspan_em` (PAPER 2.2), and likelihood. And the samples they come from.
#pragma once

#include <blockattn/text/passages.hpp>
#include <blockattn/text/read_file.hpp>

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

/// Lower case, no punctuation, no articles, single spaces: the normal form of answers.
inline std::string normal_answer(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 'A' && u <= 'Z') {
      plain += static_cast<char>(u - 'A' + 'a');
    } else if (u < 0x80 && std::ispunct(u) != 0) {
      // Dropped, as in the published metric: "U.S." is "us".
    } else {
      plain += u < 0x80 && std::isspace(u) != 0 ? ' ' : c;
    }
  }
  std::string out;
  for (std::size_t at = 0; at < plain.size();) {
    const std::size_t end = std::min(plain.find(' ', at), plain.size());
    const std::string_view word = std::string_view(plain).substr(at, end - at);
    if (!word.empty() && word != "a" && word != "an" && word != "the") {
      if (!out.empty()) out += ' ';
      out += word;
    }
    at = end + 1;
  }
  return out;
}

/// Whether any answer is a part of the output, both in normal form.
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
    if (answers == object.end() || !answers->is_array() || answers->empty()) return bad("\"answers\" to be a list of strings");
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
