// SPDX-License-Identifier: MIT
#include <blockattn/text/detokenize.hpp>

#include <random>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("a character waits for its last byte", "[text]") {
  ba::utf8_stream s;
  CHECK(s.push("a\xF0\x9F") == "a");
  CHECK(s.pending() == 2);
  CHECK(s.push("\xA6") == "");
  CHECK(s.push("\x99"
               "b") ==
        "\xF0\x9F\xA6\x99"
        "b");
  CHECK(s.pending() == 0);
  CHECK(s.flush() == "");
  CHECK(s.push("") == "");
}

TEST_CASE("bytes that cannot become a character are replaced once that is certain", "[text]") {
  ba::utf8_stream s;
  CHECK(s.push("\xFF") == "\xEF\xBF\xBD");
  CHECK(s.push("\xE2\x82") == "");
  CHECK(s.push("x") == "\xEF\xBF\xBDx");  // one mark for the cut character
  CHECK(s.push("\xE2") == "");
  CHECK(s.flush() == "\xEF\xBF\xBD");
  CHECK(s.flush() == "");
  CHECK(s.push("\x82") == "\xEF\xBF\xBD");  // a flush forgets what was before
  CHECK(ba::to_valid_utf8("a\xC0\xAF\xED\xA0\x80z\xF0\x9F") ==
        "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD");
}

TEST_CASE("the text does not depend on how the bytes arrive", "[text][law]") {
  std::mt19937 random(5);
  const std::vector<std::string> parts = {"a",    "\xC3\xA9", "\xE5\xA5\xBD", "\xF0\x9F\xA6\x99", "\xFF",
                                          "\x80", "\xE2\x82", "\xF0",         "\xED\xA0"};
  for (int round = 0; round < 500; ++round) {
    std::string bytes;
    bool valid = true;
    for (std::size_t n = random() % 12; n-- > 0;) {
      const std::size_t part = random() % (round % 2 == 0 ? 4 : parts.size());
      valid = valid && part < 4;
      bytes += parts[part];
    }
    const std::string whole = ba::to_valid_utf8(bytes);
    CHECK(ba::valid_utf8_prefix(whole) == whole.size());
    if (valid) CHECK(whole == bytes);
    ba::utf8_stream s;
    std::string joined;
    bool always_valid = true;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t n = 1 + random() % 3;
      const std::string_view out = s.push(std::string_view(bytes).substr(at, n));
      always_valid = always_valid && ba::valid_utf8_prefix(out) == out.size() && s.pending() <= 3;
      joined += out;
      at += n;
    }
    joined += s.flush();
    CHECK(always_valid);
    CHECK(joined == whole);
  }
}

TEST_CASE("tokens that are parts of characters come out as characters", "[text]") {
  const auto words = ba::tokenizer::from_vocabulary(ba::byte_vocabulary());
  REQUIRE(words);
  const std::string text = "caf\xC3\xA9 \xF0\x9F\xA6\x99!";
  ba::detokenizer out(*words);
  std::string joined;
  std::size_t steps_with_text = 0;
  for (const ba::token id : words->encode(text, {.bos = true})) {
    const std::string_view part = out.push(id);
    CHECK(ba::valid_utf8_prefix(part) == part.size());
    steps_with_text += !part.empty();
    joined += part;
  }
  CHECK(joined == text);
  CHECK(steps_with_text == 7);  // as many as characters
  CHECK(out.push(-1) == "");
  CHECK(out.push(1 << 30) == "");
  CHECK(out.push(0xF0) == "");
  CHECK(out.flush() == "\xEF\xBF\xBD");
}

TEST_CASE("the space before the first word is dropped as decode drops it", "[text]") {
  ba::vocabulary v;
  v.pieces = {"<s>", "\xE2\x96\x81hi", "\xE2\x96\x81"};
  v.types = {3, 1, 1};
  v.scores = {0, -1, -2};
  v.bos = 0;
  v.add_space_prefix = true;
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  const std::vector<std::vector<ba::token>> sequences = {{}, {0}, {1}, {1, 1}, {0, 1, 1}, {2, 1}, {0, 2, 1, 0, 1}};
  for (const auto& ids : sequences)
    for (const bool continues : {false, true}) {
      ba::detokenizer out(*words, {.continues = continues});
      std::string joined;
      for (const ba::token id : ids) joined += out.push(id);
      CHECK(joined == words->decode(ids, {.continues = continues}));
    }
  ba::detokenizer out(*words);
  CHECK(out.push(1) == "hi");
  CHECK(out.push(1) == " hi");
  CHECK(out.flush() == "");
  CHECK(out.push(1) == "hi");
  ba::detokenizer answer(*words, {.continues = true});
  CHECK(answer.push(1) == " hi");
}
