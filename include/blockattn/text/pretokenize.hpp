// SPDX-License-Identifier: MIT
/// How byte-level BPE cuts a text into words before merging, by the kind a file names (`tokenizer.ggml.pre`).
///
/// The patterns are those that the models were trained with. They run in PCRE2, compiled once for each tokenizer and
/// just-in-time where the machine allows it. Whitespace is spelled out: PCRE2's `\s` counts U+180E, Unicode does not.
#pragma once

#ifndef PCRE2_CODE_UNIT_WIDTH
#define PCRE2_CODE_UNIT_WIDTH 8
#endif
#include <pcre2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

namespace detail {

#define BLOCKATTN_SPACES R"(\x{9}-\x{d} \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})"
#define BLOCKATTN_SPACE "[" BLOCKATTN_SPACES "]"
#define BLOCKATTN_TAIL "|" BLOCKATTN_SPACE "+(?![^" BLOCKATTN_SPACES "])|" BLOCKATTN_SPACE "+"

// GPT-2: contractions, words, numbers and other runs, each with the one space before it; the last of several spaces
// stays with the word after it.
inline constexpr const char* gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" BLOCKATTN_SPACES R"(\p{L}\p{N}]+)" BLOCKATTN_TAIL;

// Llama 3 and Qwen 2 differ in how many digits stay together. Line breaks end a run; any one character may lead a word.
#define BLOCKATTN_MODERN(digits)                                                              \
  R"('[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  R"(| ?[^)" BLOCKATTN_SPACES R"(\p{L}\p{N}]+[\r\n]*|)" BLOCKATTN_SPACE R"(*[\r\n]+)" BLOCKATTN_TAIL
inline constexpr const char* llama3_pattern = BLOCKATTN_MODERN(R"(\p{N}{1,3})");
inline constexpr const char* qwen2_pattern = BLOCKATTN_MODERN(R"(\p{N})");

inline constexpr const char* digit_pattern = R"(\p{N})";
inline constexpr const char* digits_pattern = R"(\p{N}+)";
inline constexpr const char* three_digits_pattern = "[0-9][0-9][0-9]";
inline constexpr const char* falcon_punctuation_pattern = R"([\p{P}$+<=>^~|`]+)";
inline constexpr const char* default_punctuation_pattern = R"([\p{P}$+<=>^~|]+)";

#undef BLOCKATTN_SPACES
#undef BLOCKATTN_SPACE
#undef BLOCKATTN_TAIL
#undef BLOCKATTN_MODERN

struct pretokenizer_kind {
  const char* name;
  const char* patterns[4];  // applied in turn, each to the pieces of the one before
  bool whole_words = false;
  bool add_bos = false;
};

inline constexpr pretokenizer_kind pretokenizer_kinds[] = {
    {"default", {default_punctuation_pattern, gpt2_pattern, digits_pattern, three_digits_pattern}},
    {"gpt-2", {gpt2_pattern}},
    {"phi-2", {gpt2_pattern}},
    {"mpt", {gpt2_pattern}},
    {"olmo", {gpt2_pattern}},
    {"falcon", {falcon_punctuation_pattern, gpt2_pattern, three_digits_pattern}},
    {"smollm", {digit_pattern, gpt2_pattern}},
    {"starcoder", {digit_pattern, gpt2_pattern}},
    {"refact", {digit_pattern, gpt2_pattern}},
    {"codeshell", {digit_pattern, gpt2_pattern}},
    {"command-r", {digit_pattern, gpt2_pattern}},
    {"llama-bpe", {llama3_pattern}, true, true},
    {"llama3", {llama3_pattern}, true, true},
    {"llama-v3", {llama3_pattern}, true, true},
    {"smaug-bpe", {llama3_pattern}},
    {"dbrx", {llama3_pattern}},
    {"qwen2", {qwen2_pattern}},
    {"deepseek-r1-qwen", {qwen2_pattern}},
    {"stablelm2", {qwen2_pattern}},
};

struct pcre2_deleter {
  void operator()(pcre2_code_8* p) const noexcept { pcre2_code_free_8(p); }
  void operator()(pcre2_match_data_8* p) const noexcept { pcre2_match_data_free_8(p); }
  void operator()(pcre2_match_context_8* p) const noexcept { pcre2_match_context_free_8(p); }
};

}  // namespace detail

