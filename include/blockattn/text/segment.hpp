// SPDX-License-Identifier: MIT
/// Cutting a text into blocks (PAPER 1.2). A segmenter is a function from a text to contiguous pieces of it: joined,
/// they are the text. All here are deterministic and linear, for any bytes.
///
///     for (std::string_view block : segment_by_delimiter(text)) ...
///     for (std::string_view block : segment_at(prompt, passage_cuts)) ...      // the last is the final block
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../core/result.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

namespace detail {

// The end of the whitespace that begins at `at`, and the begin of the whitespace that ends there, not before `low`.
[[nodiscard]] constexpr std::size_t space_end(std::string_view text, std::size_t at) noexcept {
  while (at < text.size()) {
    const utf8_step step = next_utf8(text.substr(at));
    if (step.state != utf8_step::kind::valid || !is_strippable(step.code)) break;
    at += step.bytes;
  }
  return at;
}
[[nodiscard]] constexpr std::size_t space_begin(std::string_view text, std::size_t at, std::size_t low) noexcept {
  while (at > low) {
    std::size_t begin = at - 1;
    while (begin > low && at - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const utf8_step step = next_utf8(text.substr(begin, at - begin));
    if (step.state != utf8_step::kind::valid || begin + step.bytes != at || !is_strippable(step.code)) break;
    at = begin;
  }
  return at;
}

struct text_range {
  std::size_t begin = 0, end = 0;
};

// Where `core` (a run of at least three of its character if `run`) stands, with the whitespace around it if `wide`.
// Ranges never overlap: whitespace between two belongs to the first, as a search from left to right gives it.
[[nodiscard]] inline std::vector<text_range> delimiters(std::string_view text, std::string_view core, bool run,
                                                        bool wide) {
  std::vector<text_range> out;
  std::size_t done = 0;
  for (std::size_t at = text.find(core); at != std::string_view::npos; at = text.find(core, done)) {
    std::size_t end = at + core.size();
    while (run && end < text.size() && text[end] == core[0]) ++end;
    const std::size_t begin = wide ? space_begin(text, at, done) : at;
    if (wide) end = space_end(text, end);
    out.push_back({begin, end});
    done = end;
  }
  return out;
}

}  // namespace detail

/// The paper's rule: the first of these that stands anywhere in the text cuts it, everywhere, and no other does:
/// an empty line; `---` or more; `===` or more; a line break with a tab; a line break. Whitespace around one belongs to
/// it (not for the tab).
///
/// `---`, `===` and the tab are blocks of their own. Line breaks stay at the end of the piece before them; in a text
/// that begins with one, at the front of the piece behind them. An empty text is one empty piece.
[[nodiscard]] inline std::vector<std::string_view> segment_by_delimiter(std::string_view text) {
  struct rule {
    std::string_view core;
    bool run, wide, own_block;
  };
  constexpr std::array<rule, 5> rules{{{"\n\n", false, true, false},
                                       {"---", true, true, true},
                                       {"===", true, true, true},
                                       {"\n\t", false, false, true},
                                       {"\n", false, true, false}}};
  std::vector<std::string_view> out;
  const auto piece = [&](std::size_t begin, std::size_t end) {
    if (begin < end) out.push_back(text.substr(begin, end - begin));
  };
  for (const rule& r : rules) {
    const std::vector<detail::text_range> found = detail::delimiters(text, r.core, r.run, r.wide);
    if (found.empty()) continue;
    std::size_t from = 0;
    const bool leading = found.front().begin == 0;
    for (const detail::text_range& d : found) {
      if (r.own_block) {
        piece(from, d.begin);
        piece(d.begin, d.end);
        from = d.end;
      } else if (leading) {
        piece(from, d.begin);
        from = d.begin;
      } else {
        piece(from, d.end);
        from = d.end;
      }
    }
    piece(from, text.size());
    return out;
  }
  out.push_back(text);
  return out;
}

/// A cut wherever `pattern` stands: its first `keep` bytes end the block before, the rest begins the next.
struct cut_rule {
  std::string_view pattern;
  std::size_t keep = 0;
};

// The rules that the paper's authors use (PAPER 1.2). What is behind the last cut is the final block.
inline constexpr std::array<cut_rule, 2> passage_cuts{
    {{"\n- Title:", 1}, {"\n\nPlease write a high-quality answer", 0}}};     ///< retrieved passages, and the question
inline constexpr std::array<cut_rule, 1> bbh_cuts{{{"\n\nQ: ", 2}}};          ///< demonstrations of BBH
inline constexpr std::array<cut_rule, 1> drop_cuts{{{"\n---", 0}}};           ///< demonstrations of DROP
inline constexpr std::array<cut_rule, 1> answer_cuts{{{"<|end_of_text|>\n", 16}}};  ///< user and assistant: GSM8K, MATH

/// Cuts a text by rules; where several fit, the first listed counts. Patterns never overlap: the search goes on behind
/// each. No piece is empty, but that of an empty text. O(text x rules).
[[nodiscard]] inline std::vector<std::string_view> segment_at(std::string_view text, std::span<const cut_rule> rules) {
  std::vector<std::string_view> out;
  std::vector<std::size_t> next(rules.size());
  for (std::size_t r = 0; r < rules.size(); ++r)
    next[r] = rules[r].pattern.empty() ? std::string_view::npos : text.find(rules[r].pattern);
  std::size_t from = 0;
  for (;;) {
    const auto first = std::min_element(next.begin(), next.end());
    if (first == next.end() || *first == std::string_view::npos) break;
    const cut_rule& rule = rules[static_cast<std::size_t>(first - next.begin())];
    const std::size_t at = *first, cut = at + std::min(rule.keep, rule.pattern.size());
    if (cut > from && cut < text.size()) {
      out.push_back(text.substr(from, cut - from));
      from = cut;
    }
    for (std::size_t r = 0; r < rules.size(); ++r)
      if (next[r] < at + rule.pattern.size()) next[r] = text.find(rules[r].pattern, at + rule.pattern.size());
  }
  out.push_back(text.substr(from));
  return out;
}

/// Where each turn of a conversation begins in a text: segment_at(text, turn_cuts) for the paper's markers.
inline constexpr std::array<cut_rule, 1> turn_cuts{{{"<|user|>\n", 0}}};

/// A segmenter by name: `whole`, `delimiter`, `passages`, `bbh`, `drop`, `answers`, `turns`. An unknown name is
/// `invalid_argument`, and the message lists the known.
[[nodiscard]] inline result<std::vector<std::string_view>> segment(std::string_view text, std::string_view by) {
  struct named {
    std::string_view name;
    std::span<const cut_rule> rules;
  };
  const std::array<named, 5> by_cuts{{{"passages", passage_cuts},
                                      {"bbh", bbh_cuts},
                                      {"drop", drop_cuts},
                                      {"answers", answer_cuts},
                                      {"turns", turn_cuts}}};
  if (by == "whole") return std::vector<std::string_view>{text};
  if (by == "delimiter") return segment_by_delimiter(text);
  std::string known = "whole, delimiter";
  for (const named& n : by_cuts) {
    if (n.name == by) return segment_at(text, n.rules);
    known.append(", ").append(n.name);
  }
  return fail(errc::invalid_argument, "segmenter: expected one of ", known, ", found \"", by.substr(0, 64), "\"");
}

}  // namespace blockattn::inline v0
