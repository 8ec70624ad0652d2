// SPDX-License-Identifier: MIT
// The double reference against engines that share no code with it: llama.cpp and llama2.c, on trained and on random
// models. They compute in float, so the gate is 1e-3; the deviations found are near 1e-5.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/data.hpp"
#include "../support/golden.hpp"
#include "blockattn/io/gguf_weights.hpp"
#include "blockattn/io/llama2c.hpp"
#include "blockattn/reference/transformer.hpp"

namespace ba = blockattn;
namespace ref = blockattn::reference;
namespace fs = std::filesystem;
using ref::position;
using blockattn_test::golden_case;
using blockattn_test::read_case;
using ids = blockattn_test::token_ids;

namespace {

// The largest difference of rows [first, first + count) from a file of as many.
double deviation(const ref::matrix& logits, std::size_t first, const fs::path& file) {
  const auto expected = blockattn_test::read_floats(file);
  INFO(file.string());
  REQUIRE(logits.cols() > 0);
  REQUIRE(expected.size() % logits.cols() == 0);
  const std::size_t count = expected.size() / logits.cols();
  REQUIRE(count > 0);
  REQUIRE(first + count <= logits.rows());
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(logits(first + i / logits.cols(), i % logits.cols()) - static_cast<double>(expected[i]));
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, d);
  }
  return largest;
}

ids greedy(const ref::transformer& model, ref::context sequence, const ids& question, std::size_t n) {
  ids out;
  ids next = question;
  while (out.size() < n) {
    const auto pass = model.extend(sequence, next);
    const auto last = pass.logits.row(pass.logits.rows() - 1);
    out.push_back(static_cast<ba::token>(std::max_element(last.begin(), last.end()) - last.begin()));
    next = {out.back()};
  }
  return out;
}

struct found {
  double worst = 0;
  std::size_t files = 0;
  std::size_t continuations = 0;

  void logits(const ref::matrix& ours, std::size_t first, const fs::path& file, double gate) {
    const double d = deviation(ours, first, file);
    INFO(file.string() << ": " << d);
    CHECK(d < gate);
    worst = std::max(worst, d);
    ++files;
  }
};

// Every file of a case: dense under each mask, the way of blocks under each policy, and the greedy continuations.
found check_case(const ref::transformer& model, const fs::path& base, double gate = 1e-3, bool words = true) {
  found f;
  const auto c = read_case(base.string() + ".json");
  REQUIRE(c.vocab == model.config().vocab);
  const ids all = c.all();
  const std::size_t q = c.blocks.back().size();
  const std::size_t context = all.size() - q;
  const auto file = [&](const std::string& mode, const char* part) {
    return fs::path(base.string() + "." + mode + "." + part + "_logits.f32");
  };
  const auto dense = [&](const std::string& mode, const ref::mask& allow) {
    if (!fs::exists(file(mode, "query"))) return;
    const auto pass = model.forward(all, allow);
    f.logits(pass.logits, context, file(mode, "query"), gate);
    if (fs::exists(file(mode, "context"))) f.logits(pass.logits, 0, file(mode, "context"), gate);
  };
  const auto blocks = [&](const std::string& mode, position policy) {
    if (!fs::exists(file(mode, "query"))) return;
    f.logits(model.answer(c.blocks, policy).value().logits, 0, file(mode, "query"), gate);
  };
  const auto continues = [&](const std::string& mode, position policy, std::size_t local) {
    const auto expected = c.json.find(mode + "_greedy");
    if (expected == c.json.end() || !words) return;
    ref::context sequence;
    ids question;
    for (std::size_t b = 0; b < c.blocks.size(); ++b) {
      if (b < local && b + 1 < c.blocks.size())
        model.place(sequence, model.encode(c.blocks[b]), policy);
      else
        question.insert(question.end(), c.blocks[b].begin(), c.blocks[b].end());
    }
    INFO(base.string() << " " << mode);
    const auto tokens = expected->get<ids>();
    CHECK(greedy(model, sequence, question, tokens.size()) == tokens);
    ++f.continuations;
  };
  const auto lengths = c.lengths();
  dense("full", ref::causal());
  dense("block_abs", ref::block_mask(lengths));
  blocks("block_abs", position::query_side);
  blocks("block_abs", position::key_side);
  blocks("block_shift", position::query_side);
  blocks("block_shift", position::key_side);
  blocks("block_noshift", position::none);
  continues("full", position::key_side, 0);
  continues("block_abs", position::query_side, c.blocks.size());
  continues("block_shift", position::key_side, c.blocks.size());
  continues("block_noshift", position::none, c.blocks.size());

  // The control: with two context blocks or more, keys that were not turned give something else.
  if (fs::exists(file("block_noshift", "query")) && c.blocks.size() > 2)
    CHECK(deviation(model.answer(c.blocks, position::query_side).value().logits, 0, file("block_noshift", "query")) >
          1);
  return f;
}

ref::transformer read_model(const fs::path& file) {
  const auto weights = ba::gguf_weights::open(file).value();
  return ref::transformer::from(weights).value();
}

