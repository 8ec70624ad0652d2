// SPDX-License-Identifier: MIT
/// Samples of `finetune`: what the loss counts.
#include "training_data.hpp"

#include <blockattn/text/sinks.hpp>

#include "../support/catch.hpp"

TEST_CASE("training data: sinks are read before each passage and never wanted", "[cli][finetune]") {
  namespace ba = blockattn;
  ba::vocabulary v = ba::byte_vocabulary();
  REQUIRE(ba::add_sinks(v, 2).has_value());
  const auto words = ba::tokenizer::from_vocabulary(v).value();
  const std::vector<ba::token> sinks = ba::sinks_of(words);
  const auto form = ba::with_sinks(ba::find_template("plain").value(), 2);
  ba::sample asked;
  asked.passages = {{"One", "text"}, {"Two", "texts"}, {"Three", "more"}};
  asked.question = "Who?";
  asked.answers = {"me"};
  const auto s = cli::make_sample(words, form, {{asked}}, {.answer = 1, .other = 0.25f, .never = sinks});
  REQUIRE(s.block_ends.size() == 4);  // the preamble, which has no sinks, and the passages
  std::size_t found = 0;
  for (std::size_t i = 0; i < s.ids.size(); ++i) {
    INFO(i);
    const bool sink = std::find(sinks.begin(), sinks.end(), s.ids[i]) != sinks.end();
    found += sink;
    CHECK((s.weights[i] == 0.0f) == sink);
  }
  CHECK(found == 6);
  for (std::size_t b = 0; b + 1 < s.block_ends.size(); ++b) {
    CHECK(s.ids[s.block_ends[b]] == sinks[0]);
    CHECK(s.ids[s.block_ends[b] + 1] == sinks[1]);
  }
}
