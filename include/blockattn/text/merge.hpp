// SPDX-License-Identifier: MIT
/// The loop both tokenizers share: merge the best neighbouring pair until none can be merged. What differs, which pairs
/// merge and how good they are, is a function of two symbols.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "../core/config.hpp"

namespace blockattn::inline v0 {

/// A stretch of the text being merged. Byte offsets are within one chunk, which is shorter than 4 GiB.
struct merge_symbol {
  std::uint32_t begin = 0;
  std::uint32_t size = 0;  // bytes; 0 once merged into its left neighbour
  token id = -1;           // -1: text without a piece
};

/// What a pair becomes. Lower `priority` merges first; of equals, the leftmost.
struct merge_rule {
  static constexpr std::uint32_t never = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t priority = never;
  token id = -1;
};

/// Buffers that one `encode` reuses from word to word, and its memory of words already seen.
struct merge_scratch {
  struct pair {
    std::uint64_t order;  // priority, then position: the smallest is next
    std::uint32_t size;   // bytes of both symbols when the pair was found
    token id;
  };
  struct link {
    std::uint32_t previous, next;
  };
  std::vector<merge_symbol> symbols;
  std::vector<merge_rule> rules;
  std::vector<pair> heap;
  std::vector<link> links;
  std::uint64_t steps = 0;  ///< what merging did so far: pairs looked at and moved. Tests hold it against the text's size
};

namespace detail {

// Words: scanning all pairs beats a heap, and the arrays stay in the cache.
template <class Rule>
void merge_short(merge_scratch& scratch, const Rule& rule) {
  auto& symbols = scratch.symbols;
  auto& rules = scratch.rules;
  rules.clear();
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) rules.push_back(rule(symbols[i], symbols[i + 1]));
  scratch.steps += symbols.size();
  for (;;) {
    std::size_t best = 0;
    scratch.steps += rules.size();
    std::uint32_t priority = merge_rule::never;
    for (std::size_t i = 0; i < rules.size(); ++i) {
      if (rules[i].priority < priority) {
        priority = rules[i].priority;
        best = i;
      }
    }
    if (priority == merge_rule::never) return;
    symbols[best].size += symbols[best + 1].size;
    symbols[best].id = rules[best].id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    rules.erase(rules.begin() + static_cast<std::ptrdiff_t>(best));
    if (best < rules.size()) rules[best] = rule(symbols[best], symbols[best + 1]);
    if (best > 0) rules[best - 1] = rule(symbols[best - 1], symbols[best]);
  }
}

// A megabyte without a cut: a heap of pairs over a linked list, O(n log n).
template <class Rule>
void merge_long(merge_scratch& scratch, const Rule& rule) {
  using pair = merge_scratch::pair;
  constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  auto& links = scratch.links;
  const auto n = static_cast<std::uint32_t>(symbols.size());
  links.resize(n);
  for (std::uint32_t i = 0; i < n; ++i) links[i] = {i == 0 ? none : i - 1, i + 1 == n ? none : i + 1};
  const auto later = [](const pair& a, const pair& b) { return a.order > b.order; };
  const auto add = [&](std::uint32_t left) {
    const std::uint32_t right = links[left].next;
    const merge_rule r = rule(symbols[left], symbols[right]);
    ++scratch.steps;
    if (r.priority == merge_rule::never) return false;
    heap.push_back({(std::uint64_t{r.priority} << 32) | left, symbols[left].size + symbols[right].size, r.id});
    return true;
  };
  heap.clear();
  for (std::uint32_t i = 0; i + 1 < n; ++i) add(i);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    ++scratch.steps;
    std::pop_heap(heap.begin(), heap.end(), later);
    const pair top = heap.back();
    heap.pop_back();
    const auto left = static_cast<std::uint32_t>(top.order);
    const std::uint32_t right = links[left].next;
    // The left symbol never moves and pairs only grow, so the joint size tells whether this is still the same pair.
    if (symbols[left].size == 0 || right == none || symbols[left].size + symbols[right].size != top.size) continue;
    symbols[left].size = top.size;
    symbols[left].id = top.id;
    symbols[right].size = 0;
    links[left].next = links[right].next;
    if (links[left].next != none) {
      links[links[left].next].previous = left;
      if (add(left)) std::push_heap(heap.begin(), heap.end(), later);
    }
    if (links[left].previous != none && add(links[left].previous)) std::push_heap(heap.begin(), heap.end(), later);
  }
  symbols.erase(std::remove_if(symbols.begin(), symbols.end(), [](const merge_symbol& s) { return s.size == 0; }),
                symbols.end());
}

}  // namespace detail

/// Merges `scratch.symbols` in place. `rule(left, right)` returns the `merge_rule` of two neighbours. Symbols must not
/// be empty and must lie end to end. O(n log n) calls of `rule`.
template <class Rule>
void merge_all(merge_scratch& scratch, const Rule& rule) {
  if (scratch.symbols.size() <= 48)
    detail::merge_short(scratch, rule);
  else
    detail::merge_long(scratch, rule);
}

/// Words of a text that were already encoded in this call. A word's ids are taken from where they stand in the output,
/// so a slot is the word and two positions; two words of one slot replace each other, which bounds memory and time.
class word_memory {
 public:
  /// For a text of `bytes` bytes: about a slot for every second word, 200 KB at most.
  explicit word_memory(std::size_t bytes) {
    std::size_t slots = 16;
    while (slots < 4096 && slots * 8 < bytes) slots *= 2;
    slots_.resize(slots);
  }

  /// Appends the ids of `word` to `out` if it was seen; otherwise calls `encode()`, which must append them.
  template <class Encode>
  void append(std::string_view word, std::vector<token>& out, const Encode& encode) {
    if (word.size() > longest) return encode();
    entry& slot = slots_[hash(word) & (slots_.size() - 1)];
    if (slot.size == word.size() && std::memcmp(slot.word, word.data(), word.size()) == 0) {
      for (std::size_t i = 0; i < slot.count; ++i) out.push_back(out[slot.begin + i]);
      return;
    }
    const std::size_t begin = out.size();
    encode();
    std::memcpy(slot.word, word.data(), word.size());
    slot.size = static_cast<std::uint32_t>(word.size());
    slot.begin = begin;
    slot.count = static_cast<std::uint32_t>(out.size() - begin);
  }

 private:
  // Longer words rarely come back, and comparing them would cost more than it saves.
  static constexpr std::size_t longest = 32;
  struct entry {
    char word[longest];
    std::size_t begin = 0;
    std::uint32_t size = 0;  // 0: nothing yet; no word is empty
    std::uint32_t count = 0;
  };

  static std::size_t hash(std::string_view word) noexcept {
    std::uint64_t h = word.size();
    std::size_t i = 0;
    for (; i + 8 <= word.size(); i += 8) {
      std::uint64_t part;
      std::memcpy(&part, word.data() + i, 8);
      h = (h ^ part) * 0x9e3779b97f4a7c15u;
      h ^= h >> 29;
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, word.data() + i, word.size() - i);
    h = (h ^ rest) * 0x9e3779b97f4a7c15u;
    return static_cast<std::size_t>(h >> 40);
  }

  std::vector<entry> slots_;
};

}  // namespace blockattn::inline v0
