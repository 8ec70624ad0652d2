// SPDX-License-Identifier: MIT
#include <blockattn/text/tokenizer.hpp>

#include <limits>
#include <random>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

using ids = std::vector<ba::token>;

ba::tokenizer make(ba::vocabulary v) {
  auto words = ba::tokenizer::from_vocabulary(std::move(v));
  if (!words) FAIL(words.error().message);
  return *std::move(words);
}

// Bytes, then words with their merges in order of score, then what is not text.
ba::vocabulary spm_vocabulary() {
  ba::vocabulary v;
  v.pieces = {"<unk>", "<s>", "</s>"};
  v.types = {2, 3, 3};
  for (int b = 0; b < 256; ++b) {
    const char* digits = "0123456789ABCDEF";
    v.pieces.push_back(std::string("<0x") + digits[b / 16] + digits[b % 16] + ">");
    v.types.push_back(6);
  }
  for (const char* piece :
       {"\xE2\x96\x81", "h", "i", "\xE2\x96\x81h", "\xE2\x96\x81hi", "\xE2\x96\x81\xE2\x96\x81", "<", ">"}) {
    v.pieces.emplace_back(piece);
    v.types.push_back(1);
  }
  v.pieces.emplace_back("<tool>");
  v.types.push_back(4);
  v.pieces.emplace_back("[INST]");
  v.types.push_back(3);
  v.pieces.emplace_back("<s");  // would let a naive merge spell the begin token
  v.types.push_back(1);
  for (std::size_t i = 0; i < v.pieces.size(); ++i) v.scores.push_back(-static_cast<float>(i));
  v.unk = 0;
  v.bos = 1;
  v.eos = 2;
  v.add_bos = true;
  v.add_space_prefix = true;
  return v;
}

enum : ba::token { space = 259, h, i, space_h, space_hi, two_spaces, less, greater, tool, inst };
constexpr ba::token byte(int b) { return 3 + b; }

ba::vocabulary bpe_vocabulary() {
  ba::vocabulary v = ba::byte_vocabulary();
  for (const char* piece : {"hi", "\xC4\xA0h", "\xC4\xA0hi"}) {
    v.pieces.emplace_back(piece);
    v.types.push_back(1);
  }
  v.merges = {"h i", "\xC4\xA0 h", "\xC4\xA0 hi"};
  v.pieces.emplace_back("<tool>");
  v.types.push_back(4);
  v.stops = {260};
  return v;
}

}  // namespace

TEST_CASE("SentencePiece text to ids and back", "[text]") {
  const ba::tokenizer words = make(spm_vocabulary());
  CHECK(words.lossless());
  CHECK(words.encode("") == ids{});
  CHECK(words.encode("hi") == ids{space_hi});
  CHECK(words.encode("hi", {.bos = true}) == ids{1, space_hi});
  CHECK(words.encode(" hi") == ids{space, space_hi});
  CHECK(words.encode("hi hi  h") == ids{space_hi, space_hi, space, space_h});
  CHECK(words.encode("x") == ids{space, byte('x')});
  CHECK(words.encode("\xC3\xA9") == ids{space, byte(0xC3), byte(0xA9)});
  // The marker itself is a character like any other.
  CHECK(words.encode("\xE2\x96\x81") == ids{space, byte(0xE2), byte(0x96), byte(0x81)});

  CHECK(words.decode(ids{1, space_hi, space_hi, 2}) == "hi hi");
  CHECK(words.decode(ids{1, space_hi, 2}, {.special = true}) == "<s>hi</s>");
  CHECK(words.decode(ids{space_hi, space_hi}, {.continues = true}) == " hi hi");
  CHECK(words.decode(ids{space_hi, 1, space_hi}) == "hihi");
  CHECK(words.decode(ids{0}) == "");
  CHECK(words.decode(space_hi) == " hi");
  CHECK(words.decode(byte('x')) == "x");
  CHECK(words.piece(space_hi) == "\xE2\x96\x81hi");
}

TEST_CASE("without a prefix the text begins where it begins", "[text]") {
  auto v = spm_vocabulary();
  v.add_space_prefix = false;
  const ba::tokenizer words = make(v);
  CHECK(words.encode("hi") == ids{h, i});
  CHECK(words.encode(" hi") == ids{space_hi});
  CHECK(words.decode(words.encode(" hi")) == " hi");
}

