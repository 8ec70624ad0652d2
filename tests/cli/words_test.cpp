// SPDX-License-Identifier: MIT
// Words from tokenizer.json and tiktoken ranks, and `tokenize` block by block.
#include <seams.hpp>

#include <random>

#include "../support/data.hpp"
#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

namespace {

using ids = std::vector<blockattn::token>;

// Bytes a, b, n, space and line break, and the pieces "ab", " a", " ab" in the order of their merging.
std::string tiny_words() {
  const json vocab = {{"a", 0},        {"b", 1},  {"n", 2},
                      {"\xC4\xA0", 3}, {"\xC4\x8A", 4}, {"ab", 5},
                      {"\xC4\xA0" "ab", 6}, {"\xC4\x8A\xC4\x8A", 7}};
  return json{{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"a b", "\xC4\xA0 ab", "\xC4\x8A \xC4\x8A"}}}},
              {"added_tokens", json::array()},
              {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}},
              {"decoder", {{"type", "ByteLevel"}}}}
      .dump();
}

}  // namespace

TEST_CASE("cli: where two lists of ids differ") {
  const auto seams = [](const ids& whole, const std::vector<ids>& blocks) { return cli::find_seams(whole, blocks); };
  CHECK(seams({}, {}).empty());
  CHECK(seams({1, 2, 3}, {{1}, {2, 3}}).empty());
  const auto one = seams({1, 2, 9, 5, 6, 7}, {{1, 2, 3}, {4, 5, 6, 7}});
  REQUIRE(one.size() == 1);
  CHECK(one[0].block == 0);
  CHECK(one[0].whole_at == 2);
  CHECK(one[0].blocks_at == 2);
  CHECK(one[0].whole == ids{9});
  CHECK(one[0].blocks == ids{3, 4});
  const auto end = seams({1, 2}, {{1, 2}, {3}});
  REQUIRE(end.size() == 1);
  CHECK(end[0].block == 1);
  CHECK(end[0].whole.empty());
  CHECK(end[0].blocks == ids{3});
  // Putting the other side in gives the other list, whatever the lists.
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    ids whole;
    for (std::size_t n = random() % 200; n-- > 0;) whole.push_back(static_cast<blockattn::token>(random() % 4));
    ids joined = whole;
    for (std::size_t n = random() % 6; n-- > 0 && !joined.empty();)
      joined[random() % joined.size()] = static_cast<blockattn::token>(random() % 4);
    if (!joined.empty() && round % 3 == 0)
      joined.erase(joined.begin() + static_cast<std::ptrdiff_t>(random() % joined.size()));
    const auto found = seams(whole, {joined});
    ids rebuilt;
    std::size_t at = 0;
    for (const auto& s : found) {
      rebuilt.insert(rebuilt.end(), whole.begin() + static_cast<std::ptrdiff_t>(at),
                     whole.begin() + static_cast<std::ptrdiff_t>(s.whole_at));
      rebuilt.insert(rebuilt.end(), s.blocks.begin(), s.blocks.end());
      at = s.whole_at + s.whole.size();
    }
    rebuilt.insert(rebuilt.end(), whole.begin() + static_cast<std::ptrdiff_t>(at), whole.end());
    CHECK(rebuilt == joined);
    CHECK(found.empty() == (whole == joined));
  }
  CHECK(cli::cut_after("a--b--", "--") == std::vector<std::string_view>{"a--", "b--"});
  CHECK(cli::cut_after("ab", "--") == std::vector<std::string_view>{"ab"});
  CHECK(cli::unescaped("\\n\\t\\\\x\\q") == "\n\t\\x\\q");
}

TEST_CASE("cli: tokenize block by block says whether it is the same") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string words = folder.file("tokenizer.json", tiny_words());
  CHECK(run_json({"tokenize", "--model", words, "--text", "ab ab"})["ids"] == json({5, 6}));
  CHECK(run_json({"tokenize", "--model", folder.path(), "--text", "ab"})["ids"] == json({5}));
  CHECK(run_json({"detokenize", "--model", words, "--ids", "5,6,4"})["text"] == "ab ab\n");

  const std::string text = folder.file("text", std::string("ab\n\nab ab\n\nba"));
  const json same = run_json({"tokenize", "--model", words, "--file", text, "--cut", "\\n\\n"});
  CHECK(same["ids"] == json({5, 7, 5, 6, 7, 1, 0}));
  CHECK(same["equal"] == true);
  CHECK(same["differences"].empty());
  REQUIRE(same["blocks"].size() == 3);
  CHECK(same["blocks"][1] == json({{"bytes", 7}, {"tokens", 3}, {"start", 2}, {"ids", {5, 6, 7}}}));

  // Cut inside a word, and between the two line breaks that would be one piece.
  const json other = run_json({"tokenize", "--model", words, "--file", text, "--blocks", "3,3,7"});
  CHECK(other["equal"] == false);
  REQUIRE(other["differences"].size() == 1);
  CHECK(other["differences"][0] ==
        json({{"block", 0}, {"whole_at", 1}, {"blocks_at", 1}, {"whole", {7}}, {"blocks", {4, 4}}}));
  check_refused({"tokenize", "--model", words, "--file", text, "--blocks", "3,4"}, 1);
  check_refused({"tokenize", "--model", words, "--file", text, "--blocks", "3,4,6", "--cut", "x"}, 2);
}

TEST_CASE("cli: --tokenizer takes every format of words") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string ranks = folder.file("words.tiktoken", std::string("YQ== 0\nYg== 1\nYWI= 2\n"));
  CHECK(run_json({"tokenize", "--model", ranks, "--text", "aab"})["ids"] == json({0, 2}));
  const std::string damaged = folder.file("damaged.json", std::string("{\"model\": 1}"));
  const std::string why = check_refused({"tokenize", "--model", damaged, "--text", "a"}, 1);
  CHECK(why.find("$.model: expected an object, found 1") != std::string::npos);
  const std::string empty = folder.file("nothing", std::string());
  check_refused({"tokenize", "--model", empty, "--text", "a"}, 1);
  BLOCKATTN_REQUIRE_DATA(data);
  // The words of one model file stand in for those of another.
  const std::string model = (data / "models/stories260K-f32.gguf").string();
  for (const char* file : {"tokenizers/gpt2_tokenizer.json", "tokenizers/ggml-vocab-gpt-2.gguf"})
    CHECK(run_json({"tokenize", "--model", model, "--text", "hello world", "--tokenizer", data / file})["ids"] ==
          json({31373, 995}));
}
