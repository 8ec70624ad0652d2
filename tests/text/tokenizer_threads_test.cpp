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
