// SPDX-License-Identifier: MIT
/// Trains a byte-level BPE vocabulary from texts (Sennrich, Haddow, Birch 2016; bytes as in GPT-2): the pair of pieces
/// that stands side by side most often becomes a piece, again and again.
///
///     auto learner = bpe_trainer::make({.pieces = 2048}).value();
///     learner.add(text);
///     tokenizer words = tokenizer::from_vocabulary(learner.train()).value();
#pragma once

#include <algorithm>
#include <cstdint>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "pretokenize.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

struct bpe_training_options {
  std::size_t pieces = 2048;            ///< of the vocabulary at most: 256 bytes, two or more markers, then merges
  std::string pre = "gpt-2";            ///< how text is cut first; a name that GGUF files use (pretokenizer_kinds.hpp)
  std::uint64_t least = 2;              ///< a pair that occurs less often is left alone
  std::vector<std::string> markers = {};  ///< further control pieces
  bool add_bos = true;                  ///< whole prompts begin with `<|begin|>`
};

/// Counts words and learns merges. Deterministic: the result depends on the words and their counts alone, never on the
/// order of texts; of pairs that occur equally often, the one of lower ids comes first.
class bpe_trainer {
 public:
  /// Errors: `unsupported` for an unknown `pre`; `invalid_argument` if there is no room for bytes and markers.
  [[nodiscard]] static result<bpe_trainer> make(bpe_training_options options = {}) {
    const std::size_t least = 258 + options.markers.size();
    if (options.pieces < least || options.pieces > max_pieces)
      return fail(errc::invalid_argument, "pieces: expected ", least, " to ", max_pieces, ", found ", options.pieces);
    auto words = pretokenizer::make(options.pre);
    if (!words) return std::move(words).error();
    return bpe_trainer(std::move(options), *std::move(words));
  }

  /// Counts the words of a text, as an encoder would cut it.
  void add(std::string_view text) {
    words_.split(text, [this](std::string_view word) {
      const auto known = counts_.find(word);
      if (known != counts_.end())
        ++known->second;
      else
        counts_.emplace(std::string(word), 1);
    });
  }

  /// The vocabulary: id b is byte b, 256 begins and 257 ends a sequence, then the markers, then what was learned, best
  /// first. About O(m log m) for m pairs in different words, and O(occurrences) for each merge.
  [[nodiscard]] vocabulary train() const;

 private:
  struct entry {
    std::vector<token> pieces;
    std::uint64_t count;
  };
  // A pair with the count that it had when it was queued; it is stale if the count has changed since.
  struct queued {
    std::uint64_t count, pair;
    friend bool operator<(const queued& a, const queued& b) noexcept {
      return a.count != b.count ? a.count < b.count : a.pair > b.pair;
    }
  };
  struct place {
    std::uint64_t count = 0;
    std::vector<std::uint32_t> words;  // where the pair stands, perhaps more than once, perhaps no longer
  };

  bpe_trainer(bpe_training_options options, pretokenizer words) : options_(std::move(options)), words_(std::move(words)) {}

  static std::uint64_t pair_of(token a, token b) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(a)} << 32 | static_cast<std::uint32_t>(b);
  }

  bpe_training_options options_;
  pretokenizer words_;
  text_map<std::uint64_t> counts_;
};

inline vocabulary bpe_trainer::train() const {
  vocabulary v = byte_vocabulary();
  v.pre = options_.pre;
  v.add_bos = options_.add_bos;
  for (const std::string& marker : options_.markers) {
    v.pieces.push_back(marker);
    v.types.push_back(static_cast<std::int32_t>(piece_type::control));
  }

  // In order of the text, not of the table: the table's order is the library's.
  std::vector<std::pair<std::string_view, std::uint64_t>> sorted(counts_.begin(), counts_.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<entry> words;
  words.reserve(sorted.size());
  std::unordered_map<std::uint64_t, place> pairs;
  for (const auto& [text, count] : sorted) {
    entry word{{}, count};
    for (const char c : text) word.pieces.push_back(static_cast<token>(static_cast<unsigned char>(c)));
    for (std::size_t i = 1; i < word.pieces.size(); ++i) {
      place& p = pairs[pair_of(word.pieces[i - 1], word.pieces[i])];
      p.count += count;
      p.words.push_back(static_cast<std::uint32_t>(words.size()));
    }
    words.push_back(std::move(word));
  }
  std::priority_queue<queued> best;
  for (const auto& [pair, p] : pairs) best.push({p.count, pair});

  std::vector<std::uint64_t> changed;
  while (v.pieces.size() < options_.pieces && !best.empty()) {
    const queued top = best.top();
    best.pop();
    const auto found = pairs.find(top.pair);
    if (found == pairs.end() || found->second.count != top.count) continue;
    if (top.count < options_.least || top.count == 0) break;
    const auto left = static_cast<token>(top.pair >> 32), right = static_cast<token>(top.pair & 0xFFFFFFFFu);
    const auto joined = static_cast<token>(v.pieces.size());
    const std::string& a = v.pieces[static_cast<std::size_t>(left)];
    const std::string& b = v.pieces[static_cast<std::size_t>(right)];
    v.merges.push_back(a + " " + b);
    v.pieces.push_back(a + b);
    v.types.push_back(static_cast<std::int32_t>(piece_type::normal));

    std::vector<std::uint32_t> where = std::move(found->second.words);
    pairs.erase(found);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    changed.clear();
    for (const std::uint32_t number : where) {
      entry& word = words[number];
      const auto count_all = [&](bool add) {
        for (std::size_t i = 1; i < word.pieces.size(); ++i) {
          const std::uint64_t pair = pair_of(word.pieces[i - 1], word.pieces[i]);
          if (pair == top.pair) continue;
          place& p = pairs[pair];
          p.count = add ? p.count + word.count : p.count - word.count;
          if (add) p.words.push_back(number);
          changed.push_back(pair);
        }
      };
      count_all(false);
      std::size_t to = 0;
      for (std::size_t from = 0; from < word.pieces.size(); ++to) {
        const bool here = from + 1 < word.pieces.size() && word.pieces[from] == left && word.pieces[from + 1] == right;
        word.pieces[to] = here ? joined : word.pieces[from];
        from += here ? 2 : 1;
      }
      word.pieces.resize(to);
      count_all(true);
    }
    std::sort(changed.begin(), changed.end());
    changed.erase(std::unique(changed.begin(), changed.end()), changed.end());
    for (const std::uint64_t pair : changed)
      if (const std::uint64_t count = pairs[pair].count; count != 0) best.push({count, pair});
  }
  return v;
}

}  // namespace blockattn::inline v0
