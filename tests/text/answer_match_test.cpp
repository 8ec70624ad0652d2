// SPDX-License-Identifier: MIT
// The published metric of answers (PAPER 2.2).
#include <blockattn/text/answer_match.hpp>

#include <vector>

#include "../support/catch.hpp"

using blockattn::best_subspan_em;
using blockattn::exact_match;
using blockattn::normal_answer;

TEST_CASE("the normal form of an answer", "[text]") {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"Paris", "paris"},
      {"  The   Eiffel\tTower \n", "eiffel tower"},
      {"A cat and an apple, the end.", "cat and apple end"},
      // Punctuation is dropped, not replaced: words it joins become one.
      {"U.S.A.", "usa"},
      {"well-known", "wellknown"},
      {"don't", "dont"},
      {"(a) the 1st_item!", "1stitem"},
      {"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""},
      // Articles are whole words, and only these three.
      {"theatre another banana", "theatre another banana"},
      {"The The", ""},
      {"the a an", ""},
      {"these AN apple", "these apple"},
      {"A.", ""},
      // Punctuation goes first, then articles: "t.he" becomes one.
      {"t.he cat", "cat"},
      // Beyond ASCII: case folds for Latin-1, Greek and Cyrillic; signs stay but end words; spaces are spaces.
      {"ÉCOLE Über", "école über"},
      {"Ωμέγα МОСКВА Ёж", "ωμέγα москва ёж"},
      {"“The” answer", "“ ” answer"},
      {"the\u00A0cat\u3000sat", "cat sat"},
      {"naïve thé", "naïve thé"},
      {"ŁÓDŹ Škoda ŸÞ İ", "łódź škoda ÿþ İ"},
      {"NGUYỄN Ơ Ư ΆΈΏ Ҩ ՀԱՅ Ａ", "nguyễn ơ ư άέώ ҩ հայ ａ"},
      {"×", "×"},
  };
  for (const auto& [text, normal] : cases) {
    INFO(text);
    CHECK(normal_answer(text) == normal);
    CHECK(normal_answer(normal) == normal);
  }
  // Bytes that are no text do no harm.
  CHECK(normal_answer("a\xFF\xFE the\xC3") == "a\uFFFD\uFFFD the\uFFFD");
}

TEST_CASE("any answer within the output is right", "[text]") {
  const auto right = [](std::string_view output, std::vector<std::string> answers) {
    return best_subspan_em(output, answers);
  };
  CHECK(right("The capital is Paris.", {"paris"}));
  CHECK(right("It was the U.S. Senate", {"nobody", "us senate"}));
  CHECK(right("He said: \"An apple\"", {"The Apple"}));
  CHECK(right("parisian", {"Paris"}));  // a part of the text, not of its words
  CHECK_FALSE(right("Par is", {"Paris"}));
  CHECK_FALSE(right("", {"Paris"}));
  CHECK_FALSE(right("Paris", {}));
  CHECK_FALSE(right("Paris", {"Paris, France"}));
  CHECK(right("anything", {"The"}));  // as published: an answer without a normal form is a part of everything
}

TEST_CASE("an exact match is the whole output", "[text]") {
  const std::vector<std::string> answers = {"Paris", "the U.S."};
  CHECK(exact_match("  paris.", answers));
  CHECK(exact_match("US", answers));
  CHECK_FALSE(exact_match("Paris, France", answers));
  CHECK_FALSE(exact_match("", answers));
}
