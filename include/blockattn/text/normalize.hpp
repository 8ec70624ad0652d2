// SPDX-License-Identifier: MIT
/// The changes that some tokenizers make to a text before cutting it: Unicode normal forms, replacements, prefixes.
#pragma once

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "pattern.hpp"
#include "steps.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

enum class normal_form : std::uint8_t { nfc, nfd, nfkc, nfkd };

namespace detail {

// One stretch of valid UTF-8. The library decomposes and composes; sorting marks is done here, because its own sort is
// quadratic in the number of marks on one letter, and a text from outside may be nothing but marks.
inline void normalize_stretch(normal_form form, std::string_view text, std::string& out) {
  const bool compat = form == normal_form::nfkc || form == normal_form::nfkd;
  const bool compose = form == normal_form::nfc || form == normal_form::nfkc;
  const auto decompose = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                        (compat ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const utf8_step step = next_utf8(text.substr(at, 4));
    at += step.bytes;
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code), parts, 32, decompose, nullptr);
    if (n > 0 && n <= 32)
      codes.insert(codes.end(), parts, parts + n);
    else
      codes.push_back(static_cast<utf8proc_int32_t>(step.code));
  }
  const auto order = [](utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; };
  for (auto first = codes.begin(); first != codes.end();) {
    first = std::find_if(first, codes.end(), [&](auto c) { return order(c) != 0; });
    const auto last = std::find_if(first, codes.end(), [&](auto c) { return order(c) == 0; });
    std::stable_sort(first, last, [&](auto a, auto b) { return order(a) < order(b); });
    first = last;
  }
  auto size = static_cast<utf8proc_ssize_t>(codes.size());
  if (compose)
    size = utf8proc_normalize_utf32(codes.data(), size,
                                    static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  for (utf8proc_ssize_t i = 0; i < size; ++i) append_utf8(out, static_cast<char32_t>(codes[static_cast<std::size_t>(i)]));
}

}  // namespace detail

/// `text` in a normal form. Bytes that are not valid UTF-8 stay, and separate what is normalized. O(n log n).
[[nodiscard]] inline std::string normalized(normal_form form, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    // ASCII is in every form; the last letter of a run may take marks that follow.
    std::size_t plain = 0;
    while (plain < text.size() && static_cast<unsigned char>(text[plain]) < 0x80) ++plain;
    if (plain == text.size()) return out.append(text);
    if (plain > 1) {
      out.append(text.substr(0, plain - 1));
      text.remove_prefix(plain - 1);
    }
    // Up to an ASCII character after another: it joins with nothing before it.
    const auto ascii = [&](std::size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
    std::size_t end = 1;
    while (end < text.size() && !(ascii(end) && ascii(end - 1))) ++end;
    std::string_view stretch = text.substr(0, end);
    text.remove_prefix(end);
    while (!stretch.empty()) {
      const std::size_t valid = valid_utf8_prefix(stretch);
      detail::normalize_stretch(form, stretch.substr(0, valid), out);
      stretch.remove_prefix(valid);
      if (stretch.empty()) break;
      const utf8_step bad = next_utf8(stretch.substr(0, 4));
      out.append(stretch.substr(0, bad.bytes));
      stretch.remove_prefix(bad.bytes);
    }
  }
  return out;
}

/// Whitespace by Unicode's White_Space.
[[nodiscard]] constexpr bool is_white_space(char32_t c) noexcept {
  return is_strippable(c) && (c < 0x1C || c > 0x1F);
}

/// A letter, mark, digit or connector: what makes up a word.
[[nodiscard]] inline bool is_word_character(char32_t c) noexcept {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
  }
}

/// The last character of `text`, which must not be empty; one byte where it is not valid.
[[nodiscard]] constexpr utf8_step last_utf8(std::string_view text) noexcept {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  const utf8_step step = next_utf8(text.substr(begin));
  if (step.state == utf8_step::kind::valid && begin + step.bytes == text.size()) return step;
  return {1, utf8_step::kind::invalid, 0};
}

