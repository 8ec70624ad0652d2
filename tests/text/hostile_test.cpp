// SPDX-License-Identifier: MIT
// Long texts without a place to cut, in every family. Were any step quadratic, this test would not end within the hour.
#include <blockattn/text/detokenize.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

// Pairs, fours and eights of what the texts repeat, so that merging has work to do.
ba::vocabulary merging_vocabulary(ba::vocabulary::kind model) {
  const bool spm = model == ba::vocabulary::kind::spm;
  ba::vocabulary v;
  if (spm) {
    v.model = model;
    for (int b = 0; b < 256; ++b) {
      const char* digits = "0123456789abcdef";
      v.pieces.push_back(std::string("<0x") + digits[b / 16] + digits[b % 16] + ">");
      v.types.push_back(6);
    }
    v.add_space_prefix = true;
  } else {
    v = ba::byte_vocabulary();
  }
  for (const std::string one : {"a", "\xC4\xA0", "\xC4\x8A", "!", "1", "\xC3\xBF"}) {
    // In SentencePiece the same characters stand for themselves.
    const std::string base = !spm                ? one
                             : one == "\xC4\xA0" ? std::string(ba::space_marker)
                             : one == "\xC4\x8A" ? "\n"
                                                 : one;
    if (spm) {
      v.pieces.push_back(base);
      v.types.push_back(1);
    }
    std::string piece = base;
    for (int doubling = 0; doubling < 3; ++doubling) {
      v.merges.push_back(piece + " " + piece);
      piece += piece;
      v.pieces.push_back(piece);
      v.types.push_back(1);
    }
  }
  if (spm) {
    v.merges.clear();
    for (std::size_t i = 0; i < v.pieces.size(); ++i) v.scores.push_back(-static_cast<float>(i));
  }
  return v;
}

}  // namespace

TEST_CASE("an eighth of a megabyte of anything is encoded and comes back", "[text][slow]") {
  constexpr std::size_t size = std::size_t{1} << 17;
  const auto repeated = [](const std::string& part) {
    std::string out;
    while (out.size() < size) out += part;
    return out;
  };
  std::vector<std::string> texts;
  for (const std::string part : {"a", " ", "\n", "!", "1", "word", "\xF0\x9F\xA6\x99", "\xC3\xBF", "\xFF", "\x80",
                                 "a\xFF", " \n", "\t ", "'", "'s", "<", "\xE2\x96\x81", "\xC2\xA0", "a "})
    texts.push_back(repeated(part));
  texts.emplace_back(size, '\0');
  // Long runs that a pattern must give back once, before something that decides.
  texts.push_back(std::string(size, ' ') + "x");
  texts.push_back(std::string(size, '\n') + "x");
  texts.push_back(std::string(size, '!') + "\n");

  texts.push_back("e" + repeated("\xCC\x81"));
  texts.push_back(repeated("A") + "a");

  std::vector<ba::vocabulary> vocabularies = {merging_vocabulary(ba::vocabulary::kind::spm)};
  for (const char* pre : {"gpt-2", "default", "falcon", "smollm", "llama-bpe", "qwen2", "gpt-4o", "tekken",
                          "deepseek-llm", "deepseek-coder", "deepseek-v3", "bloom"}) {
    vocabularies.push_back(merging_vocabulary(ba::vocabulary::kind::bpe));
    vocabularies.back().pre = pre;
  }
  for (const auto& v : vocabularies) {
    const auto words = ba::tokenizer::from_vocabulary(v);
    if (!words) FAIL(words.error().message);
    for (const std::string& text : texts) {
      const auto ids = words->encode(text);
      const bool same = words->decode(ids) == text;  // not in the check: a failure would print megabytes
      INFO(v.pre << ", text of \"" << text.substr(0, 4) << '"');
      CHECK(same);
    }
  }
}

TEST_CASE("a megabyte of one character is encoded and comes back", "[text][slow]") {
  for (const auto model : {ba::vocabulary::kind::spm, ba::vocabulary::kind::bpe}) {
    auto v = merging_vocabulary(model);
    v.pre = "llama-bpe";
    const auto words = ba::tokenizer::from_vocabulary(v);
    REQUIRE(words);
    for (const char c : {'a', ' ', '\xFF'}) {
      const std::string text(std::size_t{1} << 20, c);
      const bool same = words->decode(words->encode(text)) == text;
      CHECK(same);
    }
  }
}

TEST_CASE("a megabyte of special pieces that almost match", "[text][slow]") {
  ba::vocabulary v = ba::byte_vocabulary();
  for (int i = 0; i < 300; ++i) {
    v.pieces.push_back("<|reserved_special_token_" + std::to_string(i) + "|>");
    v.types.push_back(3);
  }
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  std::string text;
  while (text.size() < (std::size_t{1} << 20)) text += "<|reserved_special_token_x";
  CHECK(words->encode(text, {.special = true}).size() == text.size());
}
