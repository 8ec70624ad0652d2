// SPDX-License-Identifier: MIT
/// Text to token ids and back. One class for both families of vocabularies; made from data, whatever file it came from.
///
///     const auto words = make_tokenizer(gguf).value();
///     std::vector<token> ids = words.encode("Once upon a time", {.bos = words.add_bos()});
///     std::string text = words.decode(ids);
#pragma once

#include <algorithm>
#include <concepts>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "bpe.hpp"
#include "special_tokens.hpp"
#include "spm.hpp"
#include "vocab.hpp"

namespace blockattn::inline v0 {

struct encode_options {
  bool bos = false;      ///< begin with the begin token, if the vocabulary has one
  bool special = false;  ///< text that spells a control piece is that token; leave it off for text from strangers
};

struct decode_options {
  bool continues = false;  ///< the ids go on after others: keep the space that begins the first word
  bool special = false;    ///< show control and unknown pieces by name
};

/// A vocabulary ready for use. A value: copies share one immutable state, and all methods are const and thread-safe.
///
/// `decode(encode(text)) == text` for any bytes, if `lossless()`. A moved-from tokenizer may only be assigned or
/// destroyed.
class tokenizer {
 public:
  /// Checks everything in `v`: sizes, ids, types, scores, merges, the kind of pre-tokenizer.
  [[nodiscard]] static result<tokenizer> from_vocabulary(vocabulary v) {
    if (auto valid = validate(v); !valid) return std::move(valid).error();
    auto s = std::make_shared<state>();
    if (v.model == vocabulary::kind::bpe) {
      auto encoder = bpe_encoder::make(v);
      if (!encoder) return std::move(encoder).error();
      s->bpe.emplace(*std::move(encoder));
    } else {
      s->spm.emplace(spm_encoder::make(v));
    }
    const std::size_t n = v.pieces.size();
    s->texts.reserve(n);
    s->ids.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      const piece_type type = type_of(v, i);
      const bool named = type == piece_type::control || type == piece_type::unknown;
      s->ids.emplace(v.pieces[i], static_cast<token>(i));
      if (named)
        s->texts.push_back(v.pieces[i]);
      else if (s->bpe)
        s->texts.push_back(type == piece_type::user_defined ? v.pieces[i] : bytes_of_piece(v.pieces[i]));
      else if (type == piece_type::byte)
        s->texts.emplace_back(1, static_cast<char>(byte_of_piece(v.pieces[i])));
      else
        s->texts.push_back(text_of_piece(v.pieces[i]));
      if (named || type == piece_type::user_defined) s->specials.add(s->texts.back(), static_cast<token>(i), named);
    }
    s->specials.sort();
    if (v.eos >= 0) v.stops.push_back(v.eos);
    std::sort(v.stops.begin(), v.stops.end());
    // Encoding is done with these; a large list of strings need not stay in memory.
    v.merges = {};
    v.scores = {};
    s->v = std::move(v);
    return tokenizer(std::move(s));
  }

  /// The ids of `text`. Linear up to a logarithm, for any input.
  [[nodiscard]] std::vector<token> encode(std::string_view text, encode_options options = {}) const {
    std::vector<token> out;
    out.reserve(text.size() / 4 + 2);
    if (options.bos && bos() >= 0) out.push_back(bos());
    merge_scratch scratch;
    word_memory memory(text.size());
    const bool prefixes = state_->spm && state_->v.add_space_prefix;
    bool prefix = prefixes;
    for (std::size_t at = 0; at < text.size();) {
      const special_tokens::hit special = state_->specials.next(text, at, options.special);
      const std::string_view plain = text.substr(at, special.begin - at);
      if (!plain.empty()) {
        if (state_->bpe)
          state_->bpe->encode(plain, out, scratch, memory);
        else
          state_->spm->encode(plain, prefix, out, scratch, memory);
        prefix = false;
      }
      if (special.size == 0) break;
      out.push_back(special.id);
      // A control token begins a new stretch of text; a user-defined piece is a word within one.
      prefix = prefixes && special.control;
      at = special.begin + special.size;
    }
    return out;
  }

  /// Each text on its own, as blocks are: the ids of one never depend on another.
  template <class Text>
    requires std::convertible_to<const Text&, std::string_view>
  [[nodiscard]] std::vector<std::vector<token>> encode_each(std::span<const Text> texts,
                                                            encode_options options = {}) const {
    std::vector<std::vector<token>> out;
    out.reserve(texts.size());
    for (const Text& text : texts) out.push_back(encode(std::string_view(text), options));
    return out;
  }
  [[nodiscard]] std::vector<std::vector<token>> encode_each(const std::vector<std::string>& texts,
                                                            encode_options options = {}) const {
    return encode_each(std::span<const std::string>(texts), options);
  }

