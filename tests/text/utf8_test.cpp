// SPDX-License-Identifier: MIT
#include <blockattn/text/utf8.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;
using kind = ba::utf8_step::kind;

TEST_CASE("every code point survives a round trip, and no surrogate is valid", "[text]") {
  std::size_t wrong = 0;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    std::string text;
    ba::append_utf8(text, c);
    const ba::utf8_step step = ba::next_utf8(text);
    const bool surrogate = c >= 0xD800 && c <= 0xDFFF;
    const bool good = step.state == kind::valid && step.code == c && step.bytes == text.size();
    if (good == surrogate) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("a cut sequence is incomplete, a wrong one invalid", "[text]") {
  // The four-byte sequence of a llama, cut after each byte.
  const std::string llama = "\xF0\x9F\xA6\x99";
  for (std::size_t n = 1; n < 4; ++n) {
    const ba::utf8_step step = ba::next_utf8(llama.substr(0, n));
    CHECK(step.state == kind::incomplete);
    CHECK(step.bytes == n);
  }
  struct {
    std::string bytes;
    std::uint32_t covered;
  } const bad[] = {
      {"\x80", 1},          // a continuation byte alone
      {"\xC0\xAF", 1},      // overlong
      {"\xE0\x80\xAF", 1},  // overlong
      {"\xED\xA0\x80", 1},  // a surrogate
      {"\xF0\x80\x80", 1},  // overlong
      {"\xF4\x90\x80", 1},  // above U+10FFFF
      {"\xF5\x80", 1},      // no such lead byte
      {"\xFF", 1},          // never valid
      {"\xE2\x82x", 2},     // cut by another character
      {"\xF0\x9F\xA6x", 3}, {"\xC3(", 1},
  };
  for (const auto& b : bad) {
    const ba::utf8_step step = ba::next_utf8(b.bytes);
    CHECK(step.state == kind::invalid);
    CHECK(step.bytes == b.covered);
  }
}

TEST_CASE("the valid prefix ends where validity ends", "[text]") {
  CHECK(ba::valid_utf8_prefix("") == 0);
  CHECK(ba::valid_utf8_prefix("abc") == 3);
  CHECK(ba::valid_utf8_prefix("a\xC3\xA9z") == 4);
  CHECK(ba::valid_utf8_prefix("a\xC3") == 1);
  CHECK(ba::valid_utf8_prefix("\xFFz") == 0);
  CHECK(ba::valid_utf8_prefix(std::string("\0\0", 2)) == 2);
}

TEST_CASE("stripping takes Unicode whitespace off both ends only", "[text]") {
  CHECK(ba::stripped("") == "");
  CHECK(ba::stripped(" \t\r\n") == "");
  CHECK(ba::stripped("\n a b \n") == "a b");
  CHECK(ba::stripped("\xC2\xA0\xE3\x80\x80x\xE2\x80\x83") == "x");  // no-break, ideographic, em space
  CHECK(ba::stripped("\x1C\x1Fx\x1E") == "x");                      // as Python does
  CHECK(ba::stripped("\xE2\x80\x8Bx\xE2\x80\x8B").size() == 7);     // a zero-width space is not whitespace
  CHECK(ba::stripped("x\xA0") == "x\xA0");                          // half a character is not whitespace
  CHECK(ba::stripped("\x80\x80\x80\x80 ") == "\x80\x80\x80\x80");
}
