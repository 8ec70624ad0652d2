// SPDX-License-Identifier: MIT
/// BPE over characters with merge ranks: how a `tokenizer.json` writes the SentencePiece vocabularies of Llama 2,
/// TinyLlama and Mistral. What has no piece is spelled in byte pieces.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "merge.hpp"
#include "merge_table.hpp"
#include "pretokenize.hpp"
#include "spm.hpp"
#include "utf8.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

/// Text to ids by BPE over characters. Made once from a checked vocabulary; const methods are thread-safe.
class char_bpe_encoder {
 public:
  /// `v` is valid (see `validate`), of kind `char_bpe`, has steps, and is not kept. Errors as for `bpe_encoder::make`.
  [[nodiscard]] static result<char_bpe_encoder> make(const vocabulary& v) {
    auto words = make_pretokenizer(v);
    if (!words) return std::move(words).error();
    auto merges = merge_table::make(v);
    if (!merges) return std::move(merges).error();
    char_bpe_encoder out(*std::move(words), *std::move(merges));
    out.unk_ = v.unk;
    out.fuse_ = v.fuse_unknown;
    for (std::size_t i = 0; i < v.pieces.size(); ++i) {
      const std::string_view piece = v.pieces[i];
      const piece_type type = type_of(v, i);
      const auto id = static_cast<token>(i);
      if (type == piece_type::byte) {
        token& slot = out.bytes_[static_cast<std::size_t>(byte_of_piece(piece))];
        if (slot < 0) slot = id;
      }
      if (type != piece_type::normal) continue;
      if (!piece.empty()) {
        const utf8_step step = next_utf8(piece);
        if (step.state == utf8_step::kind::valid && step.bytes == piece.size()) out.characters_.emplace(step.code, id);
      }
      if (out.words_.whole_words()) out.whole_.emplace(piece, id);
    }
    for (const auto& [code, id] : out.characters_)
      if (code < 0x80) out.ascii_[code] = id;
    out.merges_.for_each_result([&](token id) {
      const std::string_view piece = v.pieces[static_cast<std::size_t>(id)];
      for (std::size_t at = 0; (at = piece.find(space_marker, at)) != std::string_view::npos; at += space_marker.size())
        if (at != 0 && !ends_with_marker(piece.substr(0, at))) out.words_end_at_markers_ = false;
    });
    // Unknown pieces that are fused may cross such a place too; where every byte has a piece there are none.
    if (out.fuse_ && !out.covers_bytes()) out.words_end_at_markers_ = false;
    return out;
  }

  [[nodiscard]] const pretokenizer& words() const noexcept { return words_; }

  /// Whether every byte has a piece.
  [[nodiscard]] bool covers_bytes() const noexcept {
    return std::all_of(bytes_.begin(), bytes_.end(), [](token id) { return id >= 0; });
  }

  /// Appends the ids of `text`. A character without a piece becomes its byte pieces; where one of those is missing it
  /// becomes the unknown piece, or nothing if there is none. `at_start` and the result as for `bpe_encoder::encode`.
  bool encode(std::string_view text, bool at_start, std::vector<token>& out, merge_scratch& scratch,
              word_memory& memory) const {
    return words_.split(
        text,
        [&](std::string_view word) {
          if (words_.whole_words())
            if (const auto at = whole_.find(word); at != whole_.end()) return out.push_back(at->second);
          while (!word.empty()) {
            const std::string_view part = first_part(word);
            memory.append(part, out, [&] { encode_part(part, out, scratch); });
            word.remove_prefix(part.size());
          }
        },
        at_start);
  }

 private:
  char_bpe_encoder(pretokenizer words, merge_table merges) : words_(std::move(words)), merges_(std::move(merges)) {
    bytes_.fill(-1);
    ascii_.fill(-1);
  }

  static bool ends_with_marker(std::string_view text) noexcept {
    return text.size() >= space_marker.size() && text.substr(text.size() - space_marker.size()) == space_marker;
  }

  // Without a pre-tokenizer a whole text is one word. But where no merge makes a piece that has a marker after
  // something else, no merge crosses such a place, and the parts between can be encoded one by one with the same
  // result.
  [[nodiscard]] std::string_view first_part(std::string_view word) const noexcept {
    constexpr std::size_t most = std::size_t{1} << 30;  // offsets are 32 bits wide
    if (!words_end_at_markers_) return word.substr(0, most);
    std::size_t at = 0;
    while (word.substr(at, space_marker.size()) == space_marker) at += space_marker.size();
    at = std::min(word.find(space_marker, at), word.size());
    return word.substr(0, std::min(at, most));
  }

  void encode_part(std::string_view word, std::vector<token>& out, merge_scratch& scratch) const {
    auto& symbols = scratch.symbols;
    symbols.clear();
    bool unknown_before = false;
    for (std::size_t at = 0; at < word.size();) {
      const utf8_step step = next_utf8(word.substr(at, 4));
      const bool valid = step.state == utf8_step::kind::valid;
      const std::uint32_t size = valid ? step.bytes : 1;
      const auto begin = static_cast<std::uint32_t>(at);
      const std::string_view character = word.substr(at, size);
      at += size;
      token id = valid ? find(step.code) : -1;
      const bool unknown = id < 0;
      if (unknown && spelled(character)) {
        for (std::uint32_t i = 0; i < size; ++i) symbols.push_back({begin + i, 1, byte(character[i])});
        unknown_before = false;
        continue;
      }
      if (unknown && unk_ < 0) continue;  // gone before merging: its neighbours are now neighbours
      if (unknown && fuse_ && unknown_before) {
        symbols.back().size += size;
        continue;
      }
      unknown_before = unknown;
      symbols.push_back({begin, size, unknown ? unk_ : id});
    }
    merge_all(scratch, [this](const merge_symbol& a, const merge_symbol& b) { return merges_.find(a.id, b.id); });
    for (const merge_symbol& s : symbols)
      if (s.id >= 0) out.push_back(s.id);
  }

  [[nodiscard]] token byte(char c) const noexcept { return bytes_[static_cast<unsigned char>(c)]; }
  [[nodiscard]] bool spelled(std::string_view character) const noexcept {
    return std::all_of(character.begin(), character.end(), [this](char c) { return byte(c) >= 0; });
  }
  [[nodiscard]] token find(char32_t code) const noexcept {
    if (code < 0x80) return ascii_[code];
    const auto at = characters_.find(code);
    return at == characters_.end() ? token{-1} : at->second;
  }

  pretokenizer words_;
  merge_table merges_;
  std::unordered_map<char32_t, token> characters_;
  std::array<token, 128> ascii_{};
  std::array<token, 256> bytes_{};
  text_map<token> whole_;
  token unk_ = -1;
  bool fuse_ = false;
  bool words_end_at_markers_ = true;
};

}  // namespace blockattn::inline v0
