// SPDX-License-Identifier: MIT
#include <blockattn/text/gguf_tokenizer.hpp>

#include <functional>
#include <map>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

// A program's own metadata: all that the reader asks for.
struct metadata {
  std::map<std::string, std::string, std::less<>> text;
  std::map<std::string, std::uint64_t, std::less<>> number;
  std::map<std::string, bool, std::less<>> flag;
  std::map<std::string, std::vector<std::string>, std::less<>> texts;
  std::map<std::string, std::vector<float>, std::less<>> floats;
  std::map<std::string, std::vector<std::int64_t>, std::less<>> ints;

  template <class Out, class Map>
  static std::optional<Out> get(const Map& map, std::string_view key) {
    const auto at = map.find(key);
    if (at == map.end()) return std::nullopt;
    return Out(at->second);
  }
  std::optional<std::string_view> find_string(std::string_view key) const { return get<std::string_view>(text, key); }
  std::optional<std::uint64_t> find_u64(std::string_view key) const { return get<std::uint64_t>(number, key); }
  std::optional<bool> find_bool(std::string_view key) const { return get<bool>(flag, key); }
  std::optional<std::vector<std::string_view>> find_strings(std::string_view key) const {
    const auto at = texts.find(key);
    if (at == texts.end()) return std::nullopt;
    return std::vector<std::string_view>(at->second.begin(), at->second.end());
  }
  std::optional<std::vector<float>> find_floats(std::string_view key) const {
    return get<std::vector<float>>(floats, key);
  }
  std::optional<std::vector<std::int64_t>> find_ints(std::string_view key) const {
    return get<std::vector<std::int64_t>>(ints, key);
  }
};

metadata spm() {
  metadata m;
  m.text["tokenizer.ggml.model"] = "llama";
  m.texts["tokenizer.ggml.tokens"] = {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a"};
  m.floats["tokenizer.ggml.scores"] = {0, 0, 0, -1, -2};
  m.ints["tokenizer.ggml.token_type"] = {2, 3, 3, 1, 1};
  return m;
}

metadata bpe() {
  metadata m;
  m.text["tokenizer.ggml.model"] = "gpt2";
  m.text["tokenizer.ggml.pre"] = "gpt-2";
  m.texts["tokenizer.ggml.tokens"] = {"a", "b", "ab", "<|im_end|>", "<|eot|>"};
  m.texts["tokenizer.ggml.merges"] = {"a b"};
  m.ints["tokenizer.ggml.token_type"] = {1, 1, 1, 3, 3};
  return m;
}

void expect_error(const metadata& m, ba::errc code, const std::string& names) {
  const auto words = ba::make_tokenizer(m);
  REQUIRE_FALSE(words);
  INFO(words.error().message);
  CHECK(words.error().code == code);
  CHECK(words.error().message.find(names) != std::string::npos);
}

}  // namespace

TEST_CASE("what a file does not say about SentencePiece", "[text]") {
  auto m = spm();
  auto words = ba::make_tokenizer(m);
  REQUIRE(words);
  CHECK(words->bos() == 1);
  CHECK(words->eos() == 2);
  CHECK(words->unk() == 0);
  CHECK(words->add_bos());
  CHECK_FALSE(words->add_eos());
  CHECK(words->encode("a") == std::vector<ba::token>{3, 4});
  CHECK(words->is_stop(2));

  m.flag["tokenizer.ggml.add_bos_token"] = false;
  m.flag["tokenizer.ggml.add_eos_token"] = true;
  m.flag["tokenizer.ggml.add_space_prefix"] = false;
  m.number["tokenizer.ggml.eos_token_id"] = 4;
  m.number["tokenizer.ggml.unknown_token_id"] = 0xFFFFFFFFu;
  m.number["tokenizer.ggml.padding_token_id"] = 0xFFFFFFFFu;
  words = ba::make_tokenizer(m);
  REQUIRE(words);
  CHECK_FALSE(words->add_bos());
  CHECK(words->add_eos());
  CHECK(words->eos() == 4);
  CHECK(words->unk() == -1);
  CHECK(words->encode("a") == std::vector<ba::token>{4});
}

TEST_CASE("what a file does not say about byte-level BPE", "[text]") {
  auto m = bpe();
  auto words = ba::make_tokenizer(m);
  REQUIRE(words);
  CHECK(words->bos() == -1);
  CHECK(words->eos() == -1);
  CHECK_FALSE(words->add_bos());
  CHECK(words->encode("ab") == std::vector<ba::token>{2});
  CHECK(words->is_stop(3));  // by its name
  CHECK_FALSE(words->is_stop(4));
  // A begin token is added only where there is one.
  m.text["tokenizer.ggml.pre"] = "llama-bpe";
  CHECK_FALSE(ba::make_tokenizer(m)->add_bos());
  m.number["tokenizer.ggml.bos_token_id"] = 4;
  CHECK(ba::make_tokenizer(m)->add_bos());
  m.flag["tokenizer.ggml.add_bos_token"] = false;
  CHECK_FALSE(ba::make_tokenizer(m)->add_bos());
  m.number["tokenizer.ggml.eot_token_id"] = 4;
  CHECK(ba::make_tokenizer(m)->is_stop(4));
  // Some converters write scores here too, of any number.
  m.floats["tokenizer.ggml.scores"] = {1};
  CHECK(ba::make_tokenizer(m));
  m.text.erase("tokenizer.ggml.pre");
  CHECK(ba::make_tokenizer(m));
}

TEST_CASE("metadata that cannot be used is an error that names the key or the piece", "[text]") {
  auto m = spm();
  m.text.clear();
  expect_error(m, ba::errc::bad_format, "tokenizer.ggml.model");
  m = spm();
  m.text["tokenizer.ggml.model"] = "bert";
  expect_error(m, ba::errc::unsupported, "bert");
  m = spm();
  m.texts.clear();
  expect_error(m, ba::errc::bad_format, "tokenizer.ggml.tokens");
  m = spm();
  m.texts["tokenizer.ggml.tokens"].clear();
  expect_error(m, ba::errc::bad_format, "pieces");
  m = spm();
  m.floats["tokenizer.ggml.scores"].pop_back();
  expect_error(m, ba::errc::bad_format, "score");
  m = spm();
  m.floats.clear();
  expect_error(m, ba::errc::bad_format, "score");
  m = spm();
  m.ints["tokenizer.ggml.token_type"].pop_back();
  expect_error(m, ba::errc::bad_format, "type");
  m = spm();
  m.ints["tokenizer.ggml.token_type"][4] = std::int64_t{1} << 32 | 1;
  expect_error(m, ba::errc::bad_format, "piece 4");
  for (const char* key :
       {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    for (const std::uint64_t id : {std::uint64_t{5}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
      m = spm();
      m.number[key] = id;
      expect_error(m, ba::errc::bad_format, key);
    }
  m = bpe();
  m.texts.erase("tokenizer.ggml.merges");
  expect_error(m, ba::errc::bad_format, "tokenizer.ggml.merges");
  m = bpe();
  m.texts["tokenizer.ggml.merges"].emplace_back("a c");
  expect_error(m, ba::errc::bad_format, "merge 1");
  m = bpe();
  m.text["tokenizer.ggml.pre"] = "unheard-of";
  expect_error(m, ba::errc::unsupported, "unheard-of");
  expect_error(m, ba::errc::unsupported, "llama-bpe");
}
