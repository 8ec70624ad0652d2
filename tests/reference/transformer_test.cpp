// SPDX-License-Identifier: MIT
// The laws of Block-Attention, in double, on models with random weights. Where two modes are the same computation the
// difference is zero; elsewhere it is rounding, below 1e-10.
#include "blockattn/reference/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "rows.hpp"

namespace ba = blockattn;
namespace ref = blockattn::reference;
using blockattn_test::random_model;
using blockattn_test::random_numbers;
using blockattn_test::rows_of;
using blockattn_test::small_config;
using ref::position;

namespace {

constexpr double gate = 1e-10;
using ids = std::vector<ba::token>;
using prompt = std::vector<ids>;

ref::transformer model_of(const ba::model_config& config, std::uint64_t seed = 1) {
  const random_model weights(config, seed);
  return ref::transformer::from(weights.source()).value();
}

prompt random_prompt(std::uint64_t seed, const std::vector<std::size_t>& lengths, std::uint32_t vocab = 53) {
  random_numbers random(seed);
  prompt out;
  for (const std::size_t n : lengths) out.push_back(random.tokens(n, vocab));
  return out;
}

ids joined(const prompt& blocks) {
  ids all;
  for (const auto& b : blocks) all.insert(all.end(), b.begin(), b.end());
  return all;
}

std::vector<std::size_t> lengths_of(const prompt& blocks) {
  std::vector<std::size_t> n;
  for (const auto& b : blocks) n.push_back(b.size());
  return n;
}

ref::matrix last_rows(const ref::matrix& m, std::size_t count) { return rows_of(m, m.rows() - count, count); }

double difference(const ref::matrix& a, const ref::matrix& b) {
  REQUIRE(a.rows() == b.rows());
  REQUIRE(a.cols() == b.cols());
  double largest = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    const double d = std::abs(a.values()[i] - b.values()[i]);
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();  // std::max would lose a NaN
    largest = std::max(largest, d);
  }
  return largest;
}

// The same tokens under the block mask, at positions 0..n-1: what everything else is compared with.
ref::forward_pass dense(const ref::transformer& model, const prompt& blocks) {
  return model.forward(joined(blocks), ref::block_mask(lengths_of(blocks)));
}

ref::forward_pass full(const ref::transformer& model, const prompt& blocks) {
  return model.forward(joined(blocks), ref::causal());
}

// Models that differ in everything the configuration can say.
std::vector<ba::model_config> variants() {
  std::vector<ba::model_config> all;
  for (const std::uint32_t d : {2u, 8u, 16u, 24u, 64u}) all.push_back(small_config(d));
  auto c = small_config(16, 4, 4);  // every head has its own keys
  c.rope.layout = ba::rope_layout::interleaved;
  all.push_back(c);
  c = small_config(8, 6, 1);  // all heads share one
  c.tied_embeddings = true;
  all.push_back(c);
  c = small_config(24);  // partial rotation, biases
  c.rope.rotary_dim = 10;
  c.qkv_bias = true;
  all.push_back(c);
  c = small_config(24);  // norms on q and k
  c.qk_norm = true;
  c.rope.layout = ba::rope_layout::interleaved;
  c.rope.rotary_dim = 16;
  all.push_back(c);
  c = small_config(16);  // windows that cut blocks in two
  c.windows = {0, 5, 9};
  all.push_back(c);
  c = small_config(16);  // a window of one: a token sees itself alone
  c.windows = {3, 1, 0};
  all.push_back(c);
  c = small_config(16);
  c.rope.scaling = ba::rope_scaling::linear;
  c.rope.factor = 4;
  all.push_back(c);
  c.rope.scaling = ba::rope_scaling::llama3;
  c.rope.factor = 8;
  c.rope.original_context = 64;
  all.push_back(c);
  c.rope.scaling = ba::rope_scaling::yarn;
  all.push_back(c);
  c.rope.rotary_dim = 8;
  all.push_back(c);
  c = small_config(16);
  for (int m = 0; m < 8; ++m) c.rope.frequency_divisors.push_back(1.0f + static_cast<float>(m));
  all.push_back(c);
  return all;
}