/// How many bytes of whitespace `text` begins, or ends, with.
[[nodiscard]] constexpr std::size_t leading_space(std::string_view text) noexcept {
  std::size_t n = 0;
  while (n < text.size()) {
    const utf8_step step = next_utf8(text.substr(n, 4));
    if (step.state != utf8_step::kind::valid || !is_white_space(step.code)) break;
    n += step.bytes;
  }
  return n;
}
[[nodiscard]] constexpr std::size_t trailing_space(std::string_view text) noexcept {
  std::size_t n = 0;
  while (n < text.size()) {
    const utf8_step step = last_utf8(text.substr(0, text.size() - n));
    if (step.state != utf8_step::kind::valid || !is_white_space(step.code)) break;
    n += step.bytes;
  }
  return n;
}

/// A chain of steps, compiled. A value; const methods are thread-safe.
class normalizer {
 public:
  /// Errors name the step by number.
  [[nodiscard]] static result<normalizer> make(std::span<const normalize_step> steps) {
    if (steps.size() > 64) return fail(errc::unsupported, "normalizer: expected 64 steps at most, found ", steps.size());
    normalizer out;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      stage next{steps[i], {}};
      if (steps[i].type == normalize_step::kind::replace_pattern) {
        auto compiled = pattern::compile(steps[i].what);
        if (!compiled) return fail(compiled.error().code, "normalizer step ", i, ": ", compiled.error().message);
        next.code = *std::move(compiled);
      }
      if (steps[i].type == normalize_step::kind::replace_text && steps[i].what.empty())
        return fail(errc::unsupported, "normalizer step ", i, ": expected a text to replace, found an empty one");
      out.stages_.push_back(std::move(next));
    }
    return out;
  }

  [[nodiscard]] bool empty() const noexcept { return stages_.empty(); }

  /// The text after all steps. `complete` becomes false if a pattern took too many steps or a replacement made the text
  /// more than 64 times as long, which no known tokenizer does: the rest is then as it was.
  [[nodiscard]] std::string apply(std::string_view text, bool& complete) const {
    std::string now(text);
    for (const stage& s : stages_) now = step(s, now, 64 * text.size() + 4096, complete);
    return now;
  }

 private:
  struct stage {
    normalize_step step;
    pattern code;
  };

  [[nodiscard]] static std::string step(const stage& s, const std::string& text, std::size_t most, bool& complete) {
    using kind = normalize_step::kind;
    if (text.size() > most) {
      complete = false;
      return text;
    }
    switch (s.step.type) {
      case kind::nfc: return normalized(normal_form::nfc, text);
      case kind::nfd: return normalized(normal_form::nfd, text);
      case kind::nfkc: return normalized(normal_form::nfkc, text);
      case kind::nfkd: return normalized(normal_form::nfkd, text);
      case kind::prepend: return text.empty() ? text : s.step.with + text;
      case kind::strip: {
        const std::size_t left = s.step.left ? leading_space(text) : 0;
        const std::string_view rest = std::string_view(text).substr(left);
        return std::string(rest.substr(0, rest.size() - (s.step.right ? trailing_space(rest) : 0)));
      }
      case kind::replace_text: {
        std::string out;
        std::size_t at = 0;
        for (std::size_t hit; (hit = text.find(s.step.what, at)) != std::string::npos; at = hit + s.step.what.size()) {
          if (out.size() > most) {
            complete = false;
            break;
          }
          out.append(text, at, hit - at).append(s.step.with);
        }
        return out.append(text, at, std::string::npos);
      }
      case kind::replace_pattern: break;
    }
    std::string out;
    pattern::matcher m(text.size());
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::string_view valid = rest.substr(0, valid_utf8_prefix(rest));
      for (std::size_t from = 0; from < valid.size();) {
        const auto [begin, end] = s.code.find(valid, from, m);
        out.append(valid.substr(from, begin - from));
        if (end > begin) out.append(out.size() <= most ? std::string_view(s.step.with) : valid.substr(begin, end - begin));
        from = end;
      }
      rest.remove_prefix(valid.size());
      if (rest.empty()) break;
      const std::size_t bad = next_utf8(rest.substr(0, 4)).bytes;
      out.append(rest.substr(0, bad));
      rest.remove_prefix(bad);
    }
    complete = complete && !m.gave_up() && out.size() <= most;
    return out;
  }

  std::vector<stage> stages_;
};

}  // namespace blockattn::inline v0
