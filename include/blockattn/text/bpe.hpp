// SPDX-License-Identifier: MIT
/// Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM): a word is its bytes, and pairs merge in the order of the merge list.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "byte_letters.hpp"
#include "merge.hpp"
#include "merge_table.hpp"
#include "pretokenize.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// Text to ids by byte-level BPE. Made once from a checked vocabulary; const methods are thread-safe.
class bpe_encoder {
 public:
  /// Resolves the merges. A merge that names a piece the vocabulary lacks is `bad_format`. `v` is valid (see
  /// `validate`) and not kept.
  [[nodiscard]] static result<bpe_encoder> make(const vocabulary& v) {
    auto words = make_pretokenizer(v);
    if (!words) return std::move(words).error();
    auto merges = merge_table::make(v);
    if (!merges) return std::move(merges).error();
    bpe_encoder out(*std::move(words), *std::move(merges));
    out.unk_ = v.unk;
    out.drop_ = v.has_steps && v.unk < 0;
    const piece_ids ids = ids_of_pieces(v);
    for (std::size_t b = 0; b < 256; ++b) {
      std::string piece;
      append_utf8(piece, byte_alphabet[b]);
      const auto at = ids.find(piece);
      // A marker that happens to be spelled like a byte is still not text.
      if (at != ids.end() && type_of(v, static_cast<std::size_t>(at->second)) != piece_type::control)
        out.bytes_[b] = at->second;
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
  /// `at_start`: nothing comes before `text`. False if a pattern of the file took too many steps: what was left is then
  /// one word.
  bool encode(std::string_view text, bool at_start, std::vector<token>& out, merge_scratch& scratch,
              word_memory& memory) const {
    return words_.split(
        text, [&](std::string_view word) { memory.append(word, out, [&] { encode_word(word, out, scratch); }); },
        at_start);
  }

 private:
  bpe_encoder(pretokenizer words, merge_table merges) : words_(std::move(words)), merges_(std::move(merges)) {
    bytes_.fill(-1);
  }

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
      scratch.symbols.clear();
      for (std::size_t i = 0; i < size; ++i) {
        const token id = bytes_[static_cast<unsigned char>(word[i])];
        if (id >= 0 || !drop_) scratch.symbols.push_back({static_cast<std::uint32_t>(i), 1, id});
      }
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
  // A byte without a piece is gone before merging, as in Hugging Face's library: its neighbours are then neighbours. In
  // llama.cpp, whose files say so by naming a kind, it keeps them apart.
  bool drop_ = false;
};

}  // namespace blockattn::inline v0
