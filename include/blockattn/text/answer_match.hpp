// SPDX-License-Identifier: MIT
/// When an answer is right: the paper's `best_subspan_em` (PAPER 2.2), and exact match.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>

#include "utf8.hpp"

namespace blockattn::inline v0 {

namespace detail {

// Lower case of the letters that answers are written in: Latin, Greek, Cyrillic, Armenian, full-width. All of them have
// their lower case at a fixed distance, or beside them.
constexpr char32_t lower(char32_t c) noexcept {
  const auto within = [c](char32_t low, char32_t high) { return c >= low && c <= high; };
  if (c < 0x80) return within('A', 'Z') ? c + 0x20 : c;
  if (within(0xC0, 0xDE)) return c == 0xD7 ? c : c + 0x20;
  // Latin Extended: capital and small letter side by side, capitals even or odd by stretch.
  if (within(0x100, 0x12F) || within(0x132, 0x137) || within(0x14A, 0x177) || within(0x1E00, 0x1E95) ||
      within(0x1EA0, 0x1EFF) || within(0x460, 0x481) || within(0x48A, 0x4BF) || within(0x4D0, 0x52F) ||
      within(0x1DE, 0x1EF) || within(0x1F8, 0x21F) || within(0x222, 0x233) || within(0x3D8, 0x3EF))
    return c | 1;
  if (within(0x139, 0x148) || within(0x179, 0x17E) || within(0x1CD, 0x1DC) || within(0x4C1, 0x4CE))
    return c + (c & 1);
  switch (c) {
    case 0x178: return 0xFF;
    case 0x1A0: return 0x1A1;
    case 0x1AF: return 0x1B0;
    case 0x386: return 0x3AC;
    case 0x38C: return 0x3CC;
    case 0x4C0: return 0x4CF;
    case 0x1E9E: return 0xDF;
    default: break;
  }
  if (within(0x388, 0x38A)) return c + 37;
  if (within(0x38E, 0x38F)) return c + 63;
  if (within(0x391, 0x3AB) && c != 0x3A2) return c + 0x20;
  if (within(0x400, 0x40F)) return c + 0x50;
  if (within(0x410, 0x42F)) return c + 0x20;
  if (within(0x531, 0x556)) return c + 0x30;
  return within(0xFF21, 0xFF3A) ? c + 0x20 : c;
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
[[nodiscard]] inline std::string normal_answer(std::string_view text) {
  std::string plain, word;
  const auto end_word = [&] {
    plain += word == "a" || word == "an" || word == "the" ? " " : word;
    word.clear();
  };
  while (!text.empty()) {
    const utf8_step step = next_utf8(text);
    const bool valid = step.state == utf8_step::kind::valid;
    const char32_t c = valid ? detail::lower(step.code) : 0xFFFD;
    text.remove_prefix(step.bytes);
    if (detail::is_ascii_punctuation(c)) continue;
    const bool space = is_strippable(c);
    if (!space && !detail::is_other_sign(c)) {
      append_utf8(word, c);
      continue;
    }
    end_word();
    if (space)
      plain += ' ';
    else
      append_utf8(plain, c);
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
[[nodiscard]] inline bool best_subspan_em(std::string_view output, std::span<const std::string> answers) {
  const std::string plain = normal_answer(output);
  return std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
    return plain.find(normal_answer(answer)) != std::string::npos;
  });
}

/// Whether the output is one of the answers, both in normal form.
[[nodiscard]] inline bool exact_match(std::string_view output, std::span<const std::string> answers) {
  const std::string plain = normal_answer(output);
  return std::any_of(answers.begin(), answers.end(),
                     [&](const std::string& answer) { return plain == normal_answer(answer); });
}

}  // namespace blockattn::inline v0
