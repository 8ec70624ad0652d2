// SPDX-License-Identifier: MIT
/// The ways of cutting text that GGUF files name (`tokenizer.ggml.pre`), as a table of patterns.
///
/// The patterns are those that the models were trained with. A stage cuts each piece of the stage before it at its
/// matches; what lies between matches is a piece too.
#pragma once

#include <string_view>

#include "pattern.hpp"

namespace blockattn::inline v0 {

namespace detail {

#define BLOCKATTN_SPACE "[" BLOCKATTN_SPACES "]"
#define BLOCKATTN_TAIL "|" BLOCKATTN_SPACE "+(?![^" BLOCKATTN_SPACES "])|" BLOCKATTN_SPACE "+"

// GPT-2: contractions, words, numbers and other runs, each with the one space before it; the last of several spaces
// stays with the word after it.
inline constexpr const char* gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^)" BLOCKATTN_SPACES R"(\p{L}\p{N}]+)" BLOCKATTN_TAIL;

// Llama 3 and Qwen 2 differ in how many digits stay together. Line breaks end a run; any one character may lead a word.
#define BLOCKATTN_MODERN(digits)                                                 \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits            \
  R"(| ?[^)" BLOCKATTN_SPACES R"(\p{L}\p{N}]+[\r\n]*|)" BLOCKATTN_SPACE R"(*[\r\n]+)" BLOCKATTN_TAIL
inline constexpr const char* llama3_pattern = BLOCKATTN_MODERN(R"(\p{N}{1,3})");
inline constexpr const char* qwen2_pattern = BLOCKATTN_MODERN(R"(\p{N})");

// GPT-4o, Llama 4 and Mistral's Tekken: a change from lower to upper case ends a word, marks belong to it.
#define BLOCKATTN_CASED(ending)                                                                     \
  R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)" ending           \
  R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)" ending
#define BLOCKATTN_CASED_TAIL \
  R"(| ?[^)" BLOCKATTN_SPACES R"(\p{L}\p{N}]+[\r\n/]*|)" BLOCKATTN_SPACE R"(*[\r\n]+)" BLOCKATTN_TAIL
inline constexpr const char* gpt4o_pattern =
    BLOCKATTN_CASED(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)") R"(|\p{N}{1,3})" BLOCKATTN_CASED_TAIL;
inline constexpr const char* tekken_pattern = BLOCKATTN_CASED("") R"(|\p{N})" BLOCKATTN_CASED_TAIL;

// DeepSeek: line breaks, then words of cased letters, then punctuation with its full-width forms, then East Asian runs.
inline constexpr const char* line_break_pattern = R"([\r\n])";
inline constexpr const char* deepseek_word_pattern =
    BLOCKATTN_SPACE "?["
    R"(A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1})"
    R"(\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5})"
    R"(\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a})"
    R"(\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b})"
    R"(\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc})"
    R"(\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107})"
    R"(\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134})"
    R"(\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4})"
    R"(\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787})"
    R"(\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a})"
    R"(\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2})"
    R"(\x{118a0}-\x{118df}\x{1e900}-\x{1e943})"
    "]+";
inline constexpr const char* deepseek_punctuation_pattern =
    BLOCKATTN_SPACE R"(?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
inline constexpr const char* last_spaces_pattern = BLOCKATTN_SPACE "+$";
inline constexpr const char* deepseek_east_asian_pattern = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
inline constexpr const char* spaced_letters_pattern = BLOCKATTN_SPACE R"(?\p{L}+)";
inline constexpr const char* spaced_punctuation_pattern = BLOCKATTN_SPACE R"(?\p{P}+)";
inline constexpr const char* kana_pattern = R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
inline constexpr const char* deepseek3_pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|)"
    BLOCKATTN_SPACE R"(*[\r\n]+)" BLOCKATTN_TAIL;

// Bloom and the Finnish models: anything but spaces and marks that end a phrase.
inline constexpr const char* bloom_pattern =
    R"( ?[^(|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})" BLOCKATTN_SPACES R"()]+)";