  /// The text of one token as it stands within a text: bytes, perhaps a part of a character. Control and unknown
  /// pieces, and ids the vocabulary lacks, have none.
  [[nodiscard]] std::string decode(token id) const { return std::string(visible(id, false)); }

  /// The text of a sequence. The space that `encode` puts before the first word is taken away again, at the start and
  /// after a begin token. The result is bytes; see `detokenizer` for text that must always be valid UTF-8.
  [[nodiscard]] std::string decode(std::span<const token> ids, decode_options options = {}) const {
    std::string out;
    bool strip = strips_at_start(options);
    for (const token id : ids) out.append(next_text(id, options, strip));
    return out;
  }

  /// One step of `decode`: the text of `id` given what came before, which `strip` remembers. It starts as
  /// `strips_at_start`. The view lives as long as the tokenizer.
  [[nodiscard]] std::string_view next_text(token id, decode_options options, bool& strip) const noexcept {
    std::string_view text = visible(id, options.special);
    if (id >= 0 && id == bos()) strip = strips_at_start({});
    if (is_named(id) || text.empty()) return text;
    if (strip && type(id) != piece_type::user_defined && text.front() == ' ') text.remove_prefix(1);
    strip = false;
    return text;
  }
  [[nodiscard]] bool strips_at_start(decode_options options) const noexcept {
    return state_->spm && state_->v.add_space_prefix && !options.continues;
  }

  /// The piece as the vocabulary spells it; empty for an id it lacks.
  [[nodiscard]] std::string_view piece(token id) const noexcept {
    return contains(id) ? std::string_view(state_->v.pieces[static_cast<std::size_t>(id)]) : std::string_view();
  }
  /// The lowest id of a piece, as the vocabulary spells it.
  [[nodiscard]] std::optional<token> find(std::string_view piece) const {
    const auto at = state_->ids.find(piece);
    return at == state_->ids.end() ? std::optional<token>() : std::optional<token>(at->second);
  }

  [[nodiscard]] std::size_t size() const noexcept { return state_->v.pieces.size(); }
  [[nodiscard]] bool contains(token id) const noexcept { return id >= 0 && static_cast<std::size_t>(id) < size(); }
  /// -1 where the vocabulary has none.
  [[nodiscard]] token bos() const noexcept { return state_->v.bos; }
  [[nodiscard]] token eos() const noexcept { return state_->v.eos; }
  [[nodiscard]] token unk() const noexcept { return state_->v.unk; }
  /// Whether the model expects whole prompts to begin with `bos`, and to end with `eos`.
  [[nodiscard]] bool add_bos() const noexcept { return state_->v.add_bos && bos() >= 0; }
  [[nodiscard]] bool add_eos() const noexcept { return state_->v.add_eos && eos() >= 0; }
  /// Whether a generation ends with this token.
  [[nodiscard]] bool is_stop(token id) const noexcept {
    return std::binary_search(state_->v.stops.begin(), state_->v.stops.end(), id) && id >= 0;
  }
  /// The ids that end a generation, ascending.
  [[nodiscard]] std::span<const token> stops() const noexcept { return state_->v.stops; }
  /// Whether every byte has a piece. Without that, text outside the vocabulary becomes the unknown token, or is lost if
  /// there is none: Falcon and SmolLM lack pieces for some control characters and for bytes that UTF-8 never uses.
  [[nodiscard]] bool lossless() const noexcept {
    return state_->bpe ? state_->bpe->covers_bytes() : state_->spm->covers_bytes();
  }
  [[nodiscard]] vocabulary::kind model() const noexcept { return state_->v.model; }
  /// The type of a piece; `unused` for an id the vocabulary lacks.
  [[nodiscard]] piece_type type(token id) const noexcept {
    return contains(id) ? type_of(state_->v, static_cast<std::size_t>(id)) : piece_type::unused;
  }

 private:
  struct state {
    vocabulary v;  // without scores and merges
    std::optional<bpe_encoder> bpe;
    std::optional<spm_encoder> spm;
    special_tokens specials;
    std::vector<std::string> texts;  // what each piece stands for, by id
    text_map<token> ids;
  };
  explicit tokenizer(std::shared_ptr<const state> s) noexcept : state_(std::move(s)) {}

  [[nodiscard]] bool is_named(token id) const noexcept {
    const piece_type t = type(id);
    return t == piece_type::control || t == piece_type::unknown;
  }
  [[nodiscard]] std::string_view visible(token id, bool special) const noexcept {
    if (!contains(id) || (is_named(id) && !special)) return {};
    return state_->texts[static_cast<std::size_t>(id)];
  }

  std::shared_ptr<const state> state_;
};

}  // namespace blockattn::inline v0