const std::vector<std::vector<std::size_t>> shapes = {
    {6}, {5, 4}, {1, 1, 1}, {5, 7, 4, 9, 6}, {0, 3, 0, 2, 1}, {15, 16, 17, 2}, {100, 1, 12, 5}};

}  // namespace

TEST_CASE("blocks encoded alone equal the dense block mask", "[reference][transformer]") {
  // The core of the paper, for both ways of turning, on every layer and not only on logits.
  double worst = 0;
  std::uint64_t seed = 100;
  for (const auto& config : variants()) {
    const auto model = model_of(config, ++seed);
    for (const auto& shape : shapes) {
      if (shape[0] == 100 && config.head_dim != 16) continue;  // long ones for one head size: time
      const auto blocks = random_prompt(++seed, shape);
      const auto expected = dense(model, blocks);
      const std::size_t q = blocks.back().size();
      for (const auto policy : {position::key_side, position::query_side}) {
        const auto pass = model.answer(blocks, policy).value();
        worst = std::max(worst, difference(pass.logits, last_rows(expected.logits, q)));
        for (std::size_t l = 0; l < config.layers; ++l) {
          worst = std::max(worst, difference(pass.layers[l].keys, last_rows(expected.layers[l].keys, q)));
          worst = std::max(worst, difference(pass.layers[l].unrotated, last_rows(expected.layers[l].unrotated, q)));
          worst = std::max(worst, difference(pass.layers[l].values, last_rows(expected.layers[l].values, q)));
        }
      }
      // The placed keys and values, against those of the dense pass.
      std::size_t start = 0;
      for (std::size_t b = 0; b + 1 < blocks.size(); ++b) {
        const auto encoded = model.encode(blocks[b]);
        const auto placed = model.moved(encoded.layers, static_cast<std::int64_t>(start));
        for (std::size_t l = 0; l < config.layers; ++l) {
          const std::size_t n = blocks[b].size();
          worst = std::max(worst, difference(placed[l].keys, rows_of(expected.layers[l].keys, start, n)));
          worst = std::max(worst, difference(placed[l].values, rows_of(expected.layers[l].values, start, n)));
        }
        start += blocks[b].size();
      }
    }
  }
  INFO("largest deviation " << worst);
  CHECK(worst < gate);
}

TEST_CASE("a block moved whole changes only by rotation", "[reference][transformer]") {
  double worst = 0;
  for (const auto& config : variants()) {
    const auto model = model_of(config, 7);
    const auto tokens = random_prompt(8, {17})[0];
    const auto local = model.encode(tokens);
    for (const std::int64_t d : {std::int64_t{1}, std::int64_t{100}, std::int64_t{131072}}) {
      const auto there = model.forward(tokens, ref::causal(), d);
      worst = std::max(worst, difference(there.logits, model.forward(tokens, ref::causal()).logits));
      const auto moved = model.moved(local.layers, d);
      for (std::size_t l = 0; l < config.layers; ++l) {
        worst = std::max(worst, difference(moved[l].keys, there.layers[l].keys));
        worst = std::max(worst, difference(local.layers[l].unrotated, there.layers[l].unrotated));
        worst = std::max(worst, difference(local.layers[l].values, there.layers[l].values));
      }
      // There and on, in any number of steps, is one step from the canonical copy.
      const auto detour = model.moved(model.moved(model.moved(local.layers, 3), -40), d + 37);
      for (std::size_t l = 0; l < config.layers; ++l)
        worst = std::max(worst, difference(detour[l].keys, moved[l].keys));
    }
    // Turned back, embedded keys are the unrotated ones times the magnitude on the dims that turn.
    for (std::size_t l = 0; l < config.layers; ++l)
      for (std::size_t t = 0; t < tokens.size(); ++t)
        for (std::size_t h = 0; h < config.kv_heads; ++h) {
          const auto key = local.layers[l].keys.part(t, h * config.head_dim, config.head_dim);
          std::vector<double> back(key.begin(), key.end());
          model.rope().rotate(back, -static_cast<std::int64_t>(t));
          for (std::size_t i = 0; i < config.head_dim; ++i) {
            const double factor = i < config.rope.rotary_dim ? model.rope().magnitude() : 1.0;
            const double plain = local.layers[l].unrotated(t, h * config.head_dim + i) * factor;
            worst = std::max(worst, std::abs(back[i] - plain));
          }
        }
  }
  INFO("largest deviation " << worst);
  CHECK(worst < gate);
}

