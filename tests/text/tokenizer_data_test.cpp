// SPDX-License-Identifier: MIT
// Ids of outside tokenizers, exactly: llama.cpp's vocabulary tests, Hugging Face's GPT-2 cases, llama2.c's runs.
#include <blockattn/io/gguf.hpp>
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/llama2c_tokenizer.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "../support/data.hpp"

namespace ba = blockattn;

namespace {

ba::tokenizer open_gguf(const std::filesystem::path& file) {
  const auto gguf = ba::gguf_file::open(file);
  if (!gguf) FAIL(gguf.error().message);
  const auto words = ba::make_tokenizer(*gguf);
  if (!words) FAIL(words.error().message);
  return *words;
}

// Cases are separated by a marker line; the texts themselves may be empty or end in line breaks.
std::vector<std::string> read_cases(const std::filesystem::path& file) {
  const std::string all = blockattn_test::read_text(file), marker = "\n__ggml_vocab_test__\n";
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= all.size();) {
    const std::size_t end = std::min(all.find(marker, at), all.size());
    out.push_back(all.substr(at, end - at));
    at = end + marker.size();
  }
  // A marker closes the last case too.
  if (!out.empty() && out.back().empty()) out.pop_back();
  return out;
}

std::vector<std::vector<ba::token>> read_ids(const std::filesystem::path& file) {
  std::istringstream lines(blockattn_test::read_text(file));
  std::vector<std::vector<ba::token>> out;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    auto& ids = out.emplace_back();
    for (ba::token id; numbers >> id;) ids.push_back(id);
  }
  return out;
}

std::string stream(const ba::tokenizer& words, const std::vector<ba::token>& ids) {
  ba::detokenizer out(words);
  std::string text;
  for (const ba::token id : ids) text += out.push(id);
  return text += out.flush();
}

nlohmann::json read_json(const std::filesystem::path& file) {
  auto json = nlohmann::json::parse(blockattn_test::read_text(file), nullptr, false);
  REQUIRE_FALSE(json.is_discarded());
  return json;
}

}  // namespace

TEST_CASE("ids equal llama.cpp's on its vocabulary tests", "[text][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  for (const std::string name : {"llama-spm", "gpt-2", "falcon"}) {
    const auto file = folder / "tokenizers" / ("ggml-vocab-" + name + ".gguf");
    const ba::tokenizer words = open_gguf(file);
    // Falcon has no pieces for 28 bytes that its training text never held.
    CHECK(words.lossless() == (name != "falcon"));
    const auto texts = read_cases(file.string() + ".inp");
    const auto ids = read_ids(file.string() + ".out");
    REQUIRE(texts.size() == ids.size());
    REQUIRE(texts.size() > 40);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      INFO(name << ", case " << i << ": \"" << texts[i] << '"');
      CHECK(words.encode(texts[i]) == ids[i]);
      CHECK(words.decode(ids[i]) == texts[i]);
      CHECK(stream(words, ids[i]) == texts[i]);
    }
  }
}

TEST_CASE("ids and decodings equal Hugging Face's GPT-2", "[text][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const ba::tokenizer words = open_gguf(folder / "tokenizers" / "ggml-vocab-gpt-2.gguf");
  const auto reference = read_json(folder / "tokenizers" / "gpt2_tokenizer.json");
  // The two vocabularies agree on every piece, so every id of the cases means the same.
  const auto& vocab = reference["model"]["vocab"];
  REQUIRE(vocab.size() == words.size());
  std::size_t different = 0;
  for (const auto& [piece, id] : vocab.items()) different += words.piece(id.get<ba::token>()) != piece;
  REQUIRE(different == 0);

  const auto cases = read_json(folder / "tokenizers" / "gpt2_cases.json");
  REQUIRE(cases.size() == 18);
  std::size_t tidied = 0;
  for (const auto& c : cases) {
    const auto text = c["input"].get<std::string>();
    INFO(text);
    const auto ids = c["encoded"]["input_ids"].get<std::vector<ba::token>>();
    CHECK(words.encode(text) == ids);
    CHECK(words.decode(ids) == text);
    // The reference removes the space before punctuation when it decodes; otherwise its text is ours.
    const auto decoded = c["decoded_with_special"].get<std::string>();
    if (decoded == text)
      CHECK(words.decode(ids) == decoded);
    else
      ++tidied;
  }
  CHECK(tidied <= 3);
}