/// Whether prompts begin with the begin token where a file of this kind does not say (Llama 3).
[[nodiscard]] constexpr bool implies_bos(std::string_view name) noexcept {
  for (const auto& kind : detail::pretokenizer_kinds)
    if (name == kind.name) return kind.add_bos;
  return false;
}

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
      pretokenizer out;
      out.whole_words_ = kind.whole_words;
      for (const char* pattern : kind.patterns) {
        if (pattern == nullptr) break;
        int error = 0;
        std::size_t offset = 0;
        code compiled(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error,
                                      &offset, nullptr),
                      detail::pcre2_deleter{});
        if (!compiled)
          return fail(errc::unsupported, "pre-tokenizer ", name, ": expected a PCRE2 with Unicode, found error ", error,
                      " at ", offset);
        // Where just-in-time code is forbidden the same pattern is interpreted.
        (void)pcre2_jit_compile_8(compiled.get(), PCRE2_JIT_COMPLETE);
        out.stages_.push_back(std::move(compiled));
      }
      return out;
    }
    return fail(errc::unsupported, "pre-tokenizer: expected one of ", known(), ", found \"", name.substr(0, 64), "\"");
  }

  /// A word that is itself a piece becomes that piece, whatever the merges say (Llama 3).
  [[nodiscard]] bool whole_words() const noexcept { return whole_words_; }

  /// Calls `sink(std::string_view)` for each word of `text`, in order, end to end: nothing is lost or changed.
  ///
  /// Bytes that are not valid UTF-8 form words of their own. Time is linear in the text for every kind: no pattern
  /// goes back over more than the run it then takes. Should PCRE2 run out of memory, the rest of the text is one word.
  template <class Sink>
  void split(std::string_view text, const Sink& sink) const {
    const matcher m;
    while (!text.empty()) {
      // Patterns are told not to check their subject; here is the check, once for all of them.
      const std::size_t valid = valid_utf8_prefix(text);
      if (valid != 0) run(0, text.substr(0, valid), m, sink);
      text.remove_prefix(valid);
      std::size_t invalid = 0;
      while (invalid < text.size()) {
        const utf8_step step = next_utf8(text.substr(invalid, 4));
        if (step.state == utf8_step::kind::valid) break;
        invalid += step.bytes;
      }
      if (invalid != 0) sink(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }

 private:
  using code = std::shared_ptr<pcre2_code_8>;

  // What a match writes to: one for each call of `split`, so that threads share nothing but compiled patterns.
  struct matcher {
    std::unique_ptr<pcre2_match_data_8, detail::pcre2_deleter> data{pcre2_match_data_create_8(1, nullptr)};
    std::unique_ptr<pcre2_match_context_8, detail::pcre2_deleter> context{pcre2_match_context_create_8(nullptr)};

    matcher() {
      if (!context) return;
      // The limits guard against patterns from users. Ours are fixed and linear, and a text may be long.
      pcre2_set_match_limit_8(context.get(), 0xFFFFFFFFu);
      pcre2_set_depth_limit_8(context.get(), 0xFFFFFFFFu);
      pcre2_set_heap_limit_8(context.get(), 0xFFFFFFFFu);
    }

    // The first match at or after `from`; {size, size} if there is none.
    [[nodiscard]] std::pair<std::size_t, std::size_t> find(const pcre2_code_8* pattern, std::string_view text,
                                                           std::size_t from) const noexcept {
      const std::pair<std::size_t, std::size_t> none{text.size(), text.size()};
      if (!data) return none;
      const auto attempt = [&](std::uint32_t options) {
        return pcre2_match_8(pattern, reinterpret_cast<PCRE2_SPTR8>(text.data()), text.size(), from,
                             PCRE2_NO_UTF_CHECK | options, data.get(), context.get());
      };
      int found = attempt(0);
      // Just-in-time code has a stack of fixed size; the interpreter keeps its own on the heap.
      if (found < PCRE2_ERROR_NOMATCH) found = attempt(PCRE2_NO_JIT);
      if (found < 0) return none;
      const std::size_t* at = pcre2_get_ovector_pointer_8(data.get());
      // No pattern matches nothing; if one did, the scan would stand still.
      return at[1] > at[0] && at[0] >= from ? std::pair{at[0], at[1]} : none;
    }
  };

  template <class Sink>
  void run(std::size_t stage, std::string_view text, const matcher& m, const Sink& sink) const {
    if (stage == stages_.size()) return sink(text);
    for (std::size_t at = 0; at < text.size();) {
      const auto [first, last] = m.find(stages_[stage].get(), text, at);
      // What lies between matches is a word too; later stages see each as a text of its own.
      if (first > at) run(stage + 1, text.substr(at, first - at), m, sink);
      if (last > first) run(stage + 1, text.substr(first, last - first), m, sink);
      at = last;
    }
  }

  std::vector<code> stages_;
  bool whole_words_ = false;
};

}  // namespace blockattn::inline v0
