// SPDX-License-Identifier: MIT
// Segment, tokenise each block on its own, decode each, join: every text of the reference files comes back, with both
// families of vocabularies. Under the address sanitizer, which is ten times slower, the head of each text.
#include <blockattn/io/gguf.hpp>
#include <blockattn/text/dataset.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/json_state.hpp>
#include <blockattn/text/segment.hpp>

#include <cstdio>
#include <memory>
#include <set>
#include <unordered_set>

#include "../support/catch.hpp"
#include "../support/data.hpp"

namespace ba = blockattn;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t longest = 40'000;
#else
constexpr std::size_t longest = std::string::npos;
#endif

// By the program that every system with such files has: a test needs no library for one file.
std::string unpacked(const std::filesystem::path& file) {
  std::string quoted = "'";
  for (const char c : file.string()) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  const std::string command = "gzip -dc < " + quoted + "'";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(popen(command.c_str(), "r"), pclose);
  REQUIRE(in != nullptr);
  std::string out;
  char piece[65536];
  for (std::size_t n; (n = std::fread(piece, 1, sizeof piece, in.get())) > 0;) out.append(piece, n);
  REQUIRE(out.size() > 1'000'000);
  return out;
}

}  // namespace

TEST_CASE("segment, tokenise, join: nothing is lost on any reference text", "[text]") {
  BLOCKATTN_REQUIRE_DATA(data);
  // Whole files, and the passages, questions and answers within those of data sets.
  std::vector<std::string> texts;
  const auto add_samples = [&](const std::vector<ba::sample>& samples) {
    for (const auto& s : samples) {
      texts.push_back(s.question);
      for (const auto& a : s.answers) texts.push_back(a);
      for (const auto& p : s.passages) texts.push_back(p.title), texts.push_back(p.text);
    }
  };
  const std::set<std::string> text_files{".txt", ".md", ".inp", ".out", ".json"};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(data)) {
    if (!entry.is_regular_file()) continue;
    if (text_files.count(entry.path().extension().string()) != 0)
      texts.push_back(blockattn_test::read_text(entry.path()).substr(0, longest));
    if (entry.path().extension() == ".gz") {
      texts.push_back(unpacked(entry.path()));
      add_samples(ba::read_dataset(texts.back(), ba::dataset_format::nq).value());
    }
  }
  for (const char* name : {"musique-100.json", "hotpotqa-100.json"})
    add_samples(ba::open_dataset(data / "data" / "passages" / name).value());
  std::size_t bytes = 0;
  for (std::string& text : texts) {
    if (text.size() > longest) text.resize(longest);
    bytes += text.size();
  }
  REQUIRE(texts.size() > 12'000);
  if (longest == std::string::npos) REQUIRE(bytes > 20'000'000);

  for (const char* name : {"llama-spm", "gpt-2"}) {
    const auto file = ba::gguf_file::open(data / "tokenizers" / ("ggml-vocab-" + std::string(name) + ".gguf")).value();
    const auto words = ba::make_tokenizer(file).value();
    REQUIRE(words.lossless());
    std::size_t wrong = 0, blocks = 0;
    // A block that came back once does so again: stories repeat their sentences.
    std::unordered_set<std::string_view> right;
    for (const std::string& text : texts) {
      for (const char* by : {"delimiter", "passages", "whole"}) {
        std::string cut;
        const auto found = ba::segment(text, by).value();
        for (const std::string_view block : found) {
          cut += block;
          ++blocks;
          if (!right.insert(block).second) continue;
          wrong += words.decode(words.encode(block)) != block ? 1u : 0u;
        }
        wrong += cut != text ? 1u : 0u;
      }
    }
    INFO(name << ": " << texts.size() << " texts, " << bytes << " bytes, " << blocks << " blocks, " << right.size()
              << " of them distinct");
    CHECK(wrong == 0);
    CHECK(blocks > 3 * texts.size());
  }
}

TEST_CASE("a large JSON document is cut and comes back in tokens", "[text]") {
  BLOCKATTN_REQUIRE_DATA(data);
  const std::string document = blockattn_test::read_text(data / "data" / "passages" / "hotpotqa-100.json");
  const auto blocks = ba::segment_json_state(document).value();
  CHECK(blocks.size() > 1000);
  const auto file = ba::gguf_file::open(data / "tokenizers" / "ggml-vocab-llama-spm.gguf").value();
  const auto words = ba::make_tokenizer(file).value();
  std::size_t wrong = 0;
  for (const auto& b : blocks) wrong += words.decode(words.encode(b.text)) != b.text ? 1u : 0u;
  CHECK(wrong == 0);
}