TEST_CASE("a pre-tokenizer that splits digits, on SmolLM's vocabulary", "[text][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto json = read_json(folder / "tokenizers" / "smollm-tokenizer.json");
  const auto& model = json["model"];
  ba::vocabulary v;
  v.model = ba::vocabulary::kind::bpe;
  v.pre = "smollm";
  v.pieces.resize(model["vocab"].size());
  for (const auto& [piece, id] : model["vocab"].items()) v.pieces.at(id.get<std::size_t>()) = piece;
  v.merges = model["merges"].get<std::vector<std::string>>();
  v.types.assign(v.pieces.size(), 1);
  for (const auto& added : json["added_tokens"]) v.types.at(added["id"].get<std::size_t>()) = 3;
  v.eos = 0;
  const auto words = ba::tokenizer::from_vocabulary(v);
  if (!words) FAIL(words.error().message);

  const auto pieces = [&](std::string_view text, ba::encode_options options = {}) {
    std::vector<std::string> out;
    for (const ba::token id : words->encode(text, options)) out.emplace_back(words->piece(id));
    return out;
  };
  using list = std::vector<std::string>;
  // Every digit is a piece of its own and takes no space along.
  CHECK(pieces("in 2024") == list{"in", "Ġ", "2", "0", "2", "4"});
  CHECK(pieces("a 7b 3.5") == list{"a", "Ġ", "7", "b", "Ġ", "3", ".", "5"});
  CHECK(pieces("<|im_start|>user", {.special = true}) == list{"<|im_start|>", "user"});
  CHECK(pieces("<|im_start|>").size() > 1);
  for (const std::string& text : read_cases(folder / "tokenizers" / "ggml-vocab-gpt-2.gguf.inp"))
    CHECK(words->decode(words->encode(text)) == text);
}

TEST_CASE("prompts, ids and texts equal llama2.c's", "[text][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  struct {
    std::string name;
    std::string file;
    std::size_t vocab;
    int cases;
  } const models[] = {{"stories260K", "tok512", 512, 3}, {"babyllama105", "tok105", 105, 1}};
  for (const auto& model : models) {
    const auto words = ba::open_llama2c_tokenizer(folder / "models" / (model.file + ".bin"), model.vocab);
    if (!words) FAIL(words.error().message);
    const ba::tokenizer gguf = open_gguf(folder / "models" / (model.name + "-f32.gguf"));
    CHECK(gguf.add_bos());
    for (int i = 0; i < model.cases; ++i) {
      INFO(model.name << ", case " << i);
      const auto base = folder / "golden" / "llama2c" / model.name / ("case" + std::to_string(i));
      const auto json = read_json(base.string() + ".json");
      const auto prompt = json["prompt"].get<std::string>();
      const auto expected = json["prompt_tokens"].get<std::vector<ba::token>>();
      CHECK(words->encode(prompt, {.bos = words->add_bos()}) == expected);
      CHECK(gguf.encode(prompt, {.bos = gguf.add_bos()}) == expected);
      // The program prints what follows each token it feeds, the last of them generated but never fed.
      const auto ids = json["tokens"].get<std::vector<ba::token>>();
      std::string printed = blockattn_test::read_text(base.string() + ".txt");
      if (!printed.empty() && printed.back() == '\n') printed.pop_back();
      const std::string text = words->decode(ids);
      CHECK(printed.substr(0, text.size()) == text);
      CHECK(printed.size() <= text.size() + 16);
      CHECK(gguf.decode(ids) == text);
      CHECK(stream(*words, ids) == text);
      // And back: text that came from these pieces encodes to text, whatever ids the model had chosen.
      CHECK(words->decode(words->encode(text, {.bos = true})) == text);
    }
  }
}

TEST_CASE("the published text survives a round trip", "[text][golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto words = ba::open_llama2c_tokenizer(folder / "models" / "tok512.bin", 512);
  REQUIRE(words);
  const std::string text =
      blockattn_test::read_text(folder / "golden" / "llama2c" / "stories260K" / "karpathy_expected_stdout_200.txt");
  CHECK(words->decode(words->encode(text)) == text);
  CHECK(words->is_stop(1));
  CHECK(words->is_stop(2));
  CHECK_FALSE(words->is_stop(0));
}
