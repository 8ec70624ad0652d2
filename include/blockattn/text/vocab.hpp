// SPDX-License-Identifier: MIT
/// A vocabulary as data: what readers fill and what a tokenizer is made from. It comes from a file, so `validate`
/// checks every number before anything uses one as an index.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../core/result.hpp"
#include "byte_letters.hpp"
#include "steps.hpp"

namespace blockattn::inline v0 {

/// What a piece is for. The numbers are those of SentencePiece and of GGUF's `tokenizer.ggml.token_type`.
enum class piece_type : std::int32_t {
  normal = 1,
  unknown = 2,       ///< stands for text that has no piece
  control = 3,       ///< begins, ends or structures a sequence; not text
  user_defined = 4,  ///< always one token wherever its text appears
  unused = 5,
  byte = 6  ///< `<0xNN>`: one byte, for text that has no piece (SentencePiece only)
};

/// A hash table by text that is searched with views, so that a lookup builds no string.
struct text_hash {
  using is_transparent = void;
  [[nodiscard]] std::size_t operator()(std::string_view text) const noexcept {
    return std::hash<std::string_view>{}(text);
  }
};
template <class T>
using text_map = std::unordered_map<std::string, T, text_hash, std::equal_to<>>;

/// Two pieces that merge into a third. The lowest rank merges first; of equal ranks, the leftmost pair.
struct merge_pair {
  token left = -1, right = -1, joined = -1;
  std::uint32_t rank = 0;
};

/// Pieces and rules, as a file gives them.
struct vocabulary {
  enum class kind {
    spm,      ///< SentencePiece BPE: merges by score, `▁` or a space marks a word's start, `<0xNN>` are bytes
    bpe,      ///< byte-level BPE: merges by rank, pieces spelled in GPT-2's printable byte alphabet
    char_bpe  ///< BPE over characters: merges by rank; `<0xNN>` are bytes (`tokenizer.json` of Llama 2 and Mistral)
  };

  kind model = kind::spm;
  std::vector<std::string> pieces;  ///< by id; any bytes, NUL included
  std::vector<float> scores;        ///< spm: one for each piece
  std::vector<std::string> merges;  ///< bpe kinds: "left right", best first
  std::vector<merge_pair> pairs;    ///< bpe kinds, in place of `merges`: the same by id
  std::vector<std::int32_t> types;  ///< values of `piece_type`; empty: all normal
  token bos = -1;                   ///< -1: there is none
  token eos = -1;
  token unk = -1;
  bool add_bos = false;           ///< whole prompts begin with `bos`
  bool add_eos = false;           ///< whole prompts end with `eos`
  bool add_space_prefix = false;  ///< spm: a text is encoded as if a space came before it
  std::string pre = "default";    ///< bpe: how text is cut before merging (see pretokenize.hpp)
  std::vector<token> stops;       ///< further ids that end a generation

