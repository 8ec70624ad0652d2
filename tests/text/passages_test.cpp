// SPDX-License-Identifier: MIT
#include <blockattn/text/passages.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("passages are read line by line", "[text]") {
  const auto p = ba::read_passages(
      "\xEF\xBB\xBF{\"title\":\"A\",\"text\":\"one\\ntwo\"}\r\n"
      "\n  \t\n"
      "{\"text\":\"no title\",\"id\":7}\n"
      "{\"title\":null,\"text\":\"\\u00e9\\ud83e\\udd99\\u0000\"}");
  REQUIRE(p);
  CHECK(*p == std::vector<ba::passage>{
                  {"A", "one\ntwo"}, {"", "no title"}, {"", std::string("\xC3\xA9\xF0\x9F\xA6\x99\0", 7)}});
  REQUIRE(ba::read_passages(""));
  CHECK(ba::read_passages("")->empty());
  CHECK(ba::read_passages("\n\n")->empty());
}

TEST_CASE("the first bad line is named", "[text]") {
  const std::string good = "{\"title\":\"A\",\"text\":\"x\"}\n\n";
  CHECK_FALSE(ba::read_passages(std::string("{\"text\":\"x\"}\0 nonsense", 22)));
  for (const std::string bad :
       {"{\"text\":\"x\"", "nonsense", "[]", "\"text\"", "7", "null", "{}", "{\"title\":\"A\"}", "{\"text\":7}",
        "{\"text\":null}", "{\"title\":7,\"text\":\"x\"}", "{\"text\":\"x\"} {\"text\":\"y\"}", "{\"text\":\"\xFF\"}",
        "{\"text\":\"\\ud800\"}", "{\"text\":1e999}", "{\"text\":\"x\",\"n\":1e999}", "\x01"}) {
    const auto p = ba::read_passages(good + bad + "\n" + good);
    INFO(bad);
    REQUIRE_FALSE(p);
    CHECK(p.error().code == ba::errc::bad_format);
    CHECK(p.error().message.find("line 3") != std::string::npos);
  }
}

TEST_CASE("depth and length are no danger", "[text]") {
  std::string deep = "{\"text\":";
  deep.append(200000, '[');
  CHECK_FALSE(ba::read_passages(deep));
  deep.append(200000, ']').append("}");
  CHECK_FALSE(ba::read_passages(deep));
  const std::string text(1 << 20, 'a');
  const auto p = ba::read_passages("{\"text\":\"" + text + "\"}");
  REQUIRE(p);
  CHECK((*p)[0].text.size() == text.size());
}

TEST_CASE("a file of passages that is not there is an error that names it", "[text]") {
  for (const char* file : {"no/such/passages.jsonl", "."}) {
    const auto p = ba::open_passages(file);
    REQUIRE_FALSE(p);
    CHECK(p.error().code == ba::errc::io);
    CHECK(p.error().message.find(file) != std::string::npos);
  }
}
