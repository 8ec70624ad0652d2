// SPDX-License-Identifier: MIT
#include <blockattn/text/normalize.hpp>

#include <array>
#include <random>

#include "../support/catch.hpp"

namespace ba = blockattn;
using form = ba::normal_form;

TEST_CASE("the four normal forms", "[text]") {
  struct {
    std::string text, nfc, nfd, nfkc, nfkd;
  } const cases[] = {
      {"plain", "plain", "plain", "plain", "plain"},
      {"\xC3\xA9", "\xC3\xA9", "e\xCC\x81", "\xC3\xA9", "e\xCC\x81"},
      {"e\xCC\x81", "\xC3\xA9", "e\xCC\x81", "\xC3\xA9", "e\xCC\x81"},
      {"\xE2\x84\xAB", "\xC3\x85", "A\xCC\x8A", "\xC3\x85", "A\xCC\x8A"},        // the Angstrom sign
      {"\xEF\xAC\x81", "\xEF\xAC\x81", "\xEF\xAC\x81", "fi", "fi"},              // a ligature
      {"\xE1\xB8\x8B\xCC\xA3", "\xE1\xB8\x8D\xCC\x87", "d\xCC\xA3\xCC\x87", "\xE1\xB8\x8D\xCC\x87", "d\xCC\xA3\xCC\x87"},
      {"\xEA\xB0\x81", "\xEA\xB0\x81", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81",
       "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"},                                  // a Hangul syllable
      {"\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC", "\xE0\xA4\x95\xE0\xA4\xBC", "\xE0\xA4\x95\xE0\xA4\xBC",
       "\xE0\xA4\x95\xE0\xA4\xBC"},                                              // excluded from composition
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(ba::normalized(form::nfc, c.text) == c.nfc);
    CHECK(ba::normalized(form::nfd, c.text) == c.nfd);
    CHECK(ba::normalized(form::nfkc, c.text) == c.nfkc);
    CHECK(ba::normalized(form::nfkd, c.text) == c.nfkd);
  }
}

TEST_CASE("a normal form does not depend on where ASCII is skipped", "[text][law]") {
  const std::vector<std::string> parts = {"a", "bc", "e", " ", "\xCC\x81", "\xCC\xA3", "\xC3\xA9", "\xEA\xB0\x80",
                                          "\xE1\x86\xA8", "\xFF", "\xE2\x82", "\xEF\xAC\x81", "z"};
  std::mt19937 random(4);
  for (int round = 0; round < 400; ++round) {
    std::string text;
    for (std::size_t n = random() % 24; n-- > 0;) text += parts[random() % parts.size()];
    for (const form f : {form::nfc, form::nfd, form::nfkc, form::nfkd}) {
      const std::string once = ba::normalized(f, text);
      CHECK(ba::normalized(f, once) == once);
      // Composing undoes decomposing.
      const form apart = f == form::nfc || f == form::nfd ? form::nfd : form::nfkd;
      CHECK(ba::normalized(f, ba::normalized(apart, text)) == once);
      // ASCII on its own at both ends changes nothing.
      CHECK(ba::normalized(f, "xx" + text + "\n\n") == "xx" + (text.empty() ? "" : once) + "\n\n");
    }
  }
}

TEST_CASE("a quarter of a megabyte of marks in the wrong order is sorted", "[text][slow]") {
  // A sort that is quadratic in the marks on one letter would not end within this test's time.
  std::string text = "a";
  while (text.size() < (std::size_t{1} << 18)) text += "\xCC\x81\xCC\xA3";
  const std::string out = ba::normalized(form::nfd, text);
  CHECK(out.size() == text.size());
  CHECK(out.substr(0, 5) == "a\xCC\xA3\xCC\xA3");
}

TEST_CASE("steps of a normalizer", "[text]") {
  using kind = ba::normalize_step::kind;
  const auto apply = [](std::vector<ba::normalize_step> steps, std::string_view text) {
    const auto n = ba::normalizer::make(steps);
    if (!n) FAIL(n.error().message);
    bool complete = true;
    const std::string out = n->apply(text, complete);
    CHECK(complete);
    return out;
  };
  CHECK(apply({{kind::prepend, "", "_"}}, "a") == "_a");
  CHECK(apply({{kind::prepend, "", "_"}}, "").empty());
  CHECK(apply({{kind::replace_text, "ab", "x"}}, "abcabab\xFF" "ab") == "xcxx\xFFx");
  CHECK(apply({{kind::replace_pattern, "[ \\t]+", " "}}, " a \t b\xFF  ") == " a b\xFF ");
  CHECK(apply({{kind::strip, "", "", true, false}}, "\xC2\xA0 a ") == "a ");
  CHECK(apply({{kind::strip, "", "", false, true}}, " a\xE3\x80\x80 ") == " a");
  CHECK(apply({{kind::strip, "", "", true, true}}, " \n ").empty());
  CHECK(apply({{kind::prepend, "", " "}, {kind::replace_text, " ", "__"}, {kind::nfc}}, "e\xCC\x81 e") ==
        "__\xC3\xA9__e");

  // A text that would grow without bound stays as it is.
  const auto grows = ba::normalizer::make(std::vector<ba::normalize_step>(
      8, {kind::replace_text, "a", "aaaaaaaaaaaaaaaa"}));
  REQUIRE(grows);
  bool complete = true;
  CHECK(grows->apply("aaaa", complete).size() < 200'000);
  CHECK_FALSE(complete);
  CHECK_FALSE(ba::normalizer::make(std::vector<ba::normalize_step>{{kind::replace_pattern, "(", ""}}));
  CHECK_FALSE(ba::normalizer::make(std::vector<ba::normalize_step>{{kind::replace_text, "", "x"}}));
}
