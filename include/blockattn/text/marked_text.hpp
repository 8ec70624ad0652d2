// SPDX-License-Identifier: MIT
/// A text in which the markers that a template wrote are told apart from the same characters in what people wrote.
///
/// A template's `<|im_start|>` is one token. The same spelling inside a passage or a question is text, and stays text:
/// otherwise a document could end the user's turn and speak as the system. So prompts are rendered into `marked_text`
/// and encoded by `encode` below, never by a search for control tokens in the finished string.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer.hpp"

namespace blockattn::inline v0 {

/// Text, and where the template's markers stand in it (ascending, disjoint).
struct marked_text {
  struct marker {
    std::size_t begin = 0, size = 0;

    friend bool operator==(const marker&, const marker&) = default;
  };

  std::string text;
  std::vector<marker> markers;

  /// Appends what people wrote: whatever it spells, it is text.
  marked_text& add_text(std::string_view words) {
    text.append(words);
    return *this;
  }
  /// Appends a part of a template, in which each of `known` is a marker: the leftmost, then the longest.
  marked_text& add_template(std::string_view part, std::span<const std::string> known) {
    for (std::size_t at = 0; at < part.size();) {
      std::size_t longest = 0;
      for (const std::string& m : known)
        if (m.size() > longest && part.substr(at, m.size()) == m) longest = m.size();
      if (longest != 0) markers.push_back({text.size(), longest});
      const std::size_t step = std::max<std::size_t>(longest, 1);
      text.append(part.substr(at, step));
      at += step;
    }
    return *this;
  }
  marked_text& add(const marked_text& more) {
    for (const marker& m : more.markers) markers.push_back({text.size() + m.begin, m.size});
    text.append(more.text);
    return *this;
  }

  friend bool operator==(const marked_text&, const marked_text&) = default;
};

struct marked_options {
  bool bos = false;                          ///< begin with the begin token, if the vocabulary has one
  std::span<const std::string> markers = {}; ///< all markers of the template: text that spells one is kept apart
  std::string_view eos = {};                 ///< the marker that stands for the vocabulary's own end token
};

namespace detail {

// The token of a marker: the control or user-defined piece of that name; for `eos`, whatever the vocabulary ends with.
[[nodiscard]] inline token marker_token(const tokenizer& words, std::string_view name, std::string_view eos) {
  if (const std::optional<token> id = words.find(name)) {
    const piece_type type = words.type(*id);
    if (type == piece_type::control || type == piece_type::user_defined) return *id;
  }
  return !eos.empty() && name == eos ? words.eos() : token{-1};
}

// Text without markers. A tokenizer matches user-defined pieces in any text; where such a piece is a marker of the
// template, its spelling is cut after the first byte, so that no part of the text is that piece.
inline void encode_plain(const tokenizer& words, std::string_view text, std::span<const std::string> shielded,
                         std::vector<token>& out) {
  const auto append = [&](std::string_view part) {
    const std::vector<token> ids = words.encode(part);
    out.insert(out.end(), ids.begin(), ids.end());
  };
  std::size_t from = 0;
  if (!shielded.empty()) {
    for (std::size_t at = 0; at < text.size(); ++at) {
      const bool spelled = std::any_of(shielded.begin(), shielded.end(), [&](const std::string& m) {
        return m.size() > 1 && text[at] == m[0] && text.substr(at, m.size()) == m;
      });
      if (!spelled) continue;
      append(text.substr(from, at + 1 - from));
      from = at + 1;
    }
  }
  append(text.substr(from));
}

}  // namespace detail

/// The ids of a marked text. A marker is its token if the vocabulary has one of that name, and otherwise text like the
/// rest (`<|user|>` of Tulu is no token of Llama's vocabulary). Text is never a control token.
///
/// Vocabularies that put a space before each stretch of text (SentencePiece) give the space that a template writes
/// after a marker by themselves; it is then not written twice. Linear; thread-safe.
[[nodiscard]] inline std::vector<token> encode(const tokenizer& words, const marked_text& t,
                                               const marked_options& options = {}) {
  std::vector<token> out;
  if (options.bos && words.bos() >= 0) out.push_back(words.bos());
  std::vector<std::string> shielded;
  for (const std::string& m : options.markers) {
    const token id = detail::marker_token(words, m, {});
    if (id >= 0 && words.type(id) == piece_type::user_defined) shielded.push_back(m);
  }
  const std::string_view text = t.text;
  std::size_t from = 0;
  bool after_marker = false;
  const auto plain_until = [&](std::size_t end) {
    std::string_view part = text.substr(from, end - from);
    if (after_marker && words.strips_at_start({}) && !part.empty() && part.front() == ' ') part.remove_prefix(1);
    if (!part.empty()) detail::encode_plain(words, part, shielded, out);
  };
  for (const marked_text::marker& m : t.markers) {
    const token id = detail::marker_token(words, text.substr(m.begin, m.size), options.eos);
    if (id < 0) continue;
    plain_until(m.begin);
    out.push_back(id);
    from = m.begin + m.size;
    after_marker = true;
  }
  plain_until(text.size());
  return out;
}

namespace detail {

using filling = std::pair<std::string_view, std::string_view>;

// A template's text with its places filled, in one pass: a value that itself contains "{text}" stays as it is.
[[nodiscard]] inline marked_text filled(std::string_view pattern, std::initializer_list<filling> values,
                                        std::span<const std::string> markers = {}) {
  marked_text out;
  std::size_t from = 0;
  for (std::size_t at = pattern.find('{'); at != std::string_view::npos; at = pattern.find('{', at)) {
    const filling* found = nullptr;
    for (const filling& f : values)
      if (pattern.substr(at, f.first.size()) == f.first) found = &f;
    if (found == nullptr) {
      ++at;
      continue;
    }
    out.add_template(pattern.substr(from, at - from), markers).add_text(found->second);
    from = at += found->first.size();
  }
  return out.add_template(pattern.substr(from), markers), out;
}

}  // namespace detail

}  // namespace blockattn::inline v0