TEST_CASE("with at most one local block, block is full attention, exactly", "[reference][transformer]") {
  for (const auto& config : variants()) {
    const auto model = model_of(config, 31);
    for (const auto& shape : {std::vector<std::size_t>{9}, {13, 4}, {1, 1}, {0, 5}}) {
      const auto blocks = random_prompt(32, shape);
      const auto expected = last_rows(full(model, blocks).logits, blocks.back().size());
      CHECK(dense(model, blocks).logits == full(model, blocks).logits);
      for (const auto policy : {position::key_side, position::query_side, position::none})
        CHECK(difference(model.answer(blocks, policy).value().logits, expected) == 0.0);
    }
  }
}

TEST_CASE("blocks that join the final one", "[reference][transformer]") {
  const auto config = small_config();
  const auto model = model_of(config, 33);
  const auto blocks = random_prompt(34, {5, 7, 4, 9, 6});
  const auto causal = full(model, blocks);
  for (const auto policy : {position::key_side, position::query_side, position::none}) {
    // None stays local: ordinary full attention, exactly.
    CHECK(difference(model.answer(blocks, policy, 0).value().logits, causal.logits) == 0.0);
    // The first m stay local: the mask with the blocks from m on merged.
    for (std::size_t m = 1; m <= 6; ++m) {
      prompt merged(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(m, 4)));
      merged.push_back(joined(prompt(blocks.begin() + static_cast<std::ptrdiff_t>(merged.size()), blocks.end())));
      const auto pass = model.answer(blocks, policy, m).value();
      CHECK(difference(pass.logits, model.answer(merged, policy).value().logits) == 0.0);
      if (policy != position::none)
        CHECK(difference(pass.logits, last_rows(dense(model, merged).logits, merged.back().size())) < gate);
    }
  }
}

TEST_CASE("with two local blocks or more, block is not full attention", "[reference][transformer]") {
  // Guards against a mask that quietly became causal, and a policy that quietly does nothing.
  const auto model = model_of(small_config(), 35);
  for (const auto& shape : {std::vector<std::size_t>{5, 7, 6}, {5, 7, 4, 9, 6}}) {
    const auto blocks = random_prompt(36, shape);
    const auto causal = last_rows(full(model, blocks).logits, 6);
    const auto turned = model.answer(blocks, position::query_side).value().logits;
    CHECK(difference(turned, causal) > 0.05);
    CHECK(difference(turned, model.answer(blocks, position::none).value().logits) > 0.05);
  }
}

TEST_CASE("a block knows nothing of its neighbours", "[reference][transformer]") {
  const auto model = model_of(small_config(), 37);
  auto blocks = random_prompt(38, {5, 7, 4, 6});
  const auto before = dense(model, blocks);
  auto edited = blocks;
  for (auto& t : edited[1]) t = (t + 1) % 53;
  const auto after = dense(model, edited);
  for (std::size_t l = 0; l < 3; ++l) {
    for (const auto& [first, count] : {std::pair<std::size_t, std::size_t>{0, 5}, {12, 4}}) {  // bit for bit
      CHECK(rows_of(after.layers[l].keys, first, count) == rows_of(before.layers[l].keys, first, count));
      CHECK(rows_of(after.layers[l].values, first, count) == rows_of(before.layers[l].values, first, count));
    }
    CHECK(difference(rows_of(after.layers[l].values, 5, 7), rows_of(before.layers[l].values, 5, 7)) > 0.01);
  }
  CHECK(difference(last_rows(after.logits, 6), last_rows(before.logits, 6)) > 0.01);

  // Another length: what follows moves by the difference and is otherwise as it was.
  edited[1].resize(3);
  const auto shorter = dense(model, edited);
  for (std::size_t l = 0; l < 3; ++l) {
    ref::layer_kv third{{}, rows_of(before.layers[l].keys, 12, 4), {}};
    const auto moved = model.moved({third}, 3 - 7);
    CHECK(difference(moved[0].keys, rows_of(shorter.layers[l].keys, 8, 4)) < gate);
    CHECK(difference(rows_of(before.layers[l].values, 12, 4), rows_of(shorter.layers[l].values, 8, 4)) < gate);
  }
}