ref::transformer read_model(const fs::path& file, ba::rope_scaling scaling) {
  const auto weights = ba::gguf_weights::open(file).value();
  ba::model_config config = weights.config();
  config.rope.scaling = scaling;
  config.rope.factor = 4;  // llama.cpp's frequency scale of 0.25
  config.rope.original_context = 256;
  return ref::transformer::from(weights, config).value();
}

}  // namespace

TEST_CASE("Block-Attention as llama.cpp computes it", "[reference][golden][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto base = folder / "golden/block_attention";
  SECTION("stories260K") {
    const auto model = read_model(folder / "models/stories260K-f32.gguf");
    found three = check_case(model, base / "stories260K/three_blocks");
    CHECK(three.files == 9);
    CHECK(three.continuations == 4);
    INFO("largest deviation " << three.worst);
    const found one = check_case(model, base / "stories260K/one_context_block");
    CHECK(one.files == 9);
    INFO("largest deviation " << one.worst);
    const found tiny = check_case(model, base / "stories260K/tiny_blocks");
    CHECK(tiny.files == 9);
    INFO("largest deviation " << tiny.worst);
    CHECK(std::max({three.worst, one.worst, tiny.worst}) < 1e-4);
  }
  SECTION("babyllama105") {
    const auto model = read_model(folder / "models/babyllama105-f32.gguf");
    const found f = check_case(model, base / "babyllama105/three_blocks");
    CHECK(f.files == 9);
    CHECK(f.continuations == 4);
    INFO("largest deviation " << f.worst);
    CHECK(f.worst < 1e-4);
  }
  SECTION("position interpolation") {
    const auto model = read_model(folder / "models/stories260K-f32.gguf", ba::rope_scaling::linear);
    const found f = check_case(model, base / "stories260K-linear0.25/three_blocks");
    CHECK(f.files == 9);
    CHECK(f.continuations == 4);
    INFO("largest deviation " << f.worst);
    CHECK(f.worst < 1e-4);
  }
  SECTION("YaRN") {
    const auto model = read_model(folder / "models/stories260K-f32.gguf", ba::rope_scaling::yarn);
    const found f = check_case(model, base / "stories260K-yarn0.25/three_blocks");
    CHECK(f.files == 7);
    CHECK(f.continuations >= 2);
    INFO("largest deviation " << f.worst);
    CHECK(f.worst < 1e-4);
  }
  SECTION("Q8_0, whose engine quantises activations as well") {
    const auto model = read_model(folder / "models/babyllama105-Q8_0.gguf");
    const found f = check_case(model, base / "babyllama105-Q8_0/three_blocks", 0.4, false);
    CHECK(f.files == 9);
    INFO("largest deviation " << f.worst);
    CHECK(f.worst > 1e-3);  // or its weights were not those of the file
  }
}

TEST_CASE("other architectures as llama.cpp computes them", "[reference][golden][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  for (const std::string name : {"llama3_rope", "smollm2", "qwen2", "qwen3"}) {
    const auto base = folder / "golden/architectures" / name;
    const auto model = read_model(base / "model.gguf");
    const found full = check_case(model, base / "full");
    const found blocks = check_case(model, base / "two_blocks");
    CHECK(full.files == 1);
    CHECK(full.continuations == 1);
    CHECK(blocks.files == 6);
    CHECK(blocks.continuations == 2);
    INFO(name << ": largest deviation " << std::max(full.worst, blocks.worst));
    CHECK(std::max(full.worst, blocks.worst) < 1e-4);
  }
}

TEST_CASE("llama3 scaling by formula equals the divisors of the file", "[reference][golden][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto weights = ba::gguf_weights::open(folder / "golden/architectures/llama3_rope/model.gguf").value();
  const ba::rope_config& by_file = weights.config().rope;
  REQUIRE(by_file.frequency_divisors.size() == 8);
  ba::rope_config by_formula = by_file;
  by_formula.frequency_divisors.clear();
  by_formula.scaling = ba::rope_scaling::llama3;
  by_formula.factor = 8;
  by_formula.low_frequency_factor = 1;
  by_formula.high_frequency_factor = 4;
  by_formula.original_context = 64;
  const ref::rope a(by_file), b(by_formula);
  double largest = 0;
  for (std::size_t m = 0; m < 8; ++m) largest = std::max(largest, std::abs(a.frequency(m) / b.frequency(m) - 1));
  INFO("largest relative deviation " << largest);
  CHECK(largest < 1e-6);
}

TEST_CASE("llama2.c's logits at every position", "[reference][golden][data]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto check = [&](const ref::transformer& model, const fs::path& base) {
    const auto json = nlohmann::json::parse(blockattn_test::read_text(base.string() + ".json"));
    const auto tokens = json["tokens"].get<ids>();
    const double d = deviation(model.forward(tokens, ref::causal()).logits, 0, base.string() + ".logits.f32");
    INFO(base.string() << ": largest deviation " << d);
    CHECK(d < 1e-4);
  };
  const auto stories = ba::llama2c_weights::open(folder / "models/stories260K.bin").value();
  const auto model = ref::transformer::from(stories).value();
  for (const char* name : {"case0", "case1", "case2"}) check(model, folder / "golden/llama2c/stories260K" / name);
  check(read_model(folder / "models/babyllama105-f32.gguf"), folder / "golden/llama2c/babyllama105/case0");
}
