// SPDX-License-Identifier: MIT
#include <blockattn/text/tokenizer.hpp>

#include <thread>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("one tokenizer serves several threads", "[text][thread]") {
  ba::vocabulary v = ba::byte_vocabulary();
  v.pre = "falcon";
  v.pieces.insert(v.pieces.end(), {"aa", "aaaa", "11"});
  v.types.insert(v.types.end(), 3, 1);
  v.merges = {"a a", "aa aa", "1 1"};
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "aaaa 11 !!\n\n" + std::to_string(i);
  const auto expected = words->encode(text);
  std::vector<int> same(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < same.size(); ++t)
    threads.emplace_back([&, t] {
      const ba::tokenizer copy = *words;
      for (int i = 0; i < 20; ++i) same[t] += copy.encode(text) == expected && copy.decode(expected) == text;
    });
  for (std::thread& t : threads) t.join();
  CHECK(same == std::vector<int>(4, 20));
}

TEST_CASE("threads share a tokenizer with normal forms, steps and added tokens") {
  ba::vocabulary v = ba::byte_vocabulary();
  v.has_steps = true;
  v.normalizers = {{ba::normalize_step::kind::nfc}};
  v.splits = {{.pattern = "\\p{L}+|\\s+"}};
  v.pieces.emplace_back("\xC3\xA9");
  v.types.push_back(4);
  v.added = {{258, false, false, false, true}};
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  std::string text;
  for (int i = 0; i < 300; ++i) text += "cafe\xCC\x81 w\xC3\xB6rd " + std::to_string(i);
  const auto expected = words->encode(text);
  CHECK(std::find(expected.begin(), expected.end(), 258) != expected.end());
  std::vector<int> same(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < same.size(); ++t)
    threads.emplace_back([&, t] {
      const ba::tokenizer copy = *words;
      for (int i = 0; i < 20; ++i) same[t] += copy.encode(text) == expected;
    });
  for (std::thread& t : threads) t.join();
  CHECK(same == std::vector<int>(4, 20));
}
