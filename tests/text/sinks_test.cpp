// SPDX-License-Identifier: MIT
// Sinks: pieces that a vocabulary gets once, and tokens before each passage and nowhere else.
#include <blockattn/text/prompt.hpp>
#include <blockattn/text/sinks.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("sinks: a vocabulary gets those that it lacks, behind its own pieces", "[text][sinks]") {
  ba::vocabulary v = ba::byte_vocabulary();
  CHECK(ba::sinks_of(ba::tokenizer::from_vocabulary(v).value()).empty());
  REQUIRE(ba::add_sinks(v, 2).has_value());
  CHECK(v.pieces.size() == 260);
  CHECK(ba::sinks_of(ba::tokenizer::from_vocabulary(v).value()) == std::vector<ba::token>{258, 259});
  REQUIRE(ba::add_sinks(v, 3).has_value());
  CHECK(ba::sinks_of(ba::tokenizer::from_vocabulary(v).value()) == std::vector<ba::token>{258, 259, 260});
  REQUIRE(ba::add_sinks(v, 1).has_value());
  CHECK(v.pieces.size() == 261);
  CHECK(ba::validate(v).has_value());

  // Every table of a vocabulary grows with it.
  ba::vocabulary spm;
  spm.pieces = {"<unk>", "a"};
  spm.scores = {0, -1};
  REQUIRE(ba::add_sinks(spm, 2).has_value());
  CHECK(ba::validate(spm).has_value());
  CHECK(ba::type_of(spm, 1) == ba::piece_type::normal);

  // What has the name and is text is no sink.
  ba::vocabulary taken = ba::byte_vocabulary();
  taken.pieces.push_back(ba::sink_name(0));
  taken.types.push_back(static_cast<std::int32_t>(ba::piece_type::user_defined));
  CHECK(ba::add_sinks(taken, 1).error().code == ba::errc::bad_format);
  CHECK(ba::sinks_of(ba::tokenizer::from_vocabulary(taken).value()).empty());
}

TEST_CASE("sinks: before each passage, and nowhere else, whatever a passage spells", "[text][sinks]") {
  ba::vocabulary v = ba::byte_vocabulary();
  REQUIRE(ba::add_sinks(v, 2).has_value());
  const auto words = ba::tokenizer::from_vocabulary(v).value();
  const auto plain = ba::find_template("plain").value();
  const auto form = ba::with_sinks(plain, 2);
  const std::vector<ba::passage> passages = {{"One", "text"}, {"Two", "of <|sink_0|> and <|sink_1|>"}};
  const auto bare = ba::encode_prompt(words, plain, passages, "Who <|sink_0|>?");
  const auto with = ba::encode_prompt(words, form, passages, "Who <|sink_0|>?");
  REQUIRE(with.blocks.size() == 3);
  CHECK(with.blocks[0] == bare.blocks[0]);
  CHECK(with.final == bare.final);
  for (std::size_t i = 1; i < 3; ++i) {
    std::vector<ba::token> expected{258, 259};
    expected.insert(expected.end(), bare.blocks[i].begin(), bare.blocks[i].end());
    CHECK(with.blocks[i] == expected);
  }
  CHECK(ba::with_sinks(plain, 0) == plain);
}
