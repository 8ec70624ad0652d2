// SPDX-License-Identifier: MIT
// The published metric of answers, and likelihoods (PAPER 2.2).
#include "score.hpp"

#include <cmath>

#include "program.hpp"

using cli::best_subspan_em;
using cli::normal_answer;

TEST_CASE("score: the normal form of an answer") {
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

TEST_CASE("score: any answer within the output is right") {
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

TEST_CASE("score: the likelihood of a token") {
  const std::vector<float> equal(8, 3.0f);
  CHECK(cli::negative_log_likelihood(equal, 5) == Approx(std::log(8.0)));
  // Sizes where a naive sum of exponentials overflows.
  const std::vector<float> large{1000.0f, 999.0f, -1000.0f};
  CHECK(cli::negative_log_likelihood(large, 0) == Approx(std::log1p(std::exp(-1.0))));
  CHECK(cli::negative_log_likelihood(large, 2) == Approx(2000 + std::log1p(std::exp(-1.0))));
}

TEST_CASE("score: lines of a dataset") {
  const blockattn_test::temporary_folder folder;
  const auto read = [&](const std::string& text) { return cli::read_samples(folder.file("d.jsonl", text)); };
  const auto good = read(
      "{\"passages\":[{\"title\":\"t\",\"text\":\"x\\ny\"},{\"text\":\"\"}],\"question\":\"q\","
      "\"answers\":[\"a\",\"b\"],\"more\":1}\r\n\n");
  REQUIRE(good);
  REQUIRE(good->size() == 1);
  CHECK(good->front().passages.size() == 2);
  CHECK(good->front().passages[0].text == "x\ny");
  CHECK(good->front().question == "q");
  CHECK(good->front().answers == std::vector<std::string>{"a", "b"});
  CHECK(read("")->empty());
  const std::string ok = "{\"passages\":[],\"question\":\"q\",\"answers\":[\"a\"]}\n";
  for (const std::string bad :
       {"{", "[]", "{\"passages\":{},\"question\":\"q\",\"answers\":[\"a\"]}", "{\"passages\":[],\"answers\":[\"a\"]}",
        "{\"passages\":[],\"question\":\"q\"}", "{\"passages\":[],\"question\":\"q\",\"answers\":[]}",
        "{\"passages\":[],\"question\":\"q\",\"answers\":[1]}", "{\"passages\":[],\"question\":2,\"answers\":[\"a\"]}",
        "{\"passages\":[\"text\"],\"question\":\"q\",\"answers\":[\"a\"]}",
        "{\"passages\":[{\"title\":\"t\"}],\"question\":\"q\",\"answers\":[\"a\"]}",
        "{\"passages\":[{\"text\":\"\xFF\"}],\"question\":\"q\",\"answers\":[\"a\"]}"}) {
    const auto result = read(ok + bad + "\n");
    INFO(bad);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == blockattn::errc::bad_format);
    CHECK(result.error().message.find("line 2") != std::string::npos);
  }
}
