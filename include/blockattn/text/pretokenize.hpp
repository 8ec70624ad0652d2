// SPDX-License-Identifier: MIT
/// How BPE cuts a text into words before merging: by a kind that a GGUF file names, or by the steps of a
/// `tokenizer.json`. Patterns run in PCRE2, compiled once for each tokenizer and just-in-time where the machine allows.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "byte_letters.hpp"
#include "pattern.hpp"
#include "pretokenizer_kinds.hpp"
#include "steps.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

/// Cuts text into words. A value; copies share the compiled patterns. Const methods are thread-safe.
class pretokenizer {
 public:
  /// The kinds `make` knows, separated by ", ".
  [[nodiscard]] static std::string known() {
    std::string names;
    for (const auto& kind : detail::pretokenizer_kinds) names.append(names.empty() ? "" : ", ").append(kind.name);
    return names;
  }

  /// Compiles the patterns of a kind. An unknown kind is `unsupported`: guessing would give other ids without a word.
  [[nodiscard]] static result<pretokenizer> make(std::string_view name) {
    for (const auto& kind : detail::pretokenizer_kinds) {
      if (name != kind.name) continue;
      std::vector<split_step> steps;
      for (const char* source : kind.patterns)
        if (source != nullptr) steps.push_back({.pattern = source});
      auto out = make(steps);
      if (!out) return fail(out.error().code, "pre-tokenizer ", name, ": ", out.error().message);
      out->whole_words_ = kind.whole_words;
      return out;
    }
    return fail(errc::unsupported, "pre-tokenizer: expected one of ", known(), ", found \"", name.substr(0, 64),
                "\"; the model's tokenizer.json says how it cuts text and can be used instead");
  }