TEST_CASE("control pieces are never found in text unless asked for", "[text]") {
  const ba::tokenizer words = make(spm_vocabulary());
  const ids plain = words.encode("<s>hi</s>");
  for (const ba::token id : plain) CHECK(words.type(id) != ba::piece_type::control);
  CHECK(words.decode(plain) == "<s>hi</s>");
  CHECK(words.encode("<s>hi</s>", {.special = true}) == ids{1, space_hi, 2});
  CHECK(words.encode("hi[INST]hi", {.special = true}) == ids{space_hi, inst, space_hi});
  // User-defined pieces are words: always found, and no space comes before what follows.
  CHECK(words.encode("hi<tool>hi") == ids{space_hi, tool, h, i});
  CHECK(words.decode(words.encode("hi<tool>hi")) == "hi<tool>hi");
  CHECK(words.encode("<tool> hi") == ids{tool, space_hi});
  CHECK(words.decode(words.encode("<tool> hi")) == "<tool> hi");
  CHECK(words.encode("<too") == words.encode("<too", {.special = true}));
}

TEST_CASE("the longest special piece at the leftmost place wins", "[text]") {
  ba::special_tokens specials;
  specials.add("<a>", 5, true);
  specials.add("<a><b>", 6, true);
  specials.add("<a>", 3, true);
  specials.add("a", 7, false);
  specials.sort();
  const auto at = [&](std::string_view text, bool control) {
    const auto hit = specials.next(text, 0, control);
    return std::vector<std::size_t>{hit.begin, hit.size, static_cast<std::size_t>(hit.id)};
  };
  CHECK(at("x<a><b>", true) == std::vector<std::size_t>{1, 6, 6});
  CHECK(at("x<a><c>", true) == std::vector<std::size_t>{1, 3, 3});
  CHECK(at("x<a><b>", false) == std::vector<std::size_t>{2, 1, 7});
  CHECK(specials.next("x<b", 0, true).size == 0);
  CHECK(specials.next("", 0, true).size == 0);
}

TEST_CASE("byte-level text to ids and back", "[text]") {
  const ba::tokenizer words = make(bpe_vocabulary());
  CHECK(words.lossless());
  CHECK(words.encode("hi hi") == ids{258, 260});
  CHECK(words.encode("h i") == ids{'h', ' ', 'i'});
  CHECK(words.encode("x<tool>", {.bos = true}) == ids{256, 'x', 261});
  CHECK(words.encode("<|begin|>").size() == 9);
  CHECK(words.encode("<|begin|>", {.special = true}) == ids{256});
  CHECK(words.decode(ids{256, 258, 260, 257}) == "hi hi");
  CHECK(words.decode(ids{260}) == " hi");  // nothing is stripped
  CHECK(words.decode(ids{256, 258}, {.special = true}) == "<|begin|>hi");
  CHECK(words.is_stop(257));
  CHECK(words.is_stop(260));
  CHECK_FALSE(words.is_stop(258));
  CHECK_FALSE(words.is_stop(-1));
  CHECK(words.stops().size() == 2);
}

TEST_CASE("a word that is a piece stays whole where the pre-tokenizer says so", "[text]") {
  auto v = bpe_vocabulary();
  v.merges.clear();
  CHECK(make(v).encode(" hi") == ids{' ', 'h', 'i'});
  v.pre = "llama-bpe";
  CHECK(make(v).encode(" hi") == ids{260});
  CHECK(make(v).encode(" hix") == ids{' ', 'h', 'i', 'x'});
}

TEST_CASE("text outside a vocabulary becomes the unknown piece, or nothing", "[text]") {
  ba::vocabulary v;
  v.pieces = {"<unk>", "a"};
  v.types = {2, 1};
  v.scores = {0, 0};
  v.unk = 0;
  CHECK(make(v).encode("a\xC3\xA9"
                       "a") == ids{1, 0, 1});
  CHECK_FALSE(make(v).lossless());
  v.unk = -1;
  CHECK(make(v).encode("a\xC3\xA9"
                       "a") == ids{1, 1});
  v.model = ba::vocabulary::kind::bpe;
  v.pre = "gpt-2";
  CHECK(make(v).encode("aba") == ids{1, 1});
  v.unk = 0;
  CHECK(make(v).encode("aba") == ids{1, 0, 1});
}

