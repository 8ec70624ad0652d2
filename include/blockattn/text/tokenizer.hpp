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
#include "char_bpe.hpp"
#include "normalize.hpp"
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
  /// Checks everything in `v`: sizes, ids, types, scores, merges, the kind of pre-tokenizer, the steps.
  [[nodiscard]] static result<tokenizer> from_vocabulary(vocabulary v) {
    if (auto valid = validate(v); !valid) return std::move(valid).error();
    auto s = std::make_shared<state>();
    if (auto made = s->make_encoder(v); !made) return std::move(made).error();
    auto steps = normalizer::make(v.normalizers);
    if (!steps) return std::move(steps).error();
    s->normal = *std::move(steps);
    s->name_pieces(v);
    s->strips = v.model == vocabulary::kind::spm ? v.add_space_prefix : v.strip_first_space;
    if (v.eos >= 0) v.stops.push_back(v.eos);
    std::sort(v.stops.begin(), v.stops.end());
    v.stops.erase(std::unique(v.stops.begin(), v.stops.end()), v.stops.end());
    // Encoding is done with these; large lists need not stay in memory.
    v.merges = {};
    v.pairs = {};
    v.scores = {};
    v.splits = {};
    s->v = std::move(v);
    return tokenizer(std::move(s));
  }

  /// The ids of `text`. Linear up to a logarithm, for any input, with the patterns of every known tokenizer. A pattern
  /// from a file may be worse; should it take too many steps, the rest of the stretch is one word (see `try_encode`).
  [[nodiscard]] std::vector<token> encode(std::string_view text, encode_options options = {}) const {
    bool complete = true;
    return encode(text, options, complete);
  }

  /// The same, but a text on which a pattern from a file takes too many steps is `unsupported`.
  [[nodiscard]] result<std::vector<token>> try_encode(std::string_view text, encode_options options = {}) const {
    bool complete = true;
    auto out = encode(text, options, complete);
    if (complete) return out;
    return fail(errc::unsupported, "tokenizer: expected patterns that are linear in a text of ", text.size(),
                " bytes, found one that takes too many steps");
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
    return state_->strips && !options.continues;
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
  /// A `tokenizer.json` may also change a text before it is cut (Unicode normal forms, spaces), or drop parts of it.
  [[nodiscard]] bool lossless() const noexcept { return state_->lossless(); }
  [[nodiscard]] vocabulary::kind model() const noexcept { return state_->v.model; }
  /// The type of a piece; `unused` for an id the vocabulary lacks.
  [[nodiscard]] piece_type type(token id) const noexcept {
    return contains(id) ? type_of(state_->v, static_cast<std::size_t>(id)) : piece_type::unused;
  }

 private:
  struct state {
    vocabulary v;  // without what only encoders need
    std::optional<bpe_encoder> bpe;
    std::optional<char_bpe_encoder> characters;
    std::optional<spm_encoder> spm;
    normalizer normal;
    special_tokens specials;         // searched in the text as it is
    special_tokens normal_specials;  // searched in the normalized text
    std::vector<std::string> texts;  // what each piece stands for, by id
    text_map<token> ids;
    bool strips = false;
    bool takes_spaces = false;  // a piece that is text takes whitespace along

    [[nodiscard]] result<void> make_encoder(const vocabulary& from) {
      if (from.model == vocabulary::kind::bpe) {
        auto encoder = bpe_encoder::make(from);
        if (!encoder) return std::move(encoder).error();
        bpe.emplace(*std::move(encoder));
      } else if (from.model == vocabulary::kind::char_bpe) {
        auto encoder = char_bpe_encoder::make(from);
        if (!encoder) return std::move(encoder).error();
        characters.emplace(*std::move(encoder));
      } else {
        spm.emplace(spm_encoder::make(from));
      }
      return {};
    }

    void name_pieces(vocabulary& from) {
      const std::size_t n = from.pieces.size();
      const bool given = !from.texts.empty();
      if (given) texts = std::move(from.texts);
      texts.reserve(n);
      ids.reserve(n);
      std::vector<added_token> how = std::move(from.added);
      std::stable_sort(how.begin(), how.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
      auto next = how.begin();
      for (std::size_t i = 0; i < n; ++i) {
        const piece_type type = type_of(from, i);
        const auto id = static_cast<token>(i);
        const bool named = type == piece_type::control || type == piece_type::unknown;
        ids.emplace(from.pieces[i], id);
        if (!given) texts.push_back(text_of(from, type, i));
        while (next != how.end() && next->id < id) ++next;
        const added_token flags = next != how.end() && next->id == id ? *next : added_token{};
        if (!named && type != piece_type::user_defined) continue;
        takes_spaces = takes_spaces || (!named && (flags.lstrip || flags.rstrip));
        bool complete = true;
        if (flags.normalized && !normal.empty())
          normal_specials.add(normal.apply(from.pieces[i], complete), id, named, flags);
        else
          specials.add(from.pieces[i], id, named, flags);
      }
      specials.sort();
      normal_specials.sort();
    }

    [[nodiscard]] static std::string text_of(const vocabulary& from, piece_type type, std::size_t i) {
      const std::string& piece = from.pieces[i];
      if (type == piece_type::control || type == piece_type::unknown) return piece;
      if (from.model == vocabulary::kind::bpe)
        return type == piece_type::user_defined ? piece : bytes_of_piece(piece);
      return type == piece_type::byte ? std::string(1, static_cast<char>(byte_of_piece(piece))) : text_of_piece(piece);
    }

    [[nodiscard]] bool lossless() const noexcept {
      if (!normal.empty() || takes_spaces) return false;
      if (bpe) return bpe->covers_bytes() && bpe->words().keeps_text();
      return spm && spm->covers_bytes();  // kind char_bpe: a marker in the text comes back as a space
    }

    // The ids of text without special pieces. `at_start`: nothing comes before it.
    bool encode_words(std::string_view text, bool at_start, bool prefix, std::vector<token>& out, merge_scratch& scratch,
                      word_memory& memory) const {
      if (bpe) return bpe->encode(text, at_start, out, scratch, memory);
      if (characters) return characters->encode(text, at_start, out, scratch, memory);
      spm->encode(text, prefix, out, scratch, memory);
      return true;
    }
  };

  [[nodiscard]] std::vector<token> encode(std::string_view text, encode_options options, bool& complete) const {
    const state& s = *state_;
    std::vector<token> out;
    out.reserve(text.size() / 4 + 2);
    if (options.bos && bos() >= 0) out.push_back(bos());
    merge_scratch scratch;
    word_memory memory(text.size());
    const bool prefixes = s.spm && s.v.add_space_prefix;
    bool prefix = prefixes;
    // Calls `words` for what lies between special pieces, and takes those up.
    const auto walk = [&](const special_tokens& specials, std::string_view whole, const auto& words) {
      for (std::size_t at = 0; at < whole.size();) {
        const special_tokens::hit special = specials.next(whole, at, options.special);
        if (special.begin != at) {
          words(whole.substr(at, special.begin - at), at == 0);
          prefix = false;
        }
        if (special.size == 0) break;
        out.push_back(special.id);
        // A control token begins a new stretch of text; a user-defined piece is a word within one.
        prefix = prefixes && special.control;
        at = special.begin + special.size;
      }
    };
    walk(s.specials, text, [&](std::string_view plain, bool first) {
      const auto encode_words = [&](std::string_view part, bool at_start) {
        if (!s.encode_words(part, at_start, prefix, out, scratch, memory)) complete = false;
      };
      if (s.normal.empty()) return encode_words(plain, first);
      const std::string changed = s.normal.apply(plain, complete);
      walk(s.normal_specials, changed, [&](std::string_view part, bool at) { encode_words(part, first && at); });
    });
    return out;
  }

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