TEST_CASE("permuted blocks", "[reference][transformer]") {
  for (const auto& config : {small_config(), small_config(8, 6, 1)}) {
    const auto model = model_of(config, 39);
    const auto blocks = random_prompt(40, {5, 7, 4, 9, 6});
    const prompt permuted = {blocks[2], blocks[0], blocks[3], blocks[1], blocks[4]};
    for (const auto policy : {position::key_side, position::query_side}) {
      const auto there = model.answer(permuted, policy).value().logits;
      CHECK(difference(there, last_rows(dense(model, permuted).logits, 6)) < gate);
      CHECK(difference(there, model.answer(blocks, policy).value().logits) > 0.05);  // order matters
    }
    // Without re-encoding the final block cannot tell the order of the blocks.
    const auto unturned = model.answer(blocks, position::none).value().logits;
    CHECK(difference(model.answer(permuted, position::none).value().logits, unturned) < gate);
  }
}

TEST_CASE("one block in two slots", "[reference][transformer]") {
  const auto model = model_of(small_config(), 41);
  auto blocks = random_prompt(42, {5, 7, 4, 6});
  blocks[2] = blocks[0];
  const auto expected = last_rows(dense(model, blocks).logits, 6);
  const auto once = model.encode(blocks[0]);
  const auto other = model.encode(blocks[1]);
  for (const auto policy : {position::key_side, position::query_side}) {
    ref::context shared;
    for (const auto* b : {&once, &other, &once}) model.place(shared, *b, policy);
    const auto pass = model.extend(shared, blocks[3]);
    CHECK(difference(pass.logits, expected) < gate);
    CHECK(difference(pass.logits, model.answer(blocks, policy).value().logits) == 0.0);
  }
}

TEST_CASE("the final block in pieces, then token by token", "[reference][transformer]") {
  double worst = 0;
  for (const auto& config : variants()) {
    const auto model = model_of(config, 43);
    const auto blocks = random_prompt(44, {5, 7, 4, 13});
    for (const auto policy : {position::key_side, position::query_side, position::none}) {
      const auto expected = model.answer(blocks, policy).value();
      for (const auto& cuts : {std::vector<std::size_t>{4, 1, 8}, std::vector<std::size_t>(13, 1), {12, 0, 1}}) {
        ref::context sequence;
        for (std::size_t b = 0; b < 3; ++b) model.place(sequence, model.encode(blocks[b]), policy);
        std::size_t first = 0;
        for (const std::size_t n : cuts) {
          const auto pass = model.extend(sequence, std::span(blocks[3]).subspan(first, n));
          worst = std::max(worst, difference(pass.logits, rows_of(expected.logits, first, n)));
          for (std::size_t l = 0; l < config.layers; ++l)
            worst = std::max(worst, difference(pass.layers[l].keys, rows_of(expected.layers[l].keys, first, n)));
          first += n;
        }
        CHECK(sequence.tokens == 29);
      }
    }
  }
  INFO("largest deviation " << worst);
  CHECK(worst < gate);
}

TEST_CASE("a later turn: new blocks after an answer", "[reference][transformer]") {
  // blocks, question, then new passages and another question: the second final chunk sees the first and its answer.
  const auto model = model_of(small_config(), 45);
  const auto parts = random_prompt(46, {5, 7, 6, 4, 8, 3});  // block, block, question; block, block, question
  std::vector<std::size_t> part_of;
  for (std::size_t p = 0; p < parts.size(); ++p) part_of.insert(part_of.end(), parts[p].size(), p);
  const auto expected = model.forward(joined(parts), [&](std::size_t i, std::size_t j) {
    return j <= i && (part_of[i] == part_of[j] || part_of[i] == 2 || part_of[i] == 5);
  });
  for (const auto policy : {position::key_side, position::query_side}) {
    ref::context sequence;
    for (const std::size_t p : {0u, 1u}) model.place(sequence, model.encode(parts[p]), policy);
    CHECK(difference(model.extend(sequence, parts[2]).logits, rows_of(expected.logits, 12, 6)) < gate);
    for (const std::size_t p : {3u, 4u}) model.place(sequence, model.encode(parts[p]), policy);
    CHECK(difference(model.extend(sequence, parts[5]).logits, last_rows(expected.logits, 3)) < gate);
  }
}

