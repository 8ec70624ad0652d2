// SPDX-License-Identifier: MIT
/// A trained vocabulary: against a trainer that counts everything anew at each step; the same ids through a GGUF file.
#include "blockattn/text/bpe_trainer.hpp"

#include <map>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "blockattn/io/gguf.hpp"
#include "blockattn/text/gguf_tokenizer.hpp"
#include "blockattn/text/gguf_vocabulary.hpp"

namespace {

namespace ba = blockattn;

const std::string text =
    "The baker sells bread. The baker's daughter sells butter; the brewer sells beer.\nBetter bread than butter, "
    "better butter than beer, he says: 12 barrels, 120 barrels, 1200 barrels of \xC3\xA4pfel und \xC3\x84rger.\n\n";

ba::vocabulary trained(std::size_t pieces, const std::vector<std::string>& texts, std::uint64_t least = 2) {
  auto learner = ba::bpe_trainer::make({.pieces = pieces, .least = least});
  REQUIRE(learner);
  for (const std::string& t : texts) learner->add(t);
  return learner->train();
}

// All pairs of all words counted before every merge.
std::vector<std::string> naive_merges(std::size_t merges, const std::string& from) {
  std::map<std::string, std::uint64_t> words;
  ba::pretokenizer::make("gpt-2").value().split(from, [&](std::string_view w) { ++words[std::string(w)]; });
  std::vector<std::string> pieces = ba::byte_vocabulary().pieces;
  std::vector<std::pair<std::vector<std::size_t>, std::uint64_t>> all;
  for (const auto& [w, n] : words) {
    all.push_back({{}, n});
    for (const char c : w) all.back().first.push_back(static_cast<unsigned char>(c));
  }
  std::vector<std::string> out;
  while (out.size() < merges) {
    std::map<std::pair<std::size_t, std::size_t>, std::uint64_t> counts;
    for (const auto& [w, n] : all)
      for (std::size_t i = 1; i < w.size(); ++i) counts[{w[i - 1], w[i]}] += n;
    auto best = counts.begin();
    for (auto it = counts.begin(); it != counts.end(); ++it)
      if (it->second > best->second) best = it;
    if (best == counts.end() || best->second < 2) break;
    const auto [a, b] = best->first;
    out.push_back(pieces[a] + " " + pieces[b]);
    for (auto& [w, n] : all) {
      std::vector<std::size_t> merged;
      for (std::size_t i = 0; i < w.size(); ++i) {
        const bool here = i + 1 < w.size() && w[i] == a && w[i + 1] == b;
        merged.push_back(here ? pieces.size() : w[i]);
        i += here ? 1 : 0;
      }
      w = merged;
    }
    pieces.push_back(pieces[a] + pieces[b]);
  }
  return out;
}

}  // namespace

TEST_CASE("bpe_trainer: the merges of a trainer that counts anew each time", "[text][bpe_trainer]") {
  CHECK(trained(258 + 60, {text}).merges == naive_merges(60, text));
  CHECK(trained(4096, {text}).merges == naive_merges(4096, text));
  // Runs of one letter, where a pair overlaps itself.
  std::string runs;
  blockattn_test::random_numbers random(5);
  for (int i = 0; i < 200; ++i) {
    runs += ' ';
    for (std::size_t k = 0, n = 1 + random.below(9); k < n; ++k) runs += static_cast<char>('a' + random.below(2));
  }
  CHECK(trained(4096, {runs}).merges == naive_merges(4096, runs));
}

TEST_CASE("bpe_trainer: the order of texts does not matter, and any bytes come back", "[text][bpe_trainer]") {
  const ba::vocabulary v = trained(320, {text, "one two", "two three"});
  CHECK(v.pieces == trained(320, {"two three", text, "one two"}).pieces);
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  CHECK(words->lossless());
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  for (const std::string& t : {text, bytes, std::string("caf\xC3\xA9  \n\n\t x")}) CHECK(words->decode(words->encode(t)) == t);
  CHECK(words->encode(text).size() < text.size() / 2);
}

TEST_CASE("bpe_trainer: rare pairs stay apart; markers are pieces", "[text][bpe_trainer]") {
  CHECK(trained(4096, {"abc abd"}, 3).merges.empty());
  auto learner = ba::bpe_trainer::make({.pieces = 400, .markers = {"<|turn|>"}});
  REQUIRE(learner);
  learner->add(text);
  const ba::vocabulary v = learner->train();
  CHECK(v.pieces[258] == "<|turn|>");
  CHECK(v.bos == 256);
  CHECK(v.eos == 257);
  const auto words = ba::tokenizer::from_vocabulary(v);
  REQUIRE(words);
  CHECK(words->add_bos());
  CHECK(words->encode("<|turn|>", {.special = true}) == std::vector<ba::token>{258});
  CHECK(words->encode("<|turn|>").size() > 1);
}

TEST_CASE("bpe_trainer: options that cannot be met", "[text][bpe_trainer]") {
  CHECK(ba::bpe_trainer::make({.pieces = 257}).error().code == ba::errc::invalid_argument);
  CHECK(ba::bpe_trainer::make({.pieces = 258, .markers = {"x"}}).error().code == ba::errc::invalid_argument);
  CHECK(ba::bpe_trainer::make({.pre = "no such kind"}).error().code == ba::errc::unsupported);
}

TEST_CASE("gguf_vocabulary: a vocabulary comes back from the metadata of a file", "[text][bpe_trainer]") {
  auto learner = ba::bpe_trainer::make({.pieces = 400, .markers = {"<|turn|>"}, .add_bos = true});
  REQUIRE(learner);
  learner->add(text);
  ba::vocabulary spm;
  spm.pieces = {"<unk>", "<s>", "</s>", "a", "b", "ab"};
  spm.scores = {0, 0, 0, -1, -2, -0.5f};
  spm.types = {2, 3, 3, 1, 1, 1};
  spm.unk = 0, spm.bos = 1, spm.eos = 2;
  spm.add_bos = spm.add_space_prefix = true;
  ba::vocabulary bare = ba::byte_vocabulary();
  bare.bos = bare.eos = -1;
  for (const ba::vocabulary& v : {learner->train(), spm, bare}) {
    ba::gguf_head head;
    REQUIRE(ba::add_vocabulary(head, v));
    const auto bytes = head.bytes();
    const auto file = ba::gguf_file::from_memory(bytes);
    if (!file) FAIL(file.error().message);
    const auto back = ba::read_vocabulary(*file);
    REQUIRE(back);
    CHECK(back->model == v.model);
    CHECK(back->pieces == v.pieces);
    CHECK(back->merges == v.merges);
    CHECK(back->types == v.types);
    CHECK(back->scores == v.scores);
    CHECK(back->bos == v.bos);
    CHECK(back->eos == v.eos);
    CHECK(back->unk == v.unk);
    CHECK(back->add_bos == v.add_bos);
    CHECK(back->add_space_prefix == v.add_space_prefix);
    const auto before = ba::tokenizer::from_vocabulary(v), after = ba::make_tokenizer(*file);
    REQUIRE(before);
    REQUIRE(after);
    CHECK(before->encode(text) == after->encode(text));
  }
  ba::vocabulary steps = ba::byte_vocabulary();
  steps.has_steps = true;
  ba::gguf_head head;
  CHECK(ba::add_vocabulary(head, steps).error().code == ba::errc::unsupported);
}
