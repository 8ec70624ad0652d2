// SPDX-License-Identifier: MIT
/// The merge rules of BPE by pair of ids, and what is common to BPE over bytes and over characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../core/result.hpp"
#include "merge.hpp"
#include "pretokenize.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// Ids by piece, while a tokenizer is made; views into the vocabulary. Of equal pieces the lowest id.
using piece_ids = std::unordered_map<std::string_view, token>;
[[nodiscard]] inline piece_ids ids_of_pieces(const vocabulary& v) {
  piece_ids ids;
  ids.reserve(v.pieces.size());
  for (std::size_t i = 0; i < v.pieces.size(); ++i) ids.emplace(v.pieces[i], static_cast<token>(i));
  return ids;
}

/// How `v` cuts text: by its steps if it has some, else by the kind it names.
[[nodiscard]] inline result<pretokenizer> make_pretokenizer(const vocabulary& v) {
  auto words = v.has_steps ? pretokenizer::make(v.splits) : pretokenizer::make(v.pre);
  if (words && v.has_steps) words->whole_words(v.whole_words);
  return words;
}

/// The merge rules by pair of ids: a flat table with linear probing, filled once. Word-sized keys keep the inner loop
/// of encoding free of strings.
class merge_table {
 public:
  /// The rules of a valid vocabulary, given by name or by id. A merge that names a piece the vocabulary lacks is
  /// `bad_format`.
  [[nodiscard]] static result<merge_table> make(const vocabulary& v) {
    const std::size_t count = v.pairs.empty() ? v.merges.size() : v.pairs.size();
    if (count >= merge_rule::never)
      return fail(errc::bad_format, "vocabulary: expected fewer than 2^32 merges, found ", count);
    merge_table out(count);
    if (!v.pairs.empty()) {
      for (const merge_pair& m : v.pairs) out.add(m.left, m.right, {m.rank, m.joined});
      return out;
    }
    const piece_ids ids = ids_of_pieces(v);
    std::string joined;
    for (std::size_t i = 0; i < v.merges.size(); ++i) {
      const std::string_view line = v.merges[i];
      // The separator is the first space that is not itself the left piece.
      const std::size_t space = line.find(' ', 1);
      if (space == std::string_view::npos || space + 1 == line.size())
        return fail(errc::bad_format, "merge ", i, ": expected two pieces and a space between them, found \"",
                    line.substr(0, 64), "\"");
      const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
      joined.assign(left).append(right);
      token found[3] = {};
      const std::string_view wanted[3] = {left, right, joined};
      for (std::size_t k = 0; k < 3; ++k) {
        const auto at = ids.find(wanted[k]);
        if (at == ids.end())
          return fail(errc::bad_format, "merge ", i, ": expected pieces of the vocabulary, found \"",
                      wanted[k].substr(0, 64), "\"");
        found[k] = at->second;
      }
      out.add(found[0], found[1], {static_cast<std::uint32_t>(i), found[2]});
    }
    return out;
  }

  /// Room for `count` rules.
  explicit merge_table(std::size_t count = 0) {
    std::size_t slots = 16;
    while (slots < count * 2) slots *= 2;
    slots_.resize(slots);
  }

  /// Adds a rule. The first rule of a pair stays: merge lists are in order of preference.
  void add(token left, token right, merge_rule rule) {
    entry& slot = slots_[place(key(left, right))];
    if (slot.key == empty) slot = {key(left, right), rule};
  }

  /// Calls `visit(token)` for the result of each rule.
  template <class Visit>
  void for_each_result(const Visit& visit) const {
    for (const entry& e : slots_)
      if (e.key != empty) visit(e.rule.id);
  }

  [[nodiscard]] merge_rule find(token left, token right) const noexcept {
    // An id of -1 is a byte without a piece: its key would look like an empty slot, or like another pair.
    if (left < 0 || right < 0) return {};
    return slots_[place(key(left, right))].rule;
  }

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  struct entry {
    std::uint64_t key = empty;
    merge_rule rule;
  };
  static std::uint64_t key(token left, token right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  [[nodiscard]] std::size_t place(std::uint64_t k) const noexcept {
    std::uint64_t h = k * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    std::size_t at = static_cast<std::size_t>(h ^ (h >> 32)) & (slots_.size() - 1);
    while (slots_[at].key != k && slots_[at].key != empty) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  std::vector<entry> slots_;
};

}  // namespace blockattn::inline v0