  /// Compiles steps, at most 64. None: a text is one word. Errors name the step by number.
  [[nodiscard]] static result<pretokenizer> make(std::span<const split_step> steps) {
    if (steps.size() > 64) return fail(errc::unsupported, "pre-tokenizer: expected 64 steps at most, found ", steps.size());
    pretokenizer out;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const split_step& s = steps[i];
      stage next{s, {}};
      if (s.type == split_step::kind::cut) {
        auto compiled = pattern::compile(s.pattern);
        if (!compiled) return fail(compiled.error().code, "pre-tokenizer step ", i, ": ", compiled.error().message);
        next.code = *std::move(compiled);
      }
      const bool cuts = s.type == split_step::kind::cut;
      out.keeps_text_ = out.keeps_text_ && ((cuts && s.behavior != split_behavior::removed) ||
                                            s.type == split_step::kind::byte_letters);
      out.stages_.push_back(std::move(next));
    }
    return out;
  }
  [[nodiscard]] static result<pretokenizer> make(const std::vector<split_step>& steps) {
    return make(std::span<const split_step>(steps));
  }

  /// A word that is itself a piece becomes that piece, whatever the merges say (Llama 3).
  [[nodiscard]] bool whole_words() const noexcept { return whole_words_; }
  void whole_words(bool on) noexcept { whole_words_ = on; }
  /// Whether words lie end to end: nothing of a text is lost or changed.
  [[nodiscard]] bool keeps_text() const noexcept { return keeps_text_; }

  /// Calls `sink(std::string_view)` for each word of `text`, in order; words live until `sink` returns. `at_start`:
  /// nothing comes before `text`, which matters to some steps.
  ///
  /// Bytes that are not valid UTF-8 form words of their own. Time is linear in the text for every kind: no pattern
  /// goes back over more than the run it then takes. Patterns from a file need not be so: false if one of them took too
  /// many steps (see `pattern::matcher`), and then what was left is uncut.
  template <class Sink>
  bool split(std::string_view text, const Sink& sink, bool at_start = true) const {
    pattern::matcher m(text.size());
    while (!text.empty()) {
      // Patterns are told not to check their subject; here is the check, once for all of them.
      const std::size_t valid = valid_utf8_prefix(text);
      if (valid != 0) run(0, text.substr(0, valid), {at_start, false}, m, sink);
      text.remove_prefix(valid);
      std::size_t invalid = 0;
      while (invalid < text.size()) {
        const utf8_step step = next_utf8(text.substr(invalid, 4));
        if (step.state == utf8_step::kind::valid) break;
        invalid += step.bytes;
      }
      if (invalid != 0) sink(text.substr(0, invalid));
      text.remove_prefix(invalid);
      at_start = false;
    }
    return !m.gave_up();
  }

 private:
  struct stage {
    split_step step;
    pattern code;
  };
  struct place {
    bool first;    // the piece begins the text
    bool letters;  // the piece is spelled in the byte alphabet
  };

  // Joins matches (`hit`) and what lies between them into pieces, as a behaviour says.
  template <class Emit>
  class joiner {
   public:
    joiner(split_behavior behavior, const Emit& emit) : behavior_(behavior), emit_(emit) {}
    void push(std::size_t begin, std::size_t end, bool hit) {
      if (begin == end) return;
      switch (behavior_) {
        case split_behavior::isolated: return emit_(begin, end);
        case split_behavior::removed:
          if (!hit) emit_(begin, end);
          return;
        case split_behavior::contiguous:
          if (waiting() && hit_ == hit) return extend(end, hit);
          break;
        case split_behavior::merged_with_previous:
          if (waiting() && hit && !hit_) return extend(end, hit);
          break;
        case split_behavior::merged_with_next:
          if (waiting() && hit_ && !hit) return extend(end, hit);
          break;
      }
      flush();
      begin_ = begin;
      extend(end, hit);
    }
    void flush() {
      if (waiting()) emit_(begin_, end_);
      begin_ = end_;
    }

   private:
    [[nodiscard]] bool waiting() const noexcept { return begin_ != end_; }
    void extend(std::size_t end, bool hit) noexcept {
      end_ = end;
      hit_ = hit;
    }
    split_behavior behavior_;
    const Emit& emit_;
    std::size_t begin_ = 0, end_ = 0;
    bool hit_ = false;
  };

  template <class Sink>
  void run(std::size_t at, std::string_view text, place where, pattern::matcher& m, const Sink& sink) const {
    if (at == stages_.size()) {
      if (where.letters) {
        const std::string bytes = bytes_of_piece(text);
        return sink(std::string_view(bytes));
      }
      return sink(text);
    }
    const split_step& s = stages_[at].step;
    if (s.type == split_step::kind::cut) {
      const auto emit = [&](std::size_t begin, std::size_t end) {
        run(at + 1, text.substr(begin, end - begin), {where.first && begin == 0, where.letters}, m, sink);
      };
      joiner pieces(s.behavior, emit);
      for (std::size_t from = 0; from < text.size();) {
        const auto [begin, end] = stages_[at].code.find(text, from, m);
        // What lies between matches is a piece too; later stages see each as a text of its own.
        pieces.push(from, begin, s.invert);
        pieces.push(begin, end, !s.invert);
        from = end;
      }
      return pieces.flush();
    }
    std::string changed;
    if (s.type == split_step::kind::byte_letters) {
      for (const char c : text) append_utf8(changed, byte_alphabet[static_cast<unsigned char>(c)]);
      where.letters = true;
    } else if (s.type == split_step::kind::space_first) {
      if (text.substr(0, 1) == " ") return run(at + 1, text, where, m, sink);
      changed.append(1, ' ').append(text);
    } else {
      for (const char c : text) c == ' ' ? changed.append(s.pattern) : changed.append(1, c);
      const bool wanted = s.prepend == split_step::prepending::always ||
                          (s.prepend == split_step::prepending::first && where.first);
      if (wanted && std::string_view(changed).substr(0, s.pattern.size()) != s.pattern) changed.insert(0, s.pattern);
    }
    run(at + 1, changed, where, m, sink);
  }

  std::vector<stage> stages_;
  bool whole_words_ = false;
  bool keeps_text_ = true;
};

}  // namespace blockattn::inline v0
