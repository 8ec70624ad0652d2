// SPDX-License-Identifier: MIT
// Segment, tokenise each block on its own, decode each, join: every text of the reference files comes back, with both
// families of vocabularies.
#include <blockattn/io/gguf.hpp>
#include <blockattn/text/dataset.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/json_state.hpp>
#include <blockattn/text/segment.hpp>

#include "../support/catch.hpp"
#include "../support/data.hpp"

namespace ba = blockattn;

TEST_CASE("segment, tokenise, join: nothing is lost on any reference text", "[text]") {
  BLOCKATTN_REQUIRE_DATA(data);
  std::vector<std::string> texts;
  for (const auto& entry : std::filesystem::directory_iterator(data / "data" / "babi"))
    if (entry.path().extension() == ".txt") texts.push_back(blockattn_test::read_text(entry.path()).substr(0, 60000));
  for (const auto& entry : std::filesystem::directory_iterator(data / "tokenizers"))
    if (entry.path().extension() == ".inp") texts.push_back(blockattn_test::read_text(entry.path()));
  for (const char* name : {"musique-100.json", "hotpotqa-100.json"}) {
    const auto samples = ba::open_dataset(data / "data" / "passages" / name).value();
    for (const auto& s : samples)
      for (std::size_t i = 0; i < s.passages.size(); i += 3) texts.push_back(s.passages[i].text);
  }
  REQUIRE(texts.size() > 900);

  for (const char* name : {"llama-spm", "gpt-2"}) {
    const auto file = ba::gguf_file::open(data / "tokenizers" / ("ggml-vocab-" + std::string(name) + ".gguf")).value();
    const auto words = ba::make_tokenizer(file).value();
    REQUIRE(words.lossless());
    std::size_t wrong = 0, blocks = 0;
    for (const std::string& text : texts) {
      for (const char* by : {"delimiter", "passages", "whole"}) {
        std::string again, cut;
        const auto found = ba::segment(text, by).value();
        for (const std::string_view block : found) {
          again += words.decode(words.encode(block));
          cut += block;
          ++blocks;
        }
        wrong += again != text || cut != text ? 1u : 0u;
      }
    }
    INFO(name << ": " << texts.size() << " texts, " << blocks << " blocks");
    CHECK(wrong == 0);
    CHECK(blocks > 10000);
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
