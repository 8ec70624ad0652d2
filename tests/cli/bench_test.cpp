// SPDX-License-Identifier: MIT
// `bench` on a shape small enough for a test: every field is there and agrees with the others; the plot is drawn.
#include <fstream>
#include <sstream>
#include <tuple>

#include "../support/temporary_folder.hpp"
#include "program.hpp"

using namespace blockattn_test;

namespace {

arguments small_bench() {
  return {"bench", "--layers", "1",  "--dim",   "64", "--heads",   "2", "--kv-heads", "1", "--head-dim", "32",
          "--ffn", "64",       "--vocab", "300", "--context", "128", "--block", "32", "--question", "5",
          "--repeats", "1", "--threads", "2"};
}

arguments with(std::initializer_list<std::string> more) {
  arguments all = small_bench();
  all.insert(all.end(), more);
  return all;
}

}  // namespace

TEST_CASE("cli: bench measures a given shape, and draws") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  const json o = run_json(with({"--plot", folder / "ttft.svg", "--pass", "64"}));
  CHECK(o["pass_rows"] == 64);
  CHECK(o["context"] == 128);
  CHECK(o["blocks"] == 4);
  CHECK(o["question"] == 5);
  CHECK(o["threads"] == 2);
  // One layer of keys and values in bf16, one head of 32.
  CHECK(o["kv_bytes"] == 128 * 2 * 32 * 2);
  for (const char* field : {"full_ms", "cold_ms", "warm_ms", "edit_ms", "encode_tok_s", "decode_tok_s",
                            "decode_empty_tok_s", "peak_gflop_s", "read_gb_s", "decode_share"})
    CHECK(o[field].get<double>() > 0);
  CHECK(o["place_ms"].get<double>() >= 0);
  CHECK(o["reduction"].get<double>() == Approx(1 - o["warm_ms"].get<double>() / o["full_ms"].get<double>()));
  REQUIRE(o["curve"].size() == 3);  // 32, 64 and 128 tokens
  for (std::size_t i = 0; i < 3; ++i) CHECK(o["curve"][i]["context"] == 32 << i);

  std::ifstream in(folder / "ttft.svg");
  std::stringstream svg;
  svg << in.rdbuf();
  const std::string text = svg.str();
  CHECK(text.rfind("<svg", 0) == 0);
  CHECK(text.find("</svg>") != std::string::npos);
  for (const char* line : {"full attention", "blocks, cold", "blocks, warm"}) CHECK(text.find(line) != std::string::npos);
  CHECK(text.find("nan") == std::string::npos);
}

TEST_CASE("cli: bench with weights of other formats") {
  BLOCKATTN_REQUIRE_CLI();
  // 64 x 64 of each of four projections and gate, up and down, keys and values half of it; 300 x 64 of embeddings.
  const auto elements = [](std::size_t block, std::size_t bytes) { return (5 * 64 * 64 + 2 * 32 * 64 + 304 * 64) / block * bytes; };
  for (const auto& [name, block, bytes] : {std::tuple{"q8_0", 32u, 34u}, {"q4_0", 32u, 18u}, {"q5_1", 32u, 24u}}) {
    const json o = run_json(with({"--no-full", "--format", name}));
    INFO(o.dump());
    CHECK(o["format"] == name);
    CHECK(o["warm_ms"].get<double>() > 0);
    CHECK(o["weight_bytes"].get<std::size_t>() >= elements(block, bytes));
    CHECK(o["weight_bytes"].get<std::size_t>() < elements(block, bytes) + 4096);
  }
}

TEST_CASE("cli: bench without full attention, and shapes that cannot be") {
  BLOCKATTN_REQUIRE_CLI();
  const json o = run_json(with({"--no-full"}));
  CHECK(!o.contains("full_ms"));
  CHECK(!o.contains("curve"));
  CHECK(o["warm_ms"].get<double>() > 0);
  CHECK(check_refused({"bench", "--heads", "3", "--kv-heads", "2"}, 1).find("multiple of 2") != std::string::npos);
  CHECK(check_refused({"bench", "--head-dim", "33"}, 1).find("even") != std::string::npos);
  check_refused(with({"--plot", "/no/such/folder/x.svg"}), 1);
  check_refused({"bench", "--layers", "0"}, 2);
  CHECK(check_refused(with({"--format", "q4_k"}), 1).find("blocks of 256") != std::string::npos);
}
