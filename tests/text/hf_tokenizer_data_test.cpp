// SPDX-License-Identifier: MIT
// Whole vocabularies from tokenizer.json: Hugging Face's GPT-2 cases, the same vocabulary from GGUF, SmolLM on every
// text at hand.
#include <blockattn/io/gguf.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/hf_tokenizer.hpp>

#include <random>

#include "../support/data.hpp"

namespace ba = blockattn;

namespace {

ba::tokenizer open_hf(const std::filesystem::path& file) {
  auto words = ba::open_hf_tokenizer(file);
  if (!words) FAIL(words.error().message);
  return *std::move(words);
}

// Every text file under the folder, and then what strangers send.
std::vector<std::string> texts_under(const std::filesystem::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const std::string ending = entry.path().extension().string();
    const bool text = ending == ".txt" || ending == ".json" || ending == ".inp" || ending == ".md";
    // Vocabularies are not prose: a tenth of each is enough.
    if (entry.is_regular_file() && text)
      out.push_back(blockattn_test::read_text(entry.path()).substr(0, std::size_t{1} << 17));
  }
  std::mt19937 random(9);
  const std::vector<std::string> parts = {" ",  "  ",  "\n",       "\r\n",     "\t",       "a",        "Word", "'ll", "'S",
                                          "12", "...", "\xC2\xA0", "\xC3\xA9", "e\xCC\x81", "\xE5\xA5\xBD", "\xFF", "\x80",
                                          "\xF0\x9F\xA6\x99", "\xC5\xBF", "\xE1\xA0\x8E", "<|endoftext|>", "\xC2\x85"};
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (std::size_t n = random() % 60; n-- > 0;) text += parts[random() % parts.size()];
    out.push_back(std::move(text));
  }
  std::string bytes(4096, '\0');
  for (char& c : bytes) c = static_cast<char>(random() & 0xFF);
  out.push_back(std::move(bytes));
  for (const char* part : {"a", " ", "\n", "0", "!", "\xCC\x81"}) {
    std::string text;
    while (text.size() < 5000) text += part;
    out.push_back(std::move(text));
  }
  return out;
}

}  // namespace

TEST_CASE("tokenizer.json of GPT-2: Hugging Face's cases, and the ids of the GGUF vocabulary", "[text][hf][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const ba::tokenizer words = open_hf(folder / "tokenizers" / "gpt2_tokenizer.json");
  const auto gguf_file = ba::gguf_file::open(folder / "tokenizers" / "ggml-vocab-gpt-2.gguf");
  REQUIRE(gguf_file);
  const auto gguf = ba::make_tokenizer(*gguf_file);
  REQUIRE(gguf);
  CHECK(words.lossless());
  CHECK(words.size() == gguf->size());
  const auto cases = nlohmann::json::parse(blockattn_test::read_text(folder / "tokenizers" / "gpt2_cases.json"), nullptr,
                                           false);
  REQUIRE(cases.size() == 18);
  for (const auto& c : cases) {
    INFO(c["input"]);
    CHECK(words.encode(c["input"].get<std::string>()) == c["encoded"]["input_ids"].get<std::vector<ba::token>>());
  }
  std::size_t compared = 0;
  for (const std::string& text : texts_under(folder)) {
    const auto ids = words.encode(text);
    const bool same = ids == gguf->encode(text), back = words.decode(ids) == text;
    INFO(text.substr(0, 100));
    CHECK(same);
    CHECK(back);
    compared += ids.size();
  }
  CHECK(compared > 200'000);
  CHECK(words.encode("a<|endoftext|>", {.special = true}).back() == 50256);
}

TEST_CASE("tokenizer.json of SmolLM: every text comes back", "[text][hf][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const ba::tokenizer words = open_hf(folder / "tokenizers" / "smollm-tokenizer.json");
  CHECK(words.size() == 49152);
  CHECK(words.encode("in 2024<|im_end|>", {.special = true}) == std::vector<ba::token>{254, 216, 34, 32, 34, 36, 2});
  CHECK(words.is_stop(2));
  // It has no pieces for some bytes; what it can spell comes back.
  CHECK_FALSE(words.lossless());
  std::size_t returned = 0;
  for (const std::string& text : texts_under(folder)) {
    const std::string back = words.decode(words.encode(text));
    const bool spelled = text.find_first_of("\xFF\x80") == std::string::npos &&
                         ba::valid_utf8_prefix(text) == text.size() && text.find('\0') == std::string::npos;
    if (!spelled) continue;
    INFO(text.substr(0, 100));
    const bool same = back == text;
    CHECK(same);
    returned += same;
  }
  CHECK(returned > 200);
}
