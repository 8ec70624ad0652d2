// SPDX-License-Identifier: MIT
// Work counted, not timed: the steps of merging grow as the text does, whatever the text.
#include <blockattn/text/bpe.hpp>
#include <blockattn/text/char_bpe.hpp>
#include <blockattn/text/spm.hpp>

#include <functional>
#include <random>

#include "../support/catch.hpp"
#include "../support/strings.hpp"

namespace ba = blockattn;
using blockattn_test::repeated;

namespace {

// Doubling pieces of what the texts repeat, in the three families.
ba::vocabulary doubling(ba::vocabulary::kind model) {
  const bool bytes = model == ba::vocabulary::kind::bpe;
  ba::vocabulary v;
  if (bytes) {
    v = ba::byte_vocabulary();
  } else {
    const char* digits = "0123456789ABCDEF";
    for (int b = 0; b < 256; ++b) {
      v.pieces.push_back(std::string("<0x") + digits[b / 16] + digits[b % 16] + ">");
      v.types.push_back(6);
    }
  }
  v.model = model;
  v.has_steps = model == ba::vocabulary::kind::char_bpe;
  for (const std::string one : {"a", "w", "\xC4\xA0", "\xCC\x81"}) {
    if (bytes && one == "\xCC\x81") continue;
    std::string piece = !bytes && one == "\xC4\xA0" ? std::string(ba::space_marker) : one;
    if (!bytes) {
      v.pieces.push_back(piece);
      v.types.push_back(1);
    }
    for (int i = 0; i < 4; ++i) {
      v.merges.push_back(piece + " " + piece);
      piece += piece;
      v.pieces.push_back(piece);
      v.types.push_back(1);
    }
  }
  if (model == ba::vocabulary::kind::spm) {
    v.merges.clear();
    for (std::size_t i = 0; i < v.pieces.size(); ++i) v.scores.push_back(-static_cast<float>(i));
  }
  return v;
}

std::string random_bytes(std::size_t size) {
  std::mt19937 random(2);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() & 0xFF);
  return out;
}

}  // namespace

TEST_CASE("merging takes a few steps for each byte, however long the word", "[text][law]") {
  using encode = std::function<void(const std::string&, std::vector<ba::token>&, ba::merge_scratch&)>;
  const auto memory = [] { return ba::word_memory(0); };
  const auto bytes = ba::bpe_encoder::make(doubling(ba::vocabulary::kind::bpe)).value();
  const auto characters = ba::char_bpe_encoder::make(doubling(ba::vocabulary::kind::char_bpe)).value();
  const auto spm = ba::spm_encoder::make(doubling(ba::vocabulary::kind::spm));
  const std::vector<std::pair<const char*, encode>> encoders = {
      {"bytes",
       [&](const std::string& t, auto& out, auto& s) {
         auto m = memory();
         bytes.encode(t, true, out, s, m);
       }},
      {"characters",
       [&](const std::string& t, auto& out, auto& s) {
         auto m = memory();
         characters.encode(t, true, out, s, m);
       }},
      {"spm", [&](const std::string& t, auto& out, auto& s) {
         auto m = memory();
         spm.encode(t, false, out, s, m);
       }}};
  const std::vector<std::pair<const char*, std::function<std::string(std::size_t)>>> texts = {
      {"aaaa", [](std::size_t n) { return std::string(n, 'a'); }},
      {"spaces", [](std::size_t n) { return std::string(n, ' '); }},
      {"one long word", [](std::size_t n) { return repeated("waaawwwwaa", n); }},
      {"random bytes", random_bytes},
      {"combining marks", [](std::size_t n) { return repeated("\xCC\x81", n); }},
      {"markers", [](std::size_t n) { return repeated("\xE2\x96\x81", n); }},
      {"digits", [](std::size_t n) { return repeated("0123456789", n); }}};
  for (const auto& [family, run] : encoders)
    for (const auto& [what, make] : texts) {
      std::uint64_t steps[2] = {};
      std::size_t k = 0;
      for (const std::size_t size : {std::size_t{1} << 13, std::size_t{1} << 16}) {
        ba::merge_scratch scratch;
        std::vector<ba::token> out;
        const std::string text = make(size);
        run(text, out, scratch);
        INFO(family << ", " << what << ", " << text.size() << " bytes, " << scratch.steps << " steps");
        CHECK(scratch.steps <= 8 * text.size());
        CHECK_FALSE(out.empty());
        steps[k++] = scratch.steps;
      }
      // Eight times the text, not sixty-four times the work.
      INFO(family << ", " << what);
      CHECK(steps[1] <= 9 * steps[0] + 64);
    }
}
