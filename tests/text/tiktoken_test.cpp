// SPDX-License-Identifier: MIT
#include <blockattn/text/tiktoken.hpp>

#include <random>

#include "../support/catch.hpp"
#include "../support/temporary_folder.hpp"

namespace ba = blockattn;
using ids = std::vector<ba::token>;

namespace {

std::string base64(std::string_view bytes) {
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k)
      out += i + k > bytes.size() ? '=' : digits[bits >> (18 - 6 * k) & 63];
  }
  return out;
}

std::string ranks(const std::vector<std::string>& pieces) {
  std::string out;
  for (std::size_t i = 0; i < pieces.size(); ++i) out += base64(pieces[i]) + " " + std::to_string(i) + "\n";
  return out;
}

std::vector<std::string> all_bytes() {
  std::vector<std::string> out;
  for (int b = 0; b < 256; ++b) out.emplace_back(1, static_cast<char>(b));
  return out;
}

// tiktoken's definition: of all neighbours that together are a piece, the leftmost of lowest rank merges.
ids merge_slowly(const std::vector<std::string>& pieces, const std::string& word) {
  std::vector<std::string> parts;
  const auto rank = [&](const std::string& text) {
    return static_cast<std::size_t>(std::find(pieces.begin(), pieces.end(), text) - pieces.begin());
  };
  if (rank(word) < pieces.size()) return {static_cast<ba::token>(rank(word))};
  for (const char c : word) parts.emplace_back(1, c);
  for (;;) {
    std::size_t best = pieces.size(), at = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i)
      if (const std::size_t r = rank(parts[i] + parts[i + 1]); r < best) best = r, at = i;
    if (best == pieces.size()) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  ids out;
  for (const auto& part : parts) out.push_back(static_cast<ba::token>(rank(part)));
  return out;
}

std::string error(std::string_view file, const ba::tiktoken_options& o = {}) {
  const auto r = ba::read_tiktoken_tokenizer(file, o);
  return r ? std::string() : r.error().message;
}

}  // namespace

TEST_CASE("tiktoken ranks: merging equals the definition", "[text][law]") {
  auto pieces = all_bytes();
  for (const char* piece : {"ab", "ba", "aab", "bb", "aba", " a", "abab", " ab", "baa", "aaa", "aa", "bbb"})
    pieces.emplace_back(piece);
  const auto words = ba::read_tiktoken_tokenizer(ranks(pieces));
  if (!words) FAIL(words.error().message);
  CHECK(words->lossless());
  CHECK(words->size() == pieces.size());
  std::mt19937 random(8);
  for (int round = 0; round < 400; ++round) {
    std::string word;
    for (std::size_t n = 1 + random() % 70; n-- > 0;) word += "ab"[random() % 2];
    INFO(word);
    CHECK(words->encode(word) == merge_slowly(pieces, word));
    CHECK(words->decode(words->encode(word)) == word);
  }
  CHECK(words->decode(words->encode("any \xFF text\r\n")) == "any \xFF text\r\n");
}

TEST_CASE("tiktoken ranks: special pieces and the pattern are the caller's", "[text]") {
  ba::tiktoken_options o;
  o.specials = {{"<|begin|>", 256}, {"<|eot_id|>", 300}};
  o.bos = "<|begin|>";
  o.add_bos = true;
  o.pattern = "[a-z]+| +";
  const auto words = ba::read_tiktoken_tokenizer(ranks(all_bytes()), o);
  if (!words) FAIL(words.error().message);
  CHECK(words->size() == 301);
  CHECK(words->bos() == 256);
  CHECK(words->add_bos());
  CHECK(words->is_stop(300));
  CHECK(words->encode("a<|begin|>", {.special = true}) == ids{'a', 256});
  CHECK(words->encode("<|begin|>").size() == 9);
  CHECK(words->type(280) == ba::piece_type::unused);

  const auto llama = ba::llama3_tiktoken_options();
  REQUIRE(llama.specials.size() == 256);
  const auto id_of = [&](const char* name) {
    for (const auto& [text, id] : llama.specials)
      if (text == name) return id;
    return ba::token{-1};
  };
  CHECK(id_of("<|begin_of_text|>") == 128000);
  CHECK(id_of("<|end_of_text|>") == 128001);
  CHECK(id_of("<|start_header_id|>") == 128006);
  CHECK(id_of("<|end_header_id|>") == 128007);
  CHECK(id_of("<|eot_id|>") == 128009);
  CHECK(id_of("<|reserved_special_token_247|>") == 128255);
}

TEST_CASE("tiktoken ranks: a damaged file names its line", "[text]") {
  CHECK(error("") == "tiktoken ranks: expected pieces, found none");
  CHECK(error("YQ== 0\nYg==1\n") == "tiktoken ranks, line 2: expected base64, a space and a rank, found \"Yg==1\"");
  CHECK(error("YQ== 0\nY!== 1\n") == "tiktoken ranks, line 2: expected base64, found \"Y!==\"");
  CHECK(error("YR== 0\n").find("expected base64") != std::string::npos);  // bits beyond the last byte
  CHECK(error("YQ= 0\n").find("expected base64") != std::string::npos);
  CHECK(error(" 0\n").find("expected base64") != std::string::npos);
  for (const char* rank : {"x", "-1", "1.5", "", "16777216", "99999999999"})
    CHECK(error(std::string("YQ== ") + rank + "\n").find("line 1: expected a rank below 2^24") != std::string::npos);
  CHECK(error("YQ== 0\nYg== 0\n") == "tiktoken ranks: expected one piece of rank 0, found two");
  CHECK(error("YQ== 0\nYQ== 1\n").find("rank 1: expected a piece of its own, found that of rank 0") !=
        std::string::npos);
  CHECK(error("YQ== 5000\n").find("expected ranks below 1026 for 1 pieces, found 5000") != std::string::npos);
  CHECK(error(base64(std::string(257, 'a')) + " 0\n").find("at most 256 bytes") != std::string::npos);
  ba::tiktoken_options o;
  o.specials = {{"<x>", 0}};
  CHECK(error("YQ== 0\n", o).find("rank 0") != std::string::npos);
  o.specials = {{"<x>", -5}};
  CHECK(error("YQ== 0\n", o).find("<x>") != std::string::npos);
  o.specials.clear();
  o.pattern = "(";
  CHECK(error("YQ== 0\n", o).find("PCRE2") != std::string::npos);
  const blockattn_test::temporary_folder folder;
  const std::string name = folder.file("words.tiktoken", std::string("YQ== 0\r\n\r\nYg== 1"));
  CHECK(ba::open_tiktoken_tokenizer(name)->encode("ab") == ids{0, 1});
  CHECK(ba::open_tiktoken_tokenizer(folder / "none").error().message.find("none") != std::string::npos);
  CHECK(ba::looks_like_tiktoken("YQ== 0\n"));
  CHECK_FALSE(ba::looks_like_tiktoken("{\"model\": 1}"));
  CHECK_FALSE(ba::looks_like_tiktoken("hello world"));
}
