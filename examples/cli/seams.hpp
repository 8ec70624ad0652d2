// SPDX-License-Identifier: MIT
/// What tokenising block by block changes: where the ids of the blocks, end to end, differ from those of the whole text.
#pragma once

#include <blockattn/core/config.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

/// A stretch of ids that differ; either side may be empty. `block` is the block of the first id on the blocks' side.
struct seam {
  std::size_t block = 0;
  std::size_t whole_at = 0, blocks_at = 0;  // where it begins in either list
  std::vector<blockattn::token> whole, blocks;
};

/// The differences, in order. Two lists meet again where `settled` ids in a row are equal; a stretch of more than `most`
/// ids on both sides together is reported up to the end. O(ids * most^2) at worst, in practice linear.
inline std::vector<seam> find_seams(std::span<const blockattn::token> whole,
                                    const std::vector<std::vector<blockattn::token>>& blocks) {
  constexpr std::size_t settled = 3, most = 64;
  std::vector<blockattn::token> joined;
  std::vector<std::size_t> ends;
  for (const auto& ids : blocks) {
    joined.insert(joined.end(), ids.begin(), ids.end());
    ends.push_back(joined.size());
  }
  const auto equal_from = [&](std::size_t i, std::size_t j) {
    for (std::size_t k = 0; k < settled; ++k) {
      const bool left = i + k < whole.size(), right = j + k < joined.size();
      if (!left && !right) return true;
      if (left != right || whole[i + k] != joined[j + k]) return false;
    }
    return true;
  };
  std::vector<seam> out;
  for (std::size_t i = 0, j = 0; i < whole.size() || j < joined.size();) {
    if (i < whole.size() && j < joined.size() && whole[i] == joined[j]) {
      ++i, ++j;
      continue;
    }
    std::size_t a = whole.size() - i, b = joined.size() - j;  // to the end, unless they meet before
    for (std::size_t sum = 1, met = 0; sum <= most && met == 0; ++sum)
      for (std::size_t x = 0; x <= sum && met == 0; ++x)
        if (i + x <= whole.size() && j + sum - x <= joined.size() && equal_from(i + x, j + sum - x)) {
          a = x;
          b = sum - x;
          met = 1;
        }
    seam s;
    s.block = static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), j) - ends.begin());
    s.block = std::min(s.block, blocks.empty() ? 0 : blocks.size() - 1);
    s.whole_at = i;
    s.blocks_at = j;
    s.whole.assign(whole.begin() + static_cast<std::ptrdiff_t>(i), whole.begin() + static_cast<std::ptrdiff_t>(i + a));
    s.blocks.assign(joined.begin() + static_cast<std::ptrdiff_t>(j), joined.begin() + static_cast<std::ptrdiff_t>(j + b));
    out.push_back(std::move(s));
    i += a;
    j += b;
  }
  return out;
}

/// `text` cut after every `mark`; the pieces joined are the text. The last one is not empty, unless the text is.
inline std::vector<std::string_view> cut_after(std::string_view text, std::string_view mark) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::size_t at = mark.empty() ? std::string_view::npos : text.find(mark);
    const std::size_t end = at == std::string_view::npos ? text.size() : at + mark.size();
    out.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

/// `\n`, `\t` and `\\` in an option, which a shell passes on as they are.
inline std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view pair = text.substr(i, 2);
    const char c = pair == "\\n" ? '\n' : pair == "\\t" ? '\t' : pair == "\\\\" ? '\\' : '\0';
    if (c != '\0') ++i;
    out += c != '\0' ? c : text[i];
  }
  return out;
}

}  // namespace cli
