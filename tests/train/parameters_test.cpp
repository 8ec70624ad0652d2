// SPDX-License-Identifier: MIT
// Parameters: places, seeds, and the way from any source and back to a model.
#include "support.hpp"

#include "blockattn/model/llama.hpp"
#include "blockattn/model/random_weights.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

TEST_CASE("train: parameters lie in order, without overlap, products without gaps") {
  ba::model_config c = odd_config();
  c.qkv_bias = c.qk_norm = true;
  const ba::parameters<float> p(c);
  std::size_t end = 0, sum = 0;
  for (const auto& place : p.places()) {
    CHECK(place.offset >= end);
    end = place.offset + place.size();
    sum += place.size();
  }
  CHECK(end <= p.all().size());
  CHECK(sum == p.count());
  CHECK(p.places().size() == 3 + 2 * 14);
  const auto follows = [&](const char* a, const char* b) {
    return p.find_place(b)->offset == p.find_place(a)->offset + p.find_place(a)->size();
  };
  CHECK(follows("model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.k_proj.weight"));
  CHECK(follows("model.layers.1.self_attn.k_proj.bias", "model.layers.1.self_attn.v_proj.bias"));
  CHECK(follows("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight"));
  CHECK(p.span("model.layers.2.mlp.up_proj.weight").empty());
  CHECK(p.span("lm_head.weight").size() == 37 * 21);
}

TEST_CASE("train: the same seed draws the same weights, of the deviation asked for") {
  ba::model_config c = odd_config();
  c.vocab = 2000;
  const auto a = ba::parameters<float>::random(c, 5, {.deviation = 0.1}).value();
  const auto b = ba::parameters<double>::random(c, 5, {.deviation = 0.1}).value();
  const auto other = ba::parameters<float>::random(c, 6, {.deviation = 0.1}).value();
  const auto x = a.span("model.embed_tokens.weight");
  const auto y = b.span("model.embed_tokens.weight");
  double squares = 0, sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    REQUIRE(static_cast<double>(x[i]) == y[i]);
    squares += y[i] * y[i];
    sum += y[i];
  }
  const auto n = static_cast<double>(x.size());
  CHECK(std::abs(std::sqrt(squares / n) - 0.1) < 0.002);
  CHECK(std::abs(sum / n) < 0.002);
  CHECK_FALSE(std::ranges::equal(x, other.span("model.embed_tokens.weight")));
  for (const float w : a.span("model.layers.0.input_layernorm.weight")) CHECK(w == 1.0f);
}

TEST_CASE("train: a larger vocabulary has the old rows, and their mean") {
  for (const bool tied : {true, false}) {
    ba::model_config c = odd_config();
    c.tied_embeddings = tied;
    const auto before = lively_parameters<float>(c);
    const auto after = before.with_vocabulary(c.vocab + 2);
    CHECK(after.config().vocab == c.vocab + 2);
    CHECK(before.with_vocabulary(c.vocab).count() == before.count());
    for (const ba::parameter_place& p : before.places()) {
      INFO(p.name << (tied ? ", tied" : ""));
      const auto old = before.span(p), grown = after.span(p.name);
      REQUIRE(grown.size() >= old.size());
      CHECK(std::ranges::equal(old, grown.first(old.size())));
      const bool rows = p.rows == c.vocab;
      CHECK(grown.size() == old.size() + (rows ? 2 * p.cols : 0));
      for (std::size_t i = old.size(); i < grown.size(); ++i) {
        double mean = 0;
        for (std::size_t r = 0; r < p.rows; ++r) mean += static_cast<double>(old[r * p.cols + i % p.cols]) / static_cast<double>(p.rows);
        CHECK(static_cast<double>(grown[i]) == Approx(mean).margin(1e-7));
      }
    }
  }
}

TEST_CASE("train: parameters come from sources of any type, and a model binds to them") {
  ba::model_config c = odd_config();
  c.dim = 32;
  for (const ba::dtype type : {ba::dtype::f32, ba::dtype::bf16, ba::dtype::f16}) {
    const ba::random_weights source(c, type, 3);
    const auto p = ba::parameters<float>::from(source).value();
    const auto again = ba::parameters<float>::from(p).value();
    CHECK(std::ranges::equal(p.all(), again.all()));
    std::vector<float> row(p.span("lm_head.weight").size());
    ba::decode_row(type, source.load("lm_head.weight").value().bytes().data(), row.size(), row.data());
    CHECK(std::ranges::equal(row, p.span("lm_head.weight")));
    CHECK(ba::llama<>::bind(p).has_value());
  }
  ba::model_config wide = c;
  wide.ffn = 40;
  ba::span_weights lacking(c);
  CHECK(ba::parameters<float>::from(lacking).error().code == ba::errc::bad_format);
  const std::vector<float> few(10);
  REQUIRE(lacking.add("model.embed_tokens.weight", std::span<const float>(few)).has_value());
  CHECK(ba::parameters<float>::from(lacking).error().code == ba::errc::shape_mismatch);
}
