// SPDX-License-Identifier: MIT
#include <blockattn/text/llama2c_tokenizer.hpp>

#include <cstdio>
#include <limits>
#include <random>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

void put(std::string& out, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

struct entry {
  float score;
  std::string text;
};

std::string file_of(const std::vector<entry>& entries) {
  std::string out;
  put(out, 16);
  for (const entry& e : entries) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &e.score, 4);
    put(out, bits);
    put(out, static_cast<std::uint32_t>(e.text.size()));
    out += e.text;
  }
  return out;
}

std::vector<entry> small() {
  std::vector<entry> out = {{0, "<unk>"}, {0, "\n<s>\n"}, {0, "\n</s>\n"}};
  for (int b = 0; b < 256; ++b) {
    const char* digits = "0123456789ABCDEF";
    out.push_back({0, std::string("<0x") + digits[b / 16] + digits[b % 16] + ">"});
  }
  out.insert(out.end(), {{-1, " a"}, {-2, "bc"}, {-3, " "}, {-4, "a"}, {-5, "b"}, {-6, "c"}});
  return out;
}

auto read(const std::string& file, std::size_t pieces) {
  return ba::read_llama2c_tokenizer(std::as_bytes(std::span<const char>(file)), pieces);
}

using ids = std::vector<ba::token>;

}  // namespace

TEST_CASE("text to ids and back, as run.c does it", "[text]") {
  const auto words = read(file_of(small()), 265);
  REQUIRE(words);
  CHECK(words->size() == 265);
  CHECK(words->bos() == 1);
  CHECK(words->add_bos());
  CHECK(words->lossless());
  CHECK(words->is_stop(1));
  CHECK(words->is_stop(2));
  CHECK(words->encode("abc a", {.bos = true}) == ids{1, 259, 260, 259});
  CHECK(words->encode("", {.bos = true}) == ids{1});
  CHECK(words->encode("\xC3\xA9") == ids{261, 3 + 0xC3, 3 + 0xA9});
  CHECK(words->decode(ids{1, 259, 260, 259}) == "abc a");
  CHECK(words->decode(ids{0}) == "<unk>");
  CHECK(words->decode(ids{13}) == "\n");
  // The number of pieces may be left to the file.
  REQUIRE(read(file_of(small()), 0));
  CHECK(read(file_of(small()), 0)->size() == 265);
}

TEST_CASE("a file cut anywhere is an error that names the piece", "[text]") {
  const std::string file = file_of(small());
  for (std::size_t size = 0; size < file.size(); ++size) {
    const auto words = read(file.substr(0, size), 265);
    REQUIRE_FALSE(words);
    REQUIRE(words.error().code == ba::errc::bad_format);
    REQUIRE(words.error().message.find(size < 4 ? "header" : "piece") != std::string::npos);
  }
  // Without a stated number, whole pieces are all that can be asked for.
  std::size_t good = 0;
  for (std::size_t size = 0; size <= file.size(); ++size) good += read(file.substr(0, size), 0).has_value();
  CHECK(good == 265 - 2);
}

TEST_CASE("a file of another model is an error", "[text]") {
  const std::string file = file_of(small());
  CHECK_FALSE(read(file, 264));
  CHECK_FALSE(read(file, 266));
  CHECK_FALSE(read(file, std::numeric_limits<std::size_t>::max()));
  CHECK_FALSE(read(file + "x", 265));
  CHECK_FALSE(read(file_of({{0, "<unk>"}, {0, "<s>"}}), 2));
  CHECK(read(file, 264).error().message.find("264") != std::string::npos);
}

TEST_CASE("wrong lengths, empty pieces and NaN are errors", "[text]") {
  auto entries = small();
  entries[260].text.clear();
  CHECK_FALSE(read(file_of(entries), 265));
  entries = small();
  entries[260].score = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(read(file_of(entries), 265));
  // Infinite scores are numbers and order as such.
  entries[260].score = std::numeric_limits<float>::infinity();
  CHECK(read(file_of(entries), 265));
  std::string file = file_of(small());
  for (const std::uint32_t size : {0xFFFFFFFFu, 0x80000000u, 0x7FFFFFFFu, 1u << 20}) {
    std::string damaged = file.substr(0, 8);
    put(damaged, size);
    damaged += file.substr(12);
    CHECK_FALSE(read(damaged, 265));
  }
  // A NUL does not end a piece.
  entries = small();
  entries[260].text = std::string("b\0c", 3);
  const auto words = read(file_of(entries), 265);
  REQUIRE(words);
  CHECK(words->decode(260) == std::string("b\0c", 3));
  CHECK(words->decode(words->encode(std::string("b\0c", 3))) == std::string("b\0c", 3));
}

TEST_CASE("random damage is an error or a tokenizer that works", "[text]") {
  const std::string file = file_of(small());
  std::mt19937 random(23);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = file;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto words = read(damaged, 265);
    if (!words) continue;
    const std::string text = "abc \xC3\xA9 a <s>";
    const auto found = words->encode(text, {.bos = true});
    for (const ba::token id : found) REQUIRE(words->contains(id));
    if (words->lossless()) REQUIRE(words->decode(found) == text);
  }
}

TEST_CASE("a file that is not there is an error that names it", "[text]") {
  for (const char* file : {"no/such/tok.bin", "."}) {
    const auto words = ba::open_llama2c_tokenizer(file, 512);
    REQUIRE_FALSE(words);
    CHECK(words.error().code == ba::errc::io);
    CHECK(words.error().message.find(file) != std::string::npos);
  }
}
