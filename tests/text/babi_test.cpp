// SPDX-License-Identifier: MIT
/// Stories of bAbI: what a question sees, how sentences are grouped, what is no story.
#include "blockattn/text/babi.hpp"

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("babi: a question sees the sentences before it, in groups", "[text][babi]") {
  const auto all = ba::read_babi(
      "1 Mary went home.\n2 John slept.\n3 Where is Mary? \thome\t1\n4 Mary left.\r\n5 Who left?\tMary,John\t4 2\n"
      "1 A cat sat.\n\n2 What sat?\tcat\t1",
      2);
  REQUIRE(all);
  REQUIRE(all->size() == 3);
  CHECK((*all)[0] == ba::sample{{{"", "Mary went home. John slept."}}, "Where is Mary?", {"home"}});
  CHECK((*all)[1] == ba::sample{{{"", "Mary went home. John slept."}, {"", "Mary left."}}, "Who left?", {"Mary,John"}});
  CHECK((*all)[2] == ba::sample{{{"", "A cat sat."}}, "What sat?", {"cat"}});
  CHECK(ba::read_babi("", 1)->empty());
}

TEST_CASE("babi: what is no story is refused by line", "[text][babi]") {
  for (const char* bad : {"1 x\nno number\n", "1 x\n2\n", "1 x\n0 y\n", "1 x\n-1 y\n", "1 x\n99999999999999999999 y\n", "1 x\n2 q\t\t1\n", "1 x\n2 \ta\n"}) {
    const auto all = ba::read_babi(bad, 1);
    INFO(bad);
    REQUIRE(!all);
    CHECK(all.error().code == ba::errc::bad_format);
    CHECK(all.error().message.rfind("line 2: ", 0) == 0);
  }
  CHECK(ba::read_babi("1 x\n", 0).error().code == ba::errc::invalid_argument);
}