TEST_CASE("a poisoned token stays in its block", "[reference][transformer]") {
  // A vocabulary row of NaN: blocks without that token cannot notice, the final block and its own block must.
  auto config = small_config();
  std::vector<float> embedding;
  const random_model weights(config, 47);
  const auto bytes = weights.source().load("model.embed_tokens.weight").value();
  embedding.resize(bytes.bytes().size() / sizeof(float));
  std::memcpy(embedding.data(), bytes.bytes().data(), bytes.bytes().size());
  for (std::size_t d = 0; d < config.dim; ++d) embedding[50 * config.dim + d] = std::numeric_limits<float>::quiet_NaN();
  ba::span_weights poisoned = weights.source();
  REQUIRE(poisoned.add("model.embed_tokens.weight", std::span<const float>(embedding), config.vocab, config.dim));
  const auto model = ref::transformer::from(poisoned).value();

  auto blocks = random_prompt(48, {5, 7, 4, 3}, 50);
  const auto clean = dense(model, blocks);
  blocks[1][2] = 50;
  const auto pass = dense(model, blocks);
  CHECK(rows_of(pass.logits, 0, 7) == rows_of(clean.logits, 0, 7));    // block 0, and block 1 before the token
  CHECK(rows_of(pass.logits, 12, 4) == rows_of(clean.logits, 12, 4));  // block 2
  CHECK(std::isnan(pass.logits(7, 0)));
  CHECK(std::isnan(pass.logits(11, 0)));
  for (std::size_t i = 16; i < 19; ++i) CHECK(std::isnan(pass.logits(i, 0)));
}

TEST_CASE("grouped queries equal repeated keys and values", "[reference][transformer]") {
  for (const std::uint32_t kv_heads : {1u, 2u, 3u}) {
    auto config = small_config(8, 6, kv_heads);
    config.qkv_bias = true;
    const random_model weights(config, 49);
    auto repeated = config;
    repeated.kv_heads = 6;
    ba::span_weights source(repeated);
    std::deque<std::vector<float>> storage;
    const auto copy = [&](const std::string& name, std::size_t groups) {
      const auto info = weights.source().find(name);
      REQUIRE(info);
      const auto bytes = weights.source().load(name).value();
      std::vector<float> in(info->rows * info->cols);
      std::memcpy(in.data(), bytes.bytes().data(), bytes.bytes().size());
      // `groups` equal parts, each written 6 / groups times; 0 means as it is.
      auto& out = storage.emplace_back();
      if (groups == 0) out = in;
      for (std::size_t g = 0; g < groups; ++g)
        for (std::size_t copy_of = 0; copy_of < 6 / groups; ++copy_of)
          out.insert(out.end(), in.begin() + static_cast<std::ptrdiff_t>(g * in.size() / groups),
                     in.begin() + static_cast<std::ptrdiff_t>((g + 1) * in.size() / groups));
      const std::size_t factor = out.size() / in.size();
      const bool is_vector = info->rows == 1;
      REQUIRE(source.add(name, std::span<const float>(out), is_vector ? 1 : info->rows * factor,
                         is_vector ? info->cols * factor : info->cols));
    };
    copy("model.embed_tokens.weight", 0);
    copy("model.norm.weight", 0);
    copy("lm_head.weight", 0);
    for (int l = 0; l < 3; ++l) {
      const std::string layer = "model.layers." + std::to_string(l) + ".";
      for (const char* name :
           {"input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
            "mlp.down_proj.weight", "self_attn.q_proj.weight", "self_attn.q_proj.bias", "self_attn.o_proj.weight"})
        copy(layer + name, 0);
      for (const char* name :
           {"self_attn.k_proj.weight", "self_attn.k_proj.bias", "self_attn.v_proj.weight", "self_attn.v_proj.bias"})
        copy(layer + name, kv_heads);
    }
    const auto grouped = ref::transformer::from(weights.source()).value();
    const auto explicit_heads = ref::transformer::from(source).value();
    const auto blocks = random_prompt(50, {5, 7, 6});
    CHECK(dense(grouped, blocks).logits == dense(explicit_heads, blocks).logits);
    CHECK(grouped.answer(blocks, position::query_side).value().logits ==
          explicit_heads.answer(blocks, position::query_side).value().logits);
  }
}

