// SPDX-License-Identifier: MIT
// Both merge loops, and both encoders on them, against the definition: look at all pairs, merge the best, repeat.
#include <blockattn/text/bpe.hpp>
#include <blockattn/text/spm.hpp>

#include <map>
#include <random>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

struct symbol {
  std::string text;
  ba::token id;
};

// `best(left, right)` gives the priority and the id of the merged pair; a negative id means that they do not merge.
template <class Best>
std::vector<symbol> merge_slowly(std::vector<symbol> symbols, const Best& best) {
  for (;;) {
    std::size_t at = 0;
    std::pair<double, ba::token> chosen{0, -1};
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const std::pair<double, ba::token> candidate = best(symbols[i], symbols[i + 1]);
      if (candidate.second >= 0 && (chosen.second < 0 || candidate.first < chosen.first)) {
        chosen = candidate;
        at = i;
      }
    }
    if (chosen.second < 0) return symbols;
    symbols[at] = {symbols[at].text + symbols[at + 1].text, chosen.second};
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

std::vector<ba::token> ids_of(const std::vector<symbol>& symbols) {
  std::vector<ba::token> out;
  for (const symbol& s : symbols) out.push_back(s.id);
  return out;
}

std::string random_text(std::mt19937& random, std::size_t size, const std::string& alphabet) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) out.push_back(alphabet[random() % alphabet.size()]);
  return out;
}

// Sizes on both sides of where the short loop ends.
const std::size_t sizes[] = {0, 1, 2, 3, 7, 20, 47, 48, 49, 50, 100, 400};

}  // namespace

TEST_CASE("byte-level BPE equals the definition", "[text][law]") {
  std::mt19937 random(11);
  for (int round = 0; round < 20; ++round) {
    ba::vocabulary v;
    v.model = ba::vocabulary::kind::bpe;
    v.pre = "gpt-2";
    v.pieces = {"a", "b", "c"};
    std::map<std::string, ba::token> ids = {{"a", 0}, {"b", 1}, {"c", 2}};
    std::map<std::pair<ba::token, ba::token>, std::pair<double, ba::token>> rules;
    for (int i = 0; i < 40; ++i) {
      const auto left = static_cast<ba::token>(random() % v.pieces.size());
      const auto right = static_cast<ba::token>(random() % v.pieces.size());
      const std::string joined = v.pieces[static_cast<std::size_t>(left)] + v.pieces[static_cast<std::size_t>(right)];
      if (joined.size() > 12) continue;
      // Two splits of one piece may both be rules; a rule given twice keeps its first place.
      if (ids.emplace(joined, static_cast<ba::token>(v.pieces.size())).second) v.pieces.push_back(joined);
      rules.emplace(std::pair{left, right}, std::pair{static_cast<double>(v.merges.size()), ids[joined]});
      v.merges.push_back(v.pieces[static_cast<std::size_t>(left)] + " " + v.pieces[static_cast<std::size_t>(right)]);
    }
    REQUIRE(ba::validate(v));
    const auto encoder = ba::bpe_encoder::make(v);
    REQUIRE(encoder);
    CHECK_FALSE(encoder->covers_bytes());
    for (const std::size_t size : sizes) {
      const std::string text = random_text(random, size, round % 2 == 0 ? "abc" : "aaab");
      std::vector<symbol> symbols;
      for (const char c : text) symbols.push_back({std::string(1, c), ids.at(std::string(1, c))});
      const auto expected = ids_of(merge_slowly(symbols, [&](const symbol& a, const symbol& b) {
        const auto at = rules.find({a.id, b.id});
        return at == rules.end() ? std::pair<double, ba::token>{0, -1} : at->second;
      }));
      std::vector<ba::token> found;
      ba::merge_scratch scratch;
      ba::word_memory memory(text.size());
      encoder->encode(text, true, found, scratch, memory);
      CHECK(found == expected);
      // The same word again comes from memory.
      encoder->encode(text, true, found, scratch, memory);
      REQUIRE(found.size() == expected.size() * 2);
      CHECK(std::equal(expected.begin(), expected.end(), found.begin() + static_cast<std::ptrdiff_t>(expected.size())));
    }
  }
}