  // What a tokenizer.json adds. `has_steps`: `splits` says how text is cut, in place of `pre`.
  bool has_steps = false;
  std::vector<normalize_step> normalizers;
  std::vector<split_step> splits;
  std::vector<added_token> added;   ///< control and user-defined pieces that are found in a special way
  bool whole_words = false;         ///< a word that is itself a piece becomes that piece, whatever the merges say
  bool fuse_unknown = false;        ///< char_bpe: neighbouring characters without a piece are one unknown piece
  std::vector<std::string> texts;   ///< what each piece stands for; empty: what the model's kind says
  bool strip_first_space = false;   ///< decoding takes one space away at the start of a text
};

/// Whether a control or user-defined piece of this name ends a turn. Chat models end one with such a piece, and few files
/// say so.
[[nodiscard]] constexpr bool ends_turn(std::string_view piece) noexcept {
  for (const std::string_view name : {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>",
                                      "<|end_of_text|>", "<end_of_turn>", "<EOT>"})
    if (piece == name) return true;
  return false;
}

/// Pieces a vocabulary may have: more than any real one, and few enough that an id fits every table.
inline constexpr std::size_t max_pieces = std::size_t{1} << 24;

/// The type of a piece. `id` must be in range.
[[nodiscard]] inline piece_type type_of(const vocabulary& v, std::size_t id) noexcept {
  return v.types.empty() ? piece_type::normal : static_cast<piece_type>(v.types[id]);
}

/// The byte a piece of the form `<0xNN>` stands for, or -1.
[[nodiscard]] constexpr int byte_of_piece(std::string_view piece) noexcept {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  const int high = digit(piece[3]), low = digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/// Checks sizes, ids, types, scores and the presence of text. Errors name the piece. What merges refer to is checked
/// by name is checked where it is resolved (`tokenizer::from_vocabulary`). Linear.
[[nodiscard]] inline result<void> validate(const vocabulary& v) {
  const std::size_t n = v.pieces.size();
  if (n == 0 || n > max_pieces)
    return fail(errc::bad_format, "vocabulary: expected 1 to ", max_pieces, " pieces, found ", n);
  if (!v.types.empty() && v.types.size() != n)
    return fail(errc::bad_format, "vocabulary: expected one type for each of ", n, " pieces, found ", v.types.size());
  const bool spm = v.model == vocabulary::kind::spm;
  if (v.scores.size() != n && (spm || !v.scores.empty()))
    return fail(errc::bad_format, "vocabulary: expected one score for each of ", n, " pieces, found ", v.scores.size());
  const auto check_id = [n](const char* name, token id) -> result<void> {
    if (id >= -1 && (id < 0 || static_cast<std::size_t>(id) < n)) return {};
    return fail(errc::bad_format, "vocabulary: ", name, " id must be -1 or below ", n, ", found ", id);
  };
  if (auto r = check_id("bos", v.bos); !r) return r;
  if (auto r = check_id("eos", v.eos); !r) return r;
  if (auto r = check_id("unknown", v.unk); !r) return r;
  for (const token stop : v.stops)
    if (auto r = check_id("stop", stop); !r) return r;
  for (const added_token& a : v.added)
    if (auto r = check_id("added token's", a.id); !r) return r;
  for (const merge_pair& m : v.pairs)
    for (const token id : {m.left, m.right, m.joined})
      if (auto r = check_id("merged", id); !r || id < 0)
        return r ? fail(errc::bad_format, "vocabulary: merged id must not be negative, found ", id) : r;
  if (!v.texts.empty() && v.texts.size() != n)
    return fail(errc::bad_format, "vocabulary: expected one text for each of ", n, " pieces, found ", v.texts.size());
  for (std::size_t i = 0; i < n; ++i) {
    if (!v.types.empty() && (v.types[i] < 1 || v.types[i] > 6))
      return fail(errc::bad_format, "vocabulary: type of piece ", i, ": expected 1 to 6, found ", v.types[i]);
    const piece_type type = type_of(v, i);
    // A merge could never produce an empty piece, and a search for one would never advance.
    if (v.pieces[i].empty() && type != piece_type::unused && type != piece_type::unknown)
      return fail(errc::bad_format, "vocabulary: piece ", i, ": expected text, found an empty string");
    if (v.model != vocabulary::kind::bpe && type == piece_type::byte && byte_of_piece(v.pieces[i]) < 0)
      return fail(errc::bad_format, "vocabulary: byte piece ", i, ": expected <0xNN>, found ",
                  v.pieces[i].substr(0, 32));
    if (spm && std::isnan(v.scores[i]))
      return fail(errc::bad_format, "vocabulary: score of piece ", i, ": expected a number, found NaN");
  }
  return {};
}

/// A byte tokenizer for models without one: id b is byte b, 256 begins a sequence, 257 ends it; further ids up to
/// `size` are unused. `size` below 258 is taken as 258.
[[nodiscard]] inline vocabulary byte_vocabulary(std::size_t size = 258) {
  vocabulary v;
  v.model = vocabulary::kind::bpe;
  v.pre = "gpt-2";
  for (std::size_t b = 0; b < 256; ++b) append_utf8(v.pieces.emplace_back(), byte_alphabet[b]);
  v.types.assign(256, static_cast<std::int32_t>(piece_type::normal));
  for (const char* name : {"<|begin|>", "<|end|>"}) {
    v.pieces.emplace_back(name);
    v.types.push_back(static_cast<std::int32_t>(piece_type::control));
  }
  for (std::size_t i = 258; i < size; ++i) {
    v.pieces.push_back("<|unused_" + std::to_string(i) + "|>");
    v.types.push_back(static_cast<std::int32_t>(piece_type::unused));
  }
  v.bos = 256;
  v.eos = 257;
  return v;
}

}  // namespace blockattn::inline v0