inline constexpr const char* digit_pattern = R"(\p{N})";
inline constexpr const char* digits_pattern = R"(\p{N}+)";
inline constexpr const char* to_three_digits_pattern = R"(\p{N}{1,3})";
inline constexpr const char* three_digits_pattern = "[0-9][0-9][0-9]";
inline constexpr const char* falcon_punctuation_pattern = R"([\p{P}$+<=>^~|`]+)";
inline constexpr const char* default_punctuation_pattern = R"([\p{P}$+<=>^~|]+)";

#undef BLOCKATTN_SPACE
#undef BLOCKATTN_TAIL
#undef BLOCKATTN_MODERN
#undef BLOCKATTN_CASED
#undef BLOCKATTN_CASED_TAIL

struct pretokenizer_kind {
  const char* name;
  const char* patterns[6];   // applied in turn
  bool whole_words = false;  // a word that is itself a piece becomes that piece, whatever the merges say
  bool add_bos = false;      // prompts begin with the begin token where the file does not say
};

inline constexpr pretokenizer_kind pretokenizer_kinds[] = {
    {"default", {default_punctuation_pattern, gpt2_pattern, digits_pattern, three_digits_pattern}},
    {"gpt-2", {gpt2_pattern}},
    {"phi-2", {gpt2_pattern}},
    {"mpt", {gpt2_pattern}},
    {"olmo", {gpt2_pattern}},
    {"jais", {gpt2_pattern}},
    {"gigachat", {gpt2_pattern}},
    {"falcon", {falcon_punctuation_pattern, gpt2_pattern, three_digits_pattern}},
    {"smollm", {digit_pattern, gpt2_pattern}},
    {"starcoder", {digit_pattern, gpt2_pattern}},
    {"refact", {digit_pattern, gpt2_pattern}},
    {"codeshell", {digit_pattern, gpt2_pattern}},
    {"command-r", {digit_pattern, gpt2_pattern}},
    {"exaone", {digit_pattern, gpt2_pattern}},
    {"minerva-7b", {digit_pattern, gpt2_pattern}},
    {"llama-bpe", {llama3_pattern}, true, true},
    {"llama3", {llama3_pattern}, true, true},
    {"llama-v3", {llama3_pattern}, true, true},
    {"falcon3", {llama3_pattern}, true, true},
    {"pixtral", {llama3_pattern}, true, true},
    {"lfm2", {llama3_pattern}, true, true},
    {"smaug-bpe", {llama3_pattern}},
    {"dbrx", {llama3_pattern}},
    {"chatglm-bpe", {llama3_pattern}},
    {"qwen2", {qwen2_pattern}},
    {"deepseek-r1-qwen", {qwen2_pattern}},
    {"megrez", {qwen2_pattern}},
    {"stablelm2", {qwen2_pattern}},
    {"gpt-4o", {gpt4o_pattern}},
    {"llama4", {gpt4o_pattern}},
    {"tekken", {tekken_pattern}, true, true},
    {"deepseek-llm",
     {line_break_pattern, deepseek_word_pattern, deepseek_punctuation_pattern, last_spaces_pattern,
      deepseek_east_asian_pattern, digits_pattern}},
    {"deepseek-coder",
     {line_break_pattern, spaced_letters_pattern, spaced_punctuation_pattern, deepseek_east_asian_pattern,
      digit_pattern}},
    {"deepseek-v3", {to_three_digits_pattern, kana_pattern, deepseek3_pattern}},
    {"hunyuan-dense", {to_three_digits_pattern, kana_pattern, deepseek3_pattern}},
    {"bloom", {bloom_pattern}},
    {"poro-chat", {bloom_pattern}},
    {"gpt3-finnish", {bloom_pattern}},
    {"viking", {bloom_pattern, digit_pattern}},
};

}  // namespace detail

/// Whether prompts begin with the begin token where a file of this kind does not say (Llama 3).
[[nodiscard]] constexpr bool implies_bos(std::string_view name) noexcept {
  for (const auto& kind : detail::pretokenizer_kinds)
    if (name == kind.name) return kind.add_bos;
  return false;
}

}  // namespace blockattn::inline v0
