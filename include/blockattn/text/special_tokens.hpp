// SPDX-License-Identifier: MIT
/// Finds the pieces that are one token wherever their text stands: user-defined pieces always, control pieces when the
/// caller trusts the text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../core/config.hpp"
#include "normalize.hpp"
#include "steps.hpp"

namespace blockattn::inline v0 {

/// An ordered list of texts, searched for the leftmost and then the longest. Const methods are thread-safe.
class special_tokens {
 public:
  struct hit {
    std::size_t begin = 0;
    std::size_t size = 0;  // 0: nothing was found
    token id = -1;
    bool control = false;
  };

  /// `how` says what else is asked of the place; its `id` and `normalized` do not matter here.
  void add(std::string text, token id, bool control, added_token how = {}) {
    if (!text.empty()) entries_.push_back({std::move(text), id, control, how.lstrip, how.rstrip, how.single_word});
  }
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

  /// Call once, after the last `add`. Of equal texts the lowest id stays.
  void sort() {
    std::sort(entries_.begin(), entries_.end(),
              [](const entry& a, const entry& b) { return a.text != b.text ? a.text < b.text : a.id < b.id; });
    entries_.erase(
        std::unique(entries_.begin(), entries_.end(), [](const entry& a, const entry& b) { return a.text == b.text; }),
        entries_.end());
    first_.fill(0);
    for (const entry& e : entries_) first_[static_cast<unsigned char>(e.text[0])] |= e.control ? 1 : 2;
  }

  /// The first special text at or after `from`, with the whitespace it takes along. O(text + candidates * their length).
  [[nodiscard]] hit next(std::string_view text, std::size_t from, bool control) const noexcept {
    const int wanted = control ? 3 : 2;
    if (!entries_.empty())
      for (std::size_t at = from; at < text.size();) {
        const entry* e = nullptr;
        if ((first_[static_cast<unsigned char>(text[at])] & wanted) != 0) e = longest(text, at, control);
        const std::size_t end = e == nullptr ? at + 1 : at + e->text.size();
        if (e != nullptr && (!e->single_word || stands_alone(text, at, end))) {
          const std::size_t begin = e->lstrip ? at - trailing_space(text.substr(from, at - from)) : at;
          const std::size_t after = e->rstrip ? end + leading_space(text.substr(end)) : end;
          return {begin, after - begin, e->id, e->control};
        }
        at = end;
      }
    return {text.size(), 0, -1, false};
  }

 private:
  struct entry {
    std::string text;
    token id;
    bool control;
    bool lstrip, rstrip, single_word;
  };

  static bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) noexcept {
    const auto touches = [](const utf8_step& s) {
      return s.state == utf8_step::kind::valid && is_word_character(s.code);
    };
    return !(begin != 0 && touches(last_utf8(text.substr(0, begin)))) &&
           !(end != text.size() && touches(next_utf8(text.substr(end, 4))));
  }

  // Narrows the sorted list one character at a time: what is left shares a prefix with the text.
  [[nodiscard]] const entry* longest(std::string_view text, std::size_t at, bool control) const noexcept {
    const entry* best = nullptr;
    auto low = entries_.begin(), high = entries_.end();
    for (std::size_t depth = 0; at + depth < text.size() && low != high; ++depth) {
      const auto wanted = static_cast<unsigned char>(text[at + depth]);
      // A text that ends here sorts first and counts as smaller than any character.
      const auto character = [depth](const entry& e) {
        return depth < e.text.size() ? static_cast<int>(static_cast<unsigned char>(e.text[depth])) : -1;
      };
      low = std::partition_point(low, high, [&](const entry& e) { return character(e) < wanted; });
      high = std::partition_point(low, high, [&](const entry& e) { return character(e) <= wanted; });
      if (low != high && low->text.size() == depth + 1 && (control || !low->control))
        best = &*low;
    }
    return best;
  }

  std::vector<entry> entries_;
  std::array<std::uint8_t, 256> first_{};
};

}  // namespace blockattn::inline v0
