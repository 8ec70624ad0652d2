// SPDX-License-Identifier: MIT
#include <blockattn/text/pretokenize.hpp>
#include <blockattn/text/tokenizer.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;
using list = std::vector<std::string>;

namespace {

list cut(std::vector<ba::split_step> steps, std::string_view text, bool at_start = true) {
  const auto p = ba::pretokenizer::make(steps);
  if (!p) FAIL(p.error().message);
  list out;
  CHECK(p->split(text, [&](std::string_view word) { out.emplace_back(word); }, at_start));
  return out;
}
ba::split_step at(const char* pattern, ba::split_behavior behavior, bool invert = false) {
  return {.pattern = pattern, .behavior = behavior, .invert = invert};
}
ba::split_step change(ba::split_step::kind type, const char* text = "",
                      ba::split_step::prepending prepend = ba::split_step::prepending::never) {
  ba::split_step s;
  s.type = type;
  s.pattern = text;
  s.prepend = prepend;
  return s;
}

}  // namespace

TEST_CASE("the five behaviours of a cut, and their inverses", "[text]") {
  using b = ba::split_behavior;
  const char* text = "--a-b--";
  CHECK(cut({at("-", b::isolated)}, text) == list{"-", "-", "a", "-", "b", "-", "-"});
  CHECK(cut({at("-", b::removed)}, text) == list{"a", "b"});
  CHECK(cut({at("-", b::contiguous)}, text) == list{"--", "a", "-", "b", "--"});
  CHECK(cut({at("-", b::merged_with_previous)}, text) == list{"-", "-", "a-", "b-", "-"});
  CHECK(cut({at("-", b::merged_with_next)}, text) == list{"-", "-a", "-b", "-", "-"});
  CHECK(cut({at("-", b::removed, true)}, text) == list{"-", "-", "-", "-", "-"});
  CHECK(cut({at("-", b::merged_with_previous, true)}, text) == list{"-", "-a", "-b", "-", "-"});
  CHECK(cut({at("-", b::contiguous, true)}, text) == list{"--", "a", "-", "b", "--"});
  CHECK(cut({at("x", b::removed)}, "abc") == list{"abc"});
  CHECK(cut({at("x", b::removed)}, "xxx").empty());
  CHECK(cut({}, "any text") == list{"any text"});
}

TEST_CASE("steps that change what later steps see", "[text]") {
  using kind = ba::split_step::kind;
  using when = ba::split_step::prepending;
  using b = ba::split_behavior;
  CHECK(cut({change(kind::space_first)}, "a b") == list{" a b"});
  CHECK(cut({change(kind::space_first)}, " a") == list{" a"});
  CHECK(cut({change(kind::metaspace, "_", when::always)}, "a b") == list{"_a_b"});
  CHECK(cut({change(kind::metaspace, "_", when::always)}, " a") == list{"_a"});
  CHECK(cut({change(kind::metaspace, "_", when::never)}, "a b") == list{"a_b"});
  CHECK(cut({change(kind::metaspace, "_", when::first)}, "a b") == list{"_a_b"});
  CHECK(cut({change(kind::metaspace, "_", when::first)}, "a b", false) == list{"a_b"});
  CHECK(cut({at("-", b::isolated), change(kind::metaspace, "_", when::first)}, "a-b") == list{"_a", "-", "b"});
  CHECK(cut({change(kind::metaspace, "_", when::always), at("_", b::merged_with_next)}, "a b") == list{"_a", "_b"});
  // Cuts after the change to letters see letters, and words are bytes again: the last byte of this one is the letter of
  // a superscript two.
  CHECK(cut({change(kind::byte_letters), at("\\p{N}", b::isolated)}, "\xC3\xB2") == list{"\xC3", "\xB2"});
  CHECK(cut({at("\\p{N}", b::isolated)}, "\xC3\xB2") == list{"\xC3\xB2"});
  CHECK(cut({change(kind::byte_letters)}, "a\xFF \n") == list{"a", "\xFF", " \n"});
}

TEST_CASE("Oniguruma's expressions become PCRE2's", "[text]") {
  const auto finds = [](const char* source, std::string_view text) {
    const auto translated = ba::from_oniguruma(source);
    if (!translated) FAIL(translated.error().message);
    const auto p = ba::pattern::compile(*translated);
    if (!p) FAIL(p.error().message);
    ba::pattern::matcher m(text.size());
    const auto [begin, end] = p->find(text, 0, m);
    return std::string(text.substr(begin, end - begin));
  };
  CHECK(finds("\\s+", "a\xC2\xA0\xE3\x80\x80" "b") == "\xC2\xA0\xE3\x80\x80");
  CHECK(finds("\\s", "a\xE1\xA0\x8E").empty());  // U+180E has not been whitespace since Unicode 6.3
  CHECK(finds("\\S+", "\xC2\xA0" "ab ") == "ab");
  CHECK(finds("[^\\s]+", "\xC2\xA0" "ab ") == "ab");
  CHECK(finds("\\w+", "-a\xCC\x81_\xD9\xA3-") == "a\xCC\x81_\xD9\xA3");
  CHECK(finds("\\d+", "a\xD9\xA3" "4") == "\xD9\xA3" "4");
  CHECK(finds("\\u0041", "xA") == "A");
  CHECK(finds("[]x]+", "a]x") == "]x");
  CHECK(finds("[[:alpha:]]+", "1ab2") == "ab");
  CHECK(finds("a$", "a\nb") == "a");
  CHECK(finds("(?i:'s)", "it'S") == "'S");
  CHECK(finds("\\p{Han}+", "a\xE5\xA5\xBD") == "\xE5\xA5\xBD");
  for (const char* bad : {"\\h", "\\R", "\\u12", "[a&&b]", "[a[b]]", "x{1,3}+", "[[:x"}) {
    INFO(bad);
    CHECK_FALSE(ba::from_oniguruma(bad));
  }
  CHECK(ba::from_oniguruma("a{b}+"));  // no repetition
  // A literal text matches itself, whatever is in it.
  for (const std::string text : {"a.b", "(", "[x]", "\\E", " #", "\xE2\x96\x81", "\n", "^$|?*+{}"}) {
    const auto p = ba::pattern::compile(ba::literal_pattern(text));
    REQUIRE(p);
    ba::pattern::matcher m(8);
    const std::string around = "zz" + text + "zz";
    CHECK(p->find(around, 0, m) == std::pair<std::size_t, std::size_t>{2, 2 + text.size()});
  }
}

TEST_CASE("a pattern that takes too many steps is given up, and said so", "[text]") {
  const auto p = ba::pretokenizer::make(std::vector<ba::split_step>{at("(a|aa)+$x|b", ba::split_behavior::isolated)});
  REQUIRE(p);
  const std::string hostile(60, 'a');
  std::string joined;
  const auto sink = [&](std::string_view word) { joined += word; };
  CHECK_FALSE(p->split(hostile + "b", sink));
  CHECK(joined == hostile + "b");
  joined.clear();
  CHECK(p->split("aab", sink));
  CHECK(joined == "aab");

  auto v = ba::byte_vocabulary();
  v.has_steps = true;
  v.splits = {at("(a|aa)+$x|b", ba::split_behavior::isolated)};
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  CHECK(words->try_encode("aab").value().size() == 3);
  const auto refused = words->try_encode(hostile);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ba::errc::unsupported);
  CHECK(words->decode(words->encode(hostile)) == hostile);
}
