// SPDX-License-Identifier: MIT
/// SentencePiece BPE (Llama 2, TinyLlama, Mistral, llama2.c): characters of the text merge by the score of the piece
/// they form; what has no piece is spelled in byte pieces.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "merge.hpp"
#include "utf8.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// The word marker of SentencePiece, U+2581.
inline constexpr std::string_view space_marker = "\xE2\x96\x81";

/// The text a SentencePiece piece stands for: markers are spaces.
[[nodiscard]] inline std::string text_of_piece(std::string_view piece) {
  std::string out;
  for (std::size_t at; (at = piece.find(space_marker)) != std::string_view::npos;
       piece.remove_prefix(at + space_marker.size()))
    out.append(piece.substr(0, at)).push_back(' ');
  return out.append(piece);
}

/// Text to ids by SentencePiece BPE. Const methods are thread-safe.
///
/// Spaces in the text are matched against spaces in the pieces, so a U+2581 in the text is a character like any other
/// and is spelled in bytes: decoding gives it back. (SentencePiece itself would make it a space.)
class spm_encoder {
 public:
  /// `v` is valid (see `validate`) and not kept. Linear in the vocabulary.
  [[nodiscard]] static spm_encoder make(const vocabulary& v) {
    spm_encoder out;
    out.unk_ = v.unk;
    out.bytes_.fill(-1);
    // Priorities are ranks of scores: equal scores must tie, so that the leftmost pair wins.
    std::vector<float> scores(v.scores);
    std::sort(scores.begin(), scores.end(), [](float a, float b) { return a > b; });
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    out.pieces_.reserve(v.pieces.size());
    for (std::size_t i = 0; i < v.pieces.size(); ++i) {
      const auto id = static_cast<token>(i);
      const piece_type type = type_of(v, i);
      if (type == piece_type::byte) {
        token& slot = out.bytes_[static_cast<std::size_t>(byte_of_piece(v.pieces[i]))];
        if (slot < 0) slot = id;
      }
      // Markers and bytes are never the result of a merge: text that spells "</s>" is not the end of a sequence.
      if (type != piece_type::normal && type != piece_type::user_defined) continue;
      std::string text = text_of_piece(v.pieces[i]);
      out.longest_ = std::max(out.longest_, text.size());
      for (std::size_t c = 1; c < text.size(); ++c)
        if (text[c] == ' ' && text[c - 1] != ' ') out.words_end_at_spaces_ = false;
      const auto rank = static_cast<std::uint32_t>(
          std::lower_bound(scores.begin(), scores.end(), v.scores[i], [](float a, float b) { return a > b; }) -
          scores.begin());
      out.pieces_.emplace(std::move(text), merge_rule{rank, id});
    }
    return out;
  }

  /// Whether every byte has a piece, so that decoding gives back any text.
  [[nodiscard]] bool covers_bytes() const noexcept {
    for (const token id : bytes_)
      if (id < 0) return false;
    return true;
  }

  /// Appends the ids of `text`, with a space before it if `prefix`. A character without a piece becomes its byte
  /// pieces; where one of those is missing it becomes the unknown piece, or nothing if there is none.
  void encode(std::string_view text, bool prefix, std::vector<token>& out, merge_scratch& scratch,
              word_memory& memory) const {
    if (prefix) {
      const std::string_view word = first_word(text);
      std::string with_space(1, ' ');
      with_space.append(word);
      encode_word(with_space, out, scratch);
      text.remove_prefix(word.size());
    }
    while (!text.empty()) {
      const std::string_view word = first_word(text);
      memory.append(word, out, [&] { encode_word(word, out, scratch); });
      text.remove_prefix(word.size());
    }
  }

 private:
  // In nearly all vocabularies no piece has a space after something else, so no merge crosses the end of a word and
  // words can be encoded one by one, with the same result as the whole text at once. A word is spaces, then others.
  [[nodiscard]] std::string_view first_word(std::string_view text) const noexcept {
    constexpr std::size_t most = std::size_t{1} << 30;  // offsets are 32 bits wide
    if (!words_end_at_spaces_) return text.substr(0, most);
    std::size_t at = 0;
    while (at < text.size() && text[at] == ' ') ++at;
    at = std::min(text.find(' ', at), text.size());
    return text.substr(0, std::min(at, most));
  }

  void encode_word(std::string_view word, std::vector<token>& out, merge_scratch& scratch) const {
    auto& symbols = scratch.symbols;
    symbols.clear();
    for (std::size_t at = 0; at < word.size();) {
      const utf8_step step = next_utf8(word.substr(at, 4));
      const std::uint32_t size = step.state == utf8_step::kind::valid ? step.bytes : 1;
      symbols.push_back({static_cast<std::uint32_t>(at), size, find(word.substr(at, size)).id});
      at += size;
    }
    merge_all(scratch, [&](const merge_symbol& a, const merge_symbol& b) {
      return find(word.substr(a.begin, std::size_t{a.size} + b.size));
    });
    for (const merge_symbol& s : symbols) {
      if (s.id >= 0)
        out.push_back(s.id);
      else
        spell(word.substr(s.begin, s.size), out);
    }
  }

  void spell(std::string_view character, std::vector<token>& out) const {
    const auto byte = [this](char c) { return bytes_[static_cast<unsigned char>(c)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return byte(c) >= 0; })) {
      for (const char c : character) out.push_back(byte(c));
    } else if (unk_ >= 0) {
      out.push_back(unk_);
    }
  }

  [[nodiscard]] merge_rule find(std::string_view text) const {
    if (text.size() > longest_) return {};
    const auto at = pieces_.find(text);
    return at == pieces_.end() ? merge_rule{} : at->second;
  }

  text_map<merge_rule> pieces_;
  std::array<token, 256> bytes_{};
  std::size_t longest_ = 0;
  bool words_end_at_spaces_ = true;
  token unk_ = -1;
};

}  // namespace blockattn::inline v0
