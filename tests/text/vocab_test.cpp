// SPDX-License-Identifier: MIT
#include <blockattn/text/vocab.hpp>

#include <limits>
#include <set>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

ba::vocabulary small_spm() {
  ba::vocabulary v;
  v.pieces = {"<unk>", "<s>", "</s>", "<0x0A>", "a"};
  v.scores = {0, 0, 0, 0, -1};
  v.types = {2, 3, 3, 6, 1};
  v.unk = 0;
  v.bos = 1;
  v.eos = 2;
  return v;
}

void expect_bad(const ba::vocabulary& v, const std::string& names) {
  const auto r = ba::validate(v);
  REQUIRE_FALSE(r);
  INFO(r.error().message);
  CHECK(r.error().code == ba::errc::bad_format);
  CHECK(r.error().message.find(names) != std::string::npos);
}

}  // namespace

TEST_CASE("a good vocabulary is valid", "[text]") {
  CHECK(ba::validate(small_spm()));
  CHECK(ba::validate(ba::byte_vocabulary()));
  auto v = small_spm();
  v.types.clear();
  CHECK(ba::validate(v));
  // Pieces are counted bytes: a NUL inside one is a byte like any other.
  v.pieces[4] = std::string("a\0b", 3);
  CHECK(ba::validate(v));
}

TEST_CASE("a damaged vocabulary is an error that names what is wrong", "[text]") {
  ba::vocabulary v;
  expect_bad(v, "pieces");
  v = small_spm();
  v.scores.pop_back();
  expect_bad(v, "score");
  v = small_spm();
  v.scores.clear();
  expect_bad(v, "score");
  v = small_spm();
  v.scores[4] = std::numeric_limits<float>::quiet_NaN();
  expect_bad(v, "piece 4");
  v = small_spm();
  v.types.push_back(1);
  expect_bad(v, "type");
  for (const int type : {0, 7, -1, 1 << 30}) {
    v = small_spm();
    v.types[4] = type;
    expect_bad(v, "type of piece 4");
  }
  v = small_spm();
  v.pieces[4].clear();
  expect_bad(v, "piece 4");
  v = small_spm();
  v.pieces[3] = "<0xG0>";
  expect_bad(v, "byte piece 3");
  for (const ba::token id : {5, -2, std::numeric_limits<ba::token>::max(), std::numeric_limits<ba::token>::min()}) {
    v = small_spm();
    v.bos = id;
    expect_bad(v, "bos");
    v = small_spm();
    v.eos = id;
    expect_bad(v, "eos");
    v = small_spm();
    v.unk = id;
    expect_bad(v, "unknown");
    v = small_spm();
    v.stops = {1, id};
    expect_bad(v, "stop");
  }
}

TEST_CASE("byte pieces are read strictly", "[text]") {
  CHECK(ba::byte_of_piece("<0x00>") == 0);
  CHECK(ba::byte_of_piece("<0xFF>") == 255);
  CHECK(ba::byte_of_piece("<0x0a>") == 10);
  for (const char* piece : {"", "<0x>", "<0x0>", "<0x000>", "<0xGG>", "0x0A", "<0X0A>", "<0x0A> "})
    CHECK(ba::byte_of_piece(piece) == -1);
}

TEST_CASE("the byte alphabet is printable, has no spaces, and is undone by decoding", "[text]") {
  std::set<char32_t> seen;
  for (std::size_t b = 0; b < 256; ++b) {
    const char32_t c = ba::byte_alphabet[b];
    CHECK(seen.insert(c).second);
    std::string piece;
    ba::append_utf8(piece, c);
    CHECK(ba::bytes_of_piece(piece) == std::string(1, static_cast<char>(b)));
  }
  CHECK(ba::byte_alphabet[' '] == 0x120);   // the well-known Ġ
  CHECK(ba::byte_alphabet['\n'] == 0x10A);  // and Ċ
  CHECK(ba::byte_alphabet['A'] == 'A');
  // What the alphabet lacks stands for itself: a plain space, another script, bytes that are no text.
  CHECK(ba::bytes_of_piece("a b") == "a b");
  CHECK(ba::bytes_of_piece("\xE5\xA5\xBD") == "\xE5\xA5\xBD");
  CHECK(ba::bytes_of_piece("\xFF\xC4") == "\xFF\xC4");
}

TEST_CASE("a byte vocabulary has as many pieces as the model", "[text]") {
  CHECK(ba::byte_vocabulary().pieces.size() == 258);
  CHECK(ba::byte_vocabulary(10).pieces.size() == 258);
  const auto v = ba::byte_vocabulary(49152);
  CHECK(v.pieces.size() == 49152);
  CHECK(std::set<std::string>(v.pieces.begin(), v.pieces.end()).size() == 49152);
  CHECK(ba::validate(v));
}
