// SPDX-License-Identifier: MIT
#include <blockattn/text/pretokenize.hpp>

#include <random>
#include <sstream>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

using list = std::vector<std::string>;

list words(const std::string& kind, std::string_view text) {
  const auto p = ba::pretokenizer::make(kind);
  REQUIRE(p);
  list out;
  p->split(text, [&](std::string_view word) { out.emplace_back(word); });
  return out;
}

list known_kinds() {
  list out;
  std::istringstream names(ba::pretokenizer::known());
  for (std::string name; names >> name;) out.push_back(name.substr(0, name.find(',')));
  return out;
}

}  // namespace

TEST_CASE("GPT-2 keeps one space with the word after it", "[text]") {
  CHECK(words("gpt-2", "") == list{});
  CHECK(words("gpt-2", "Hello world") == list{"Hello", " world"});
  CHECK(words("gpt-2", "a   b") == list{"a", "  ", " b"});
  CHECK(words("gpt-2", "a\n b") == list{"a", "\n", " b"});
  CHECK(words("gpt-2", "a\nb") == list{"a", "\n", "b"});
  CHECK(words("gpt-2", "a  ") == list{"a", "  "});
  CHECK(words("gpt-2", "I've 'told IT'S") == list{"I", "'ve", " '", "told", " IT", "'", "S"});
  CHECK(words("gpt-2", "x1234 56y") == list{"x", "1234", " 56", "y"});
  CHECK(words("gpt-2", "a_b, c!!") == list{"a", "_", "b", ",", " c", "!!"});
  CHECK(words("gpt-2", "h\xC3\xA9h\xC3\xA9 \xD0\xBD\xD0\xB5") == list{"h\xC3\xA9h\xC3\xA9", " \xD0\xBD\xD0\xB5"});
}

TEST_CASE("whitespace is Unicode's, not PCRE2's", "[text]") {
  // A no-break space ends a word; U+180E has not been whitespace since Unicode 6.3 and stays with its neighbours.
  CHECK(words("gpt-2",
              "a\xC2\xA0"
              "b") == list{"a", "\xC2\xA0", "b"});
  CHECK(words("gpt-2", "!\xE1\xA0\x8E!") == list{"!\xE1\xA0\x8E!"});
  CHECK(words("gpt-2",
              "a\xE3\x80\x80\xE3\x80\x80"
              "b") == list{"a", "\xE3\x80\x80", "\xE3\x80\x80", "b"});
}

TEST_CASE("SmolLM takes every digit alone", "[text]") {
  CHECK(words("smollm", "in 2024!") == list{"in", " ", "2", "0", "2", "4", "!"});
  CHECK(words("smollm", "a12b") == list{"a", "1", "2", "b"});
  CHECK(words("starcoder", "a12b") == list{"a", "1", "2", "b"});
}

TEST_CASE("Falcon takes punctuation first and digits in threes", "[text]") {
  CHECK(words("falcon", "a1234b") == list{"a", "123", "4", "b"});
  CHECK(words("falcon", " 12345") == list{" ", "123", "45"});
  CHECK(words("falcon", "don't (x)") == list{"don", "'", "t", " ", "(", "x", ")"});
  CHECK(words("falcon", "a`b") == list{"a", "`", "b"});
}

TEST_CASE("Llama 3 and Qwen 2 join one character to a word and end runs at line breaks", "[text]") {
  for (const std::string kind : {"llama-bpe", "qwen2"}) {
    INFO(kind);
    CHECK(words(kind, "Hello world") == list{"Hello", " world"});
    CHECK(words(kind, "(a) _b") == list{"(a", ")", " _", "b"});
    CHECK(words(kind, "I'VE don't") == list{"I", "'VE", " don", "'t"});
    CHECK(words(kind, "a!!\n\nb") == list{"a", "!!\n\n", "b"});
    CHECK(words(kind, "a \n  \n  b") == list{"a", " \n  \n", " ", " b"});
    CHECK(words(kind, "a  \t") == list{"a", "  \t"});
    CHECK(words(kind, "\tx") == list{"\tx"});
  }
  CHECK(words("llama-bpe", "12345 6") == list{"123", "45", " ", "6"});
  CHECK(words("qwen2", "12345 6") == list{"1", "2", "3", "4", "5", " ", "6"});
  CHECK(ba::pretokenizer::make("llama-bpe")->whole_words());
  CHECK_FALSE(ba::pretokenizer::make("qwen2")->whole_words());
  CHECK(ba::implies_bos("llama-bpe"));
  CHECK_FALSE(ba::implies_bos("gpt-2"));
}

TEST_CASE("bytes that are no text are words of their own", "[text]") {
  CHECK(words("gpt-2",
              "ab\xFF\xFE"
              "cd") == list{"ab", "\xFF\xFE", "cd"});
  CHECK(words("gpt-2", "\xC3") == list{"\xC3"});
  CHECK(words("gpt-2", "a \xE2\x82") == list{"a", " ", "\xE2\x82"});
}

TEST_CASE("words lie end to end, whatever the bytes", "[text][law]") {
  std::mt19937 random(7);
  const list parts = {" ",
                      "  ",
                      "\n",
                      "\r\n",
                      "\t",
                      "a",
                      "Word",
                      "'ll",
                      "'",
                      "123",
                      "7",
                      "!",
                      "...",
                      "\xC2\xA0",
                      "\xC3\xA9",
                      "\xE5\xA5\xBD",
                      "\xF0\x9F\xA6\x99",
                      "\xFF",
                      "\x80",
                      "\xE2\x82",
                      std::string(1, '\0')};
  for (const std::string& kind : known_kinds()) {
    const auto p = ba::pretokenizer::make(kind);
    REQUIRE(p);
    for (int round = 0; round < 50; ++round) {
      std::string text;
      for (int i = 0; i < 40; ++i) text += parts[random() % parts.size()];
      std::string joined;
      bool empty = false;
      p->split(text, [&](std::string_view word) {
        joined += word;
        empty = empty || word.empty();
      });
      INFO(kind);
      CHECK(joined == text);
      CHECK_FALSE(empty);
    }
  }
}

TEST_CASE("an unknown kind is an error that lists the known ones", "[text]") {
  for (const std::string kind : {"", "gpt-5", "GPT-2", "deepseek"}) {
    const auto p = ba::pretokenizer::make(kind);
    REQUIRE_FALSE(p);
    CHECK(p.error().code == ba::errc::unsupported);
    CHECK(p.error().message.find("\"" + kind + "\"") != std::string::npos);
    for (const std::string& known : known_kinds()) CHECK(p.error().message.find(known) != std::string::npos);
  }
  CHECK(known_kinds().size() >= 6);
}
