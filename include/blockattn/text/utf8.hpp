// SPDX-License-Identifier: MIT
/// UTF-8, one sequence at a time: what is well formed, what is cut off, what can never become valid.
/// Tokenizers see bytes from files and users, so nothing here assumes that a text is valid.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// One step through a byte string.
struct utf8_step {
  enum class kind : std::uint8_t {
    valid,       ///< a whole sequence; `code` is its code point
    incomplete,  ///< the text ends inside a sequence that could still become valid
    invalid      ///< no bytes that follow can make these valid
  };
  std::uint32_t bytes = 0;  ///< how many bytes this step covers; at least 1
  kind state = kind::invalid;
  char32_t code = 0;
};

/// The first sequence of `text`, which must not be empty. Follows the table of well-formed sequences of the Unicode
/// standard (no overlong forms, no surrogates, nothing above U+10FFFF). An invalid step covers the longest prefix that
/// a valid sequence could have begun with, so that one U+FFFD replaces each, as the standard recommends.
[[nodiscard]] constexpr utf8_step next_utf8(std::string_view text) noexcept {
  using kind = utf8_step::kind;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {1, kind::valid, static_cast<char32_t>(lead)};
  std::uint32_t length = 0;
  // Only the second byte has limits of its own; they exclude overlong forms, surrogates and the top of the range.
  std::uint32_t low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, kind::invalid, 0};
  }
  std::uint32_t code = lead & (0x7Fu >> length);
  for (std::uint32_t i = 1; i < length; ++i) {
    if (i >= text.size()) return {i, kind::incomplete, 0};
    const std::uint32_t next = byte(i);
    if (next < low || next > high) return {i, kind::invalid, 0};
    code = (code << 6) | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {length, kind::valid, static_cast<char32_t>(code)};
}

/// How many leading bytes of `text` are well formed. Linear.
[[nodiscard]] constexpr std::size_t valid_utf8_prefix(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    const utf8_step step = next_utf8(text.substr(at, 4));
    if (step.state != utf8_step::kind::valid) break;
    at += step.bytes;
  }
  return at;
}

/// Appends one code point. `code` must be at most U+10FFFF.
inline void append_utf8(std::string& out, char32_t code) {
  const auto push = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  const auto c = static_cast<std::uint32_t>(code);
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xC0 | (c >> 6));
    push(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    push(0xE0 | (c >> 12));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  } else {
    push(0xF0 | (c >> 18));
    push(0x80 | ((c >> 12) & 0x3F));
    push(0x80 | ((c >> 6) & 0x3F));
    push(0x80 | (c & 0x3F));
  }
}

namespace detail {
/// Text from a file, fit for a one-line message: short, valid, and without bytes that a terminal would obey.
[[nodiscard]] inline std::string printable(std::string_view text) {
  std::string out(text.substr(0, 64));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return out.substr(0, valid_utf8_prefix(out)) + (text.size() > 64 ? "..." : "");  // not cut inside a character
}
}  // namespace detail

/// The whitespace that a text is stripped of: Unicode White_Space and the four ASCII separators, which is what
/// Python's `str.strip` removes. The paper's templates were made with it.
[[nodiscard]] constexpr bool is_strippable(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// `text` without whitespace at both ends. Bytes that are not valid UTF-8 count as text.
[[nodiscard]] constexpr std::string_view stripped(std::string_view text) noexcept {
  using kind = utf8_step::kind;
  while (!text.empty()) {
    const utf8_step step = next_utf8(text);
    if (step.state != kind::valid || !is_strippable(step.code)) break;
    text.remove_prefix(step.bytes);
  }
  while (!text.empty()) {
    // Walk back over at most three continuation bytes to where the last sequence begins.
    std::size_t begin = text.size() - 1;
    while (begin > 0 && text.size() - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const utf8_step step = next_utf8(text.substr(begin));
    if (step.state != kind::valid || begin + step.bytes != text.size() || !is_strippable(step.code)) break;
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace blockattn::inline v0
