// SPDX-License-Identifier: MIT
// The program against llama2.c and llama.cpp, which share no code with it.
#include <algorithm>
#include <cmath>

#include "../support/golden.hpp"
#include "program.hpp"

using namespace blockattn_test;

namespace {

using rows = std::vector<std::vector<float>>;

rows rows_of(const json& object) { return object["logits"].get<rows>(); }

/// The last rows of `got` against those of a file. In float, all sums may be in another order: 1e-3 (DATA.md).
double largest_difference(const rows& got, const std::vector<float>& expected, std::size_t vocab) {
  REQUIRE(expected.size() % vocab == 0);
  const std::size_t n = expected.size() / vocab;
  REQUIRE(got.size() >= n);
  double largest = 0;
  for (std::size_t r = 0; r < n; ++r) {
    const auto& row = got[got.size() - n + r];
    REQUIRE(row.size() == vocab);
    for (std::size_t i = 0; i < vocab; ++i)
      largest = std::max(largest, std::abs(static_cast<double>(row[i]) - static_cast<double>(expected[r * vocab + i])));
  }
  return largest;
}

arguments with(arguments call, const arguments& more) {
  call.insert(call.end(), more.begin(), more.end());
  return call;
}

}  // namespace

TEST_CASE("cli: llama2.c's tokens, text and logits") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  const auto check = [&](const std::string& model, const std::string& name) {
    const auto golden = json::parse(read_text(data / "golden/llama2c" / (name + ".json")));
    const auto fed = golden["tokens"].get<std::vector<int>>();
    const auto prompt = golden["prompt_tokens"].get<std::vector<int>>();
    INFO(model << ", " << name);
    // Greedy tokens go on from the prompt.
    const json o = run_json({"generate", "--model", model, "--ids", joined(prompt), "--kv", "f32", "--compute", "f32",
                             "--max-tokens", std::to_string(fed.size() - prompt.size())});
    CHECK(o["ids"].get<std::vector<int>>() ==
          std::vector<int>(fed.begin() + static_cast<std::ptrdiff_t>(prompt.size()), fed.end()));
    CHECK(o["finish"] == "length");
    // The prompt as text has the same ids.
    const json text =
        run_json({"generate", "--model", model, "--prompt", golden["prompt"].get<std::string>(), "--max-tokens", "1"});
    CHECK(text["prompt_ids"].get<std::vector<int>>() == prompt);
    const json all = run_json({"logits", "--model", model, "--ids", joined(fed), "--all", "--compute", "f32"});
    CHECK(all["logits"].size() == fed.size());
    const auto expected = read_floats(data / "golden/llama2c" / (name + ".logits.f32"));
    CHECK(largest_difference(rows_of(all), expected, golden["vocab"].get<std::size_t>()) < 1e-3);
  };
  for (const char* model : {"stories260K.bin", "stories260K-f32.gguf"})
    for (const char* name : {"stories260K/case0", "stories260K/case1", "stories260K/case2"})
      check((data / "models" / model).string(), name);
  check((data / "models/babyllama105-f32.gguf").string(), "babyllama105/case0");

  // The published text of 200 steps, byte for byte.
  const json o = run_json({"generate", "--model", (data / "models/stories260K.bin").string(), "--prompt", "", "--kv",
                           "f32", "--compute", "f32", "--max-tokens", "200"});
  CHECK(o["text"] == read_text(data / "golden/llama2c/stories260K/karpathy_expected_stdout_200.txt"));
}

TEST_CASE("cli: block attention against llama.cpp") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  struct variant {
    std::string folder, name, model;
    arguments options;
    bool shifted = true;  // block_shift is a reference: not with YaRN, see DATA.md
  };
  const variant variants[] = {
      {"stories260K", "one_context_block", "stories260K.bin", {}},
      {"stories260K", "three_blocks", "stories260K.bin", {}},
      {"stories260K", "tiny_blocks", "stories260K-f32.gguf", {}},
      {"babyllama105", "three_blocks", "babyllama105-f32.gguf", {}},
      {"stories260K-linear0.25", "three_blocks", "stories260K.bin", {"--rope-scaling", "linear", "--rope-factor", "4"}},
      {"stories260K-yarn0.25",
       "three_blocks",
       "stories260K.bin",
       {"--rope-scaling", "yarn", "--rope-factor", "4", "--rope-original-context", "256"},
       false},
  };
  for (const variant& v : variants) {
    const auto stem = data / "golden/block_attention" / v.folder / v.name;
    const golden_case c = read_case(stem.string() + ".json");
    const auto file = [&](const std::string& mode) { return read_floats(stem.string() + "." + mode + "_logits.f32"); };
    const std::string model = (data / "models" / v.model).string();
    const auto logits = [&](const arguments& more) {
      const arguments call{"logits",   "--model",           model,   "--ids",     joined(c.all()),
                           "--blocks", joined(c.lengths()), "--all", "--compute", "f32"};
      return rows_of(run_json(with(with(call, v.options), more)));
    };
    INFO(v.folder << "/" << v.name);
    const rows full = logits({"--mode", "full"});
    CHECK(full.size() == c.all().size());
    CHECK(largest_difference(full, file("full.query"), c.vocab) < 1e-3);
    const rows query_side = logits({}), key_side = logits({"--position", "key_side"});
    const rows none = logits({"--position", "none"});
    CHECK(largest_difference(query_side, file("block_abs.query"), c.vocab) < 1e-3);
    CHECK(largest_difference(key_side, file("block_abs.query"), c.vocab) < 1e-3);
    if (v.shifted) CHECK(largest_difference(query_side, file("block_shift.query"), c.vocab) < 1e-3);
    // Keys that stay where they were encoded: what must not be mistaken for the above.
    if (v.shifted) CHECK(largest_difference(none, file("block_noshift.query"), c.vocab) < 1e-3);
    if (c.blocks.size() > 2) CHECK(largest_difference(none, file("block_abs.query"), c.vocab) > 1);
    // The rows of the context's blocks stand before those of the question.
    const auto context = [&](rows all) {
      all.resize(all.size() - c.blocks.back().size());
      return all;
    };
    CHECK(largest_difference(context(full), file("full.context"), c.vocab) < 1e-3);
    CHECK(largest_difference(context(query_side), file("block_abs.context"), c.vocab) < 1e-3);

    for (const std::string mode : {"full", "block"}) {
      const auto expected = c.json[mode == "full" ? "full_greedy" : "block_abs_greedy"].get<std::vector<int>>();
      const json o = run_json(
          with({"generate", "--model", model, "--ids", joined(c.all()), "--blocks", joined(c.lengths()), "--mode", mode,
                "--kv", "f32", "--compute", "f32", "--max-tokens", std::to_string(expected.size())},
               v.options));
      CHECK(o["ids"].get<std::vector<int>>() == expected);
    }
  }
}

