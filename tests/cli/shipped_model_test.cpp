// SPDX-License-Identifier: MIT
// The model that lies in examples/data does what docs/accuracy.md says of it, on a fixed slice of the worlds that it was
// measured on; and the demo answers from it.
#include "program.hpp"

using namespace blockattn_test;

namespace {

std::string shipped(const char* name) { return std::string(BLOCKATTN_EXAMPLE_DATA) + "/" + name; }

}  // namespace

TEST_CASE("shipped model: accuracy over blocks and whole, on worlds it never saw", "[cli][shipped]") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const std::string worlds = folder / "worlds.jsonl";
  run_json({"worlds", "--seed", "1001", "--count", "12", "--out", worlds});
  const auto accuracy = [&](arguments more) {
    arguments call{"score", "--model", shipped("village.gguf"), "--dataset", worlds, "--template", "plain", "--max-tokens", "5"};
    call.insert(call.end(), more.begin(), more.end());
    const json scored = run_json(call);
    CHECK(scored["n"] == 168);
    return scored["accuracy"].get<double>();
  };
  const double block = accuracy({}), full = accuracy({"--mode", "full"}), unplaced = accuracy({"--position", "none"});
  INFO("block " << block << ", full " << full << ", without positions " << unplaced);
  // Measured, less what another instruction set may round differently; a guess would be right once in a hundred.
  CHECK(block > 0.92);
  CHECK(full > 0.95);
  CHECK(unplaced < block);
}

TEST_CASE("shipped model: the demo answers from the store, and an edit encodes one block", "[cli][shipped]") {
  BLOCKATTN_REQUIRE_CLI();
  const json shown = run_json({"demo", "--model", shipped("village.gguf"), "--passages", shipped("village.jsonl"),
                               "--questions", shipped("village_questions.txt"), "--edit", "Mira lives in Ripley=Mira lives in Dale"});
  const std::vector<std::string> expected{"Ripley", "Jonas", "gardener: Hanna", "Ripley: pots", "Jonas: butcher", "thirteen",
                                          "Milburn", "Magnus", "Arne", "cook: pears", "Dale"};
  REQUIRE(shown["rows"].size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(shown["rows"][i]["answer"] == expected[i]);
  CHECK(shown["same_bits"] == true);
  CHECK(shown["encoded_for_edit"] == 1);
}