TEST_CASE("SentencePiece BPE equals the definition, with and without pieces across spaces", "[text][law]") {
  std::mt19937 random(13);
  for (int round = 0; round < 40; ++round) {
    const bool across = round % 2 == 1;
    ba::vocabulary v;
    v.model = ba::vocabulary::kind::spm;
    std::map<std::string, ba::token> ids;
    const auto add = [&](const std::string& text, float score) {
      if (!ids.emplace(text, static_cast<ba::token>(v.pieces.size())).second) return;
      std::string piece;
      for (const char c : text) piece += c == ' ' ? std::string(ba::space_marker) : std::string(1, c);
      v.pieces.push_back(piece);
      v.scores.push_back(score);
    };
    for (const char* one : {"a", "b", "c", " "}) add(one, -1000);
    for (int i = 0; i < 60; ++i) {
      std::string text = random_text(random, 2 + random() % 3, "abc ");
      // Most vocabularies have spaces only at the start of a piece.
      if (!across) text = std::string(random() % 3, ' ') + random_text(random, 1 + random() % 3, "abc");
      // Few scores, so that many are equal.
      add(text, -static_cast<float>(random() % 8));
    }
    REQUIRE(ba::validate(v));
    const auto encoder = ba::spm_encoder::make(v);
    for (const std::size_t size : sizes) {
      const std::string text = random_text(random, size, "abbc   ");
      for (const bool prefix : {false, true}) {
        std::vector<symbol> symbols;
        for (const char c : (prefix ? " " : "") + text)
          symbols.push_back({std::string(1, c), ids.at(std::string(1, c))});
        const auto expected = ids_of(merge_slowly(symbols, [&](const symbol& a, const symbol& b) {
          const auto at = ids.find(a.text + b.text);
          if (at == ids.end()) return std::pair<double, ba::token>{0, -1};
          return std::pair<double, ba::token>{-v.scores[static_cast<std::size_t>(at->second)], at->second};
        }));
        std::vector<ba::token> found;
        ba::merge_scratch scratch;
        ba::word_memory memory(text.size());
        encoder.encode(text, prefix, found, scratch, memory);
        INFO("across " << across << ", prefix " << prefix << ", \"" << text << '"');
        CHECK(found == expected);
      }
    }
  }
}

TEST_CASE("merges that the vocabulary cannot carry out are errors", "[text]") {
  ba::vocabulary v;
  v.model = ba::vocabulary::kind::bpe;
  v.pre = "gpt-2";
  v.pieces = {"a", "b", "ab"};
  for (const std::string line : {"a b", "a  b", "a x", "x b", "b a", "ab", "", " ", "a ", " b", "a b c"}) {
    v.merges = {"a b", line};
    const auto encoder = ba::bpe_encoder::make(v);
    INFO('"' << line << '"');
    CHECK(encoder.has_value() == (line == "a b"));
    if (!encoder) {
      CHECK(encoder.error().code == ba::errc::bad_format);
      CHECK(encoder.error().message.find("merge 1") != std::string::npos);
    }
  }
}

TEST_CASE("a table of merges finds what was added and nothing else", "[text]") {
  ba::merge_table table(1000);
  std::mt19937 random(17);
  std::map<std::pair<ba::token, ba::token>, ba::token> expected;
  for (ba::token i = 0; i < 1000; ++i) {
    const auto left = static_cast<ba::token>(random() % 60), right = static_cast<ba::token>(random() % 60);
    expected.emplace(std::pair{left, right}, i);
    table.add(left, right, {static_cast<std::uint32_t>(i), i});
  }
  for (ba::token left = -1; left < 61; ++left)
    for (ba::token right = -1; right < 61; ++right) {
      const auto at = expected.find({left, right});
      CHECK(table.find(left, right).id == (at == expected.end() ? -1 : at->second));
    }
  CHECK(ba::merge_table().find(0, 0).priority == ba::merge_rule::never);
}