TEST_CASE("cli: Llamas of other shapes, from GGUF") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  for (const std::string name : {"llama3_rope", "smollm2", "qwen2", "qwen3"}) {
    const auto folder = data / "golden/architectures" / name;
    const golden_case c = read_case(folder / "two_blocks.json");
    for (const std::string mode : {"full", "block"}) {
      INFO(name << ", " << mode);
      const json o = run_json({"logits", "--model", (folder / "model.gguf").string(), "--ids", joined(c.all()),
                               "--blocks", joined(c.lengths()), "--mode", mode, "--all", "--compute", "f32"});
      const std::string file = mode == "full" ? "two_blocks.full" : "two_blocks.block_abs";
      CHECK(largest_difference(rows_of(o), read_floats(folder / (file + ".query_logits.f32")), c.vocab) < 1e-3);
    }
  }
}

TEST_CASE("cli: files that are sound but not supported") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  // A vocabulary without a model has words and nothing else.
  const std::string words = (data / "tokenizers/ggml-vocab-llama-spm.gguf").string();
  check_refused({"inspect", words}, 1);
  const json o = run_json({"tokenize", "--model", words, "--text", "Hello world"});
  CHECK(o["ids"] == json({15043, 3186}));
  CHECK(run_json({"detokenize", "--model", words, "--ids", "15043,3186"})["text"] == "Hello world");
}

TEST_CASE("cli: a file of several quantised types") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  const std::string model = (data / "models/stories260K-Q4_K.gguf").string();
  const json formats = run_json({"inspect", model})["formats"];
  CHECK((formats.contains("Q5_0") && formats.contains("Q8_0") && formats.contains("F32")));
  CHECK(run_json({"generate", "--model", model, "--prompt", "Once upon a time", "--max-tokens", "8"})["ids"].size() == 8);
}

TEST_CASE("cli: a Hugging Face folder and its file are models, like the GGUF of the same weights") {
  BLOCKATTN_REQUIRE_CLI();
  BLOCKATTN_REQUIRE_DATA(data);
  for (const char* name : {"llama3_rope", "qwen2", "qwen3", "smollm2"}) {
    const auto base = data / "golden/architectures" / name;
    const auto golden = read_case(base / "two_blocks.json");
    const auto expected = read_floats(base / "two_blocks.block_abs.query_logits.f32");
    INFO(name);
    for (const std::string& model : {(base / "hf").string(), (base / "hf/model.safetensors").string(), (base / "model.gguf").string()}) {
      INFO(model);
      const json o = run_json({"logits", "--model", model, "--ids", joined(golden.all()), "--blocks",
                               joined(golden.lengths()), "--all", "--compute", "f32"});
      CHECK(largest_difference(rows_of(o), expected, golden.vocab) < 1e-3);
      const json seen = run_json({"inspect", model});
      CHECK(seen["vocab"] == golden.vocab);
      CHECK(seen["formats"].size() >= 1);
      const json next = run_json({"generate", "--model", model, "--ids", joined(golden.all()), "--blocks",
                                  joined(golden.lengths()), "--kv", "f32", "--compute", "f32", "--max-tokens", "16"});
      auto greedy = golden.json["block_abs_greedy"].get<std::vector<int>>();
      const auto ids = next["ids"].get<std::vector<int>>();
      // The words of the GGUF know a token that ends a text; the folder has none.
      CHECK((next["finish"] == "length" || model.ends_with(".gguf")));
      CHECK_FALSE(ids.empty());
      if (next["finish"] == "stop") greedy.resize(std::min(greedy.size(), ids.size()));
      CHECK(ids == greedy);
    }
  }
  // Overrides reach a folder too.
  const std::string hf = (data / "golden/architectures/qwen2/hf").string();
  CHECK(run_json({"inspect", hf, "--rope-theta", "123"})["rope"]["theta"] == 123);
  CHECK(run_json({"inspect", hf, "--rope-scaling", "linear", "--rope-factor", "2"})["rope"]["scaling"] == "linear");
  CHECK(check_refused({"tokenize", "--model", hf, "--text", "x"}, 1).find("--tokenizer") != std::string::npos);
}
