// SPDX-License-Identifier: MIT
/// Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM): a word is its bytes, and pairs merge in the order of the merge list.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "merge.hpp"
#include "pretokenize.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// The merge rules by pair of ids: a flat table with linear probing, filled once. Word-sized keys keep the inner loop
/// of encoding free of strings.
class merge_table {
 public:
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

/// Text to ids by byte-level BPE. Made once from a checked vocabulary; const methods are thread-safe.
class bpe_encoder {
 public:
  /// Resolves the merges. A merge that names a piece the vocabulary lacks is `bad_format`. `v` is valid (see
  /// `validate`) and not kept.
  [[nodiscard]] static result<bpe_encoder> make(const vocabulary& v) {
    auto words = pretokenizer::make(v.pre);
    if (!words) return std::move(words).error();
    if (v.merges.size() >= merge_rule::never)
      return fail(errc::bad_format, "vocabulary: expected fewer than 2^32 merges, found ", v.merges.size());
    bpe_encoder out(*std::move(words), v.merges.size());
    out.unk_ = v.unk;

    std::unordered_map<std::string_view, token> ids;
    ids.reserve(v.pieces.size());
    for (std::size_t i = 0; i < v.pieces.size(); ++i) ids.emplace(v.pieces[i], static_cast<token>(i));
    const auto id_of = [&ids](std::string_view piece) {
      const auto at = ids.find(piece);
      return at == ids.end() ? token{-1} : at->second;
    };
    for (std::size_t b = 0; b < 256; ++b) {
      std::string piece;
      append_utf8(piece, byte_alphabet[b]);
      out.bytes_[b] = id_of(piece);
      // A marker that happens to be spelled like a byte is still not text.
      if (out.bytes_[b] >= 0 && type_of(v, static_cast<std::size_t>(out.bytes_[b])) == piece_type::control)
        out.bytes_[b] = -1;
    }
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
      for (const std::string_view piece : {left, right, std::string_view(joined)})
        if (id_of(piece) < 0)
          return fail(errc::bad_format, "merge ", i, ": expected pieces of the vocabulary, found \"",
                      piece.substr(0, 64), "\"");
      out.merges_.add(id_of(left), id_of(right), {static_cast<std::uint32_t>(i), id_of(joined)});
    }
    if (out.words_.whole_words())
      for (std::size_t i = 0; i < v.pieces.size(); ++i)
        if (type_of(v, i) == piece_type::normal) out.whole_.emplace(bytes_of_piece(v.pieces[i]), static_cast<token>(i));
    return out;
  }

  [[nodiscard]] const pretokenizer& words() const noexcept { return words_; }

  /// Whether every byte has a piece, so that decoding gives back any text.
  [[nodiscard]] bool covers_bytes() const noexcept {
    for (const token id : bytes_)
      if (id < 0) return false;
    return true;
  }

  /// Appends the ids of `text`. A byte without a piece becomes the unknown piece, or nothing if there is none.
  void encode(std::string_view text, std::vector<token>& out, merge_scratch& scratch, word_memory& memory) const {
    words_.split(text,
                 [&](std::string_view word) { memory.append(word, out, [&] { encode_word(word, out, scratch); }); });
  }

 private:
  bpe_encoder(pretokenizer words, std::size_t merges) : words_(std::move(words)), merges_(merges) { bytes_.fill(-1); }

  void encode_word(std::string_view word, std::vector<token>& out, merge_scratch& scratch) const {
    if (words_.whole_words()) {
      const auto at = whole_.find(word);
      if (at != whole_.end()) {
        out.push_back(at->second);
        return;
      }
    }
    constexpr std::size_t most = std::size_t{1} << 30;  // offsets are 32 bits wide
    for (; !word.empty(); word.remove_prefix(word.size() < most ? word.size() : most)) {
      const std::size_t size = word.size() < most ? word.size() : most;
      scratch.symbols.resize(size);
      for (std::size_t i = 0; i < size; ++i)
        scratch.symbols[i] = {static_cast<std::uint32_t>(i), 1, bytes_[static_cast<unsigned char>(word[i])]};
      merge_all(scratch, [this](const merge_symbol& a, const merge_symbol& b) { return merges_.find(a.id, b.id); });
      for (const merge_symbol& s : scratch.symbols) {
        const token id = s.id >= 0 ? s.id : unk_;
        if (id >= 0) out.push_back(id);
      }
    }
  }

  pretokenizer words_;
  merge_table merges_;
  std::array<token, 256> bytes_{};
  text_map<token> whole_;
  token unk_ = -1;
};

}  // namespace blockattn::inline v0