TEST_CASE("many short blocks", "[reference][transformer]") {
  auto config = small_config(8);
  config.layers = 2;
  config.windows = {0, 40};
  const auto model = model_of(config, 51);
  std::vector<std::size_t> shape;
  for (std::size_t b = 0; b < 300; ++b) shape.push_back(b % 3);
  shape.push_back(5);
  const auto blocks = random_prompt(52, shape);
  const auto expected = last_rows(dense(model, blocks).logits, 5);
  CHECK(difference(model.answer(blocks, position::key_side).value().logits, expected) < gate);
  CHECK(difference(model.answer(blocks, position::query_side).value().logits, expected) < gate);
}

TEST_CASE("a window that reaches everything is none; a shorter one is not", "[reference][transformer]") {
  auto config = small_config();
  const auto blocks = random_prompt(54, {5, 7, 4, 6});
  const auto plain = model_of(config, 53).answer(blocks, position::query_side).value().logits;
  config.windows = {22, 22, 22};
  CHECK(model_of(config, 53).answer(blocks, position::query_side).value().logits == plain);
  config.windows = {21, 22, 22};  // the last query loses the first key of one layer
  const auto cut = model_of(config, 53).answer(blocks, position::query_side).value().logits;
  CHECK(rows_of(cut, 0, 5) == rows_of(plain, 0, 5));
  CHECK(difference(cut, plain) > 1e-6);
}

TEST_CASE("the configuration's switches do something", "[reference][transformer]") {
  const auto blocks = random_prompt(55, {5, 7, 6});
  auto config = small_config();
  const auto plain = model_of(config, 56).answer(blocks, position::query_side).value().logits;
  const auto changes = [&](auto change) {
    auto c = config;
    change(c);
    const random_model weights(small_config(), 56);
    return difference(
        ref::transformer::from(weights.source(), c).value().answer(blocks, position::query_side).value().logits, plain);
  };
  CHECK(changes([](auto&) {}) == 0.0);
  CHECK(changes([](auto& c) { c.rope.layout = ba::rope_layout::interleaved; }) > 1e-3);
  CHECK(changes([](auto& c) { c.rope.rotary_dim = 8; }) > 1e-3);
  CHECK(changes([](auto& c) { c.rope.theta = 100; }) > 1e-3);
  CHECK(changes([](auto& c) { c.norm_epsilon = 0.1f; }) > 1e-3);
  CHECK(changes([](auto& c) { c.tied_embeddings = true; }) > 1e-3);
  CHECK(changes([](auto& c) {
          c.rope.scaling = ba::rope_scaling::yarn;
          c.rope.factor = 4;
          c.rope.original_context = 64;
        }) > 1e-3);
}

TEST_CASE("what cannot be answered is refused", "[reference][transformer]") {
  const auto model = model_of(small_config());
  for (const auto& blocks : {prompt{}, prompt{{}}, prompt{{1, 2}, {}}}) {
    const auto pass = model.answer(blocks, position::query_side);
    REQUIRE_FALSE(pass);
    CHECK(pass.error().code == ba::errc::invalid_argument);
    CHECK(pass.error().message == "final block: expected at least one token, found none");
  }
  CHECK(model.answer(prompt{{1}, {53}}, position::none).error().message ==
        "block 1: expected token ids below 53, found 53");
  CHECK(model.answer(prompt{{-1}, {5}}, position::none).error().code == ba::errc::invalid_argument);
}