TEST_CASE("ids that the vocabulary lacks have no text", "[text]") {
  for (const auto& v : {spm_vocabulary(), bpe_vocabulary()}) {
    const ba::tokenizer words = make(v);
    const auto past = static_cast<ba::token>(words.size());
    for (const ba::token id :
         {past, past + 1, -1, std::numeric_limits<ba::token>::max(), std::numeric_limits<ba::token>::min()}) {
      CHECK(words.decode(id) == "");
      CHECK(words.piece(id) == "");
      CHECK(words.decode(ids{id, 100, id}) == words.decode(ids{100}));
      CHECK_FALSE(words.is_stop(id));
      CHECK_FALSE(words.contains(id));
      CHECK(words.type(id) == ba::piece_type::unused);
    }
  }
}

TEST_CASE("decoding what was encoded gives the text back", "[text][law]") {
  std::mt19937 random(3);
  const std::vector<std::string> parts = {"hi",
                                          "h",
                                          " ",
                                          "  ",
                                          " hi",
                                          "<s>",
                                          "<tool>",
                                          "<",
                                          "\n",
                                          "x",
                                          "\xC3\xA9",
                                          "\xE2\x96\x81",
                                          "\xF0\x9F\xA6\x99",
                                          "\xFF",
                                          "\x80",
                                          std::string(1, '\0'),
                                          "[INST]"};
  auto across = spm_vocabulary();
  across.pieces.emplace_back("i\xE2\x96\x81");
  across.types.push_back(1);
  across.scores.push_back(1);
  auto plain = spm_vocabulary();
  plain.add_space_prefix = false;
  for (const auto& v : {spm_vocabulary(), plain, across, bpe_vocabulary(), ba::byte_vocabulary(300)}) {
    const ba::tokenizer words = make(v);
    REQUIRE(words.lossless());
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (std::size_t n = random() % 80; n-- > 0;) text += parts[random() % parts.size()];
      const ids found = words.encode(text);
      INFO('"' << text << '"');
      CHECK(words.decode(found) == text);
      CHECK(words.encode(text) == found);
      // A begin token in front changes nothing behind it.
      ids with_bos = words.encode(text, {.bos = true});
      REQUIRE_FALSE(with_bos.empty());
      CHECK(with_bos.front() == words.bos());
      with_bos.erase(with_bos.begin());
      CHECK(with_bos == found);
    }
  }
}

TEST_CASE("texts are encoded one by one", "[text]") {
  const ba::tokenizer words = make(spm_vocabulary());
  const std::vector<std::string> texts = {"hi", "", "x hi"};
  const auto all = words.encode_each(texts);
  REQUIRE(all.size() == 3);
  for (std::size_t k = 0; k < 3; ++k) CHECK(all[k] == words.encode(texts[k]));
  const std::string_view views[] = {"hi", "h"};
  CHECK(words.encode_each(std::span<const std::string_view>(views), {.bos = true})[1] ==
        words.encode("h", {.bos = true}));
}

TEST_CASE("pieces are found by name", "[text]") {
  const ba::tokenizer words = make(bpe_vocabulary());
  CHECK(words.find("<tool>") == 261);
  CHECK(words.find("\xC4\xA0hi") == 260);
  CHECK_FALSE(words.find("nothing").has_value());
  auto v = bpe_vocabulary();
  v.pieces.emplace_back("hi");  // twice: the lowest id is the piece
  v.types.push_back(1);
  CHECK(make(v).find("hi") == 258);
  CHECK(make(v).encode("hi") == ids{258});
  CHECK(make(v).decode(262) == "hi");
}

TEST_CASE("a damaged vocabulary makes no tokenizer", "[text]") {
  auto v = spm_vocabulary();
  v.scores.pop_back();
  CHECK(ba::tokenizer::from_vocabulary(v).error().code == ba::errc::bad_format);
  v = bpe_vocabulary();
  v.merges.emplace_back("h nothing");
  CHECK(ba::tokenizer::from_vocabulary(v).error().code == ba::errc::bad_format);
  v = bpe_vocabulary();
  v.pre = "no-such-kind";
  const auto r = ba::tokenizer::from_vocabulary(v);
  REQUIRE_FALSE(r);
  CHECK(r.error().code == ba::errc::unsupported);
  CHECK(r.error().message.find("no-such-kind") != std::string::npos);
}
