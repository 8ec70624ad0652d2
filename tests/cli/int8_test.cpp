// SPDX-License-Identifier: MIT
// `--kv int8` wherever the program stores keys and values.
#include <cmath>

#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

TEST_CASE("cli: int8 keys and values, in memory and in a folder") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string m = folder.file("tiny.gguf", tiny_gguf().build());
  // Two layers of two heads: keys of 4 dims, values of 16, two scales.
  CHECK(run_json({"inspect", m, "--kv", "int8"})["kv_bytes_per_token"] == 2 * 2 * (4 + 16 + 2 * 4));

  const std::string ids = "5,6,7,8,9,10,11,12,13,14,15,16", store = folder / "store";
  const arguments prompt{"logits", "--model", m, "--ids", ids, "--blocks", "5,4,3", "--store", store};
  const auto with = [&](const arguments& more) {
    arguments all = prompt;
    all.insert(all.end(), more.begin(), more.end());
    return run_json(all);
  };
  const json exact = with({"--kv", "f32"}), cold = with({"--kv", "int8"}), warm = with({"--kv", "int8"});
  CHECK(cold["blocks"][0]["hit"] == "miss");  // what f32 left there is not theirs
  CHECK(warm["blocks"][0]["hit"] == "directory");
  CHECK(warm["blocks"][1]["hit"] == "directory");
  CHECK(warm["logits"] == cold["logits"]);
  double most = 0;
  for (std::size_t i = 0; i < exact["logits"].size(); ++i)
    most = std::max(most, std::abs(exact["logits"][i].get<double>() - cold["logits"][i].get<double>()));
  CHECK(most > 0);
  CHECK(most < 0.05);

  const std::string line = "{\"title\": \"A\", \"text\": \"Salt is sold at dawn.\"}\n";
  const json answer = run_json({"answer", "--model", m, "--passages", folder.file("p.jsonl", line), "--question",
                                "When?", "--max-tokens", "4", "--kv", "int8", "--compare"});
  CHECK(answer["compare"]["same_bits"] == true);
  CHECK(run_json({"generate", "--model", m, "--ids", ids, "--max-tokens", "3", "--kv", "int8"})["ids"].size() == 3);
  CHECK(check_refused({"logits", "--model", m, "--ids", ids, "--kv", "int8", "--position", "key_side"}, 1)
            .find("round int8 keys again") != std::string::npos);
}
