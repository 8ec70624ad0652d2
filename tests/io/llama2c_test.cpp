// SPDX-License-Identifier: MIT
// llama2.c files of both versions: configuration, every tensor, the three kinds of source.
#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/io/llama2c.hpp>

#include "../support/data.hpp"
#include "../support/temporary_file.hpp"
#include "llama2c_files.hpp"

namespace ba = blockattn;
using blockattn_test::byte_vector;

namespace {

std::vector<float> floats_of(const ba::tensor_bytes& bytes) {
  std::vector<float> out(bytes.bytes().size() / sizeof(float));
  std::memcpy(out.data(), bytes.bytes().data(), bytes.bytes().size());
  return out;
}

template <class Weights>
std::vector<float> load(const Weights& weights, std::string_view name) {
  INFO(name);
  auto bytes = weights.load(name);
  REQUIRE(bytes.has_value());
  return floats_of(*bytes);
}

}  // namespace

TEST_CASE("llama2c: both versions, tied and untied") {
  const int version = GENERATE(0, 1);
  const bool tied = GENERATE(true, false);
  // What the writer put under a name must come back under that name.
  std::map<std::string, std::vector<float>> written;
  float next = 0;
  const byte_vector bytes =
      blockattn_test::llama2c_file({.version = version, .tied = tied}, [&](const std::string& name, std::size_t n) {
        std::vector<float> out(n);
        for (float& x : out) x = (next += 0.25f);
        return written[name] = out;
      });
  const blockattn_test::temporary_file path(bytes);
  std::vector<ba::llama2c_weights> all;
  all.push_back(ba::llama2c_weights::from_memory(bytes).value());
  all.push_back(ba::llama2c_weights::open(path.path()).value());
  all.push_back(ba::llama2c_weights::from_callback(bytes.size(), [&](std::uint64_t offset, std::span<std::byte> out) {
                  std::memcpy(out.data(), bytes.data() + offset, out.size());
                  return ba::result<void>();
                }).value());
  for (const auto& weights : all) {
    CHECK(weights.version() == static_cast<std::uint32_t>(version));
    const ba::model_config& c = weights.config();
    CHECK(c.architecture == "llama");
    CHECK(c.layers == 2);
    CHECK(c.dim == 8);
    CHECK(c.ffn == 12);
    CHECK(c.heads == 2);
    CHECK(c.kv_heads == 1);
    CHECK(c.head_dim == 4);
    CHECK(c.vocab == 10);
    CHECK(c.context_length == 6);
    CHECK(c.norm_epsilon == 1e-5f);
    CHECK(c.tied_embeddings == tied);
    CHECK_FALSE(c.qkv_bias);
    CHECK_FALSE(c.qk_norm);
    CHECK(c.rope.theta == 10000.0);
    CHECK(c.rope.rotary_dim == 4);
    CHECK(c.rope.layout == ba::rope_layout::interleaved);
    CHECK(ba::validate(c).has_value());

    CHECK(weights.names().size() == (tied ? 20 : 21));
    CHECK(weights.names().size() == written.size());
    for (const auto& [name, values] : written) {
      CHECK(load(weights, name) == values);
      weights.release(name);
      CHECK(load(weights, name) == values);
    }
    CHECK(weights.find("model.layers.1.mlp.down_proj.weight") == ba::tensor_info{ba::dtype::f32, 8, 12, 384});
    CHECK(weights.find("model.layers.0.self_attn.k_proj.weight") == ba::tensor_info{ba::dtype::f32, 4, 8, 128});
    CHECK(weights.find("model.norm.weight") == ba::tensor_info{ba::dtype::f32, 1, 8, 32});
    CHECK(weights.find("lm_head.weight").has_value() == !tied);
    CHECK_FALSE(weights.find("model.layers.2.input_layernorm.weight"));
    const auto missing = weights.load("model.layers.2.input_layernorm.weight");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ba::errc::bad_format);
    weights.release("no such tensor");
  }
}

TEST_CASE("llama2c: files that are not there") {
  const auto none = ba::llama2c_weights::open("/nonexistent/model.bin");
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ba::errc::io);
  CHECK(none.error().message.find("/nonexistent/model.bin") != std::string::npos);
}

TEST_CASE("llama2c: the published model equals its GGUF conversion, tensor by tensor", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto bin = ba::llama2c_weights::open(folder / "models/stories260K.bin").value();
  const auto gguf = ba::gguf_weights::open(folder / "models/stories260K-f32.gguf").value();
  const ba::model_config& c = bin.config();
  CHECK(bin.version() == 0);
  CHECK(c.dim == 64);
  CHECK(c.ffn == 172);
  CHECK(c.layers == 5);
  CHECK(c.heads == 8);
  CHECK(c.kv_heads == 4);
  CHECK(c.head_dim == 8);
  CHECK(c.vocab == 512);
  CHECK(c.context_length == 512);
  CHECK(c.tied_embeddings);

  // The converter keeps the rows of Q and K, which are neighbouring pairs in both, writes the tied head a second time,
  // and states a context length of its own.
  ba::model_config expected = gguf.config();
  CHECK_FALSE(expected.tied_embeddings);
  CHECK(expected.context_length == 128);
  expected.tied_embeddings = true;
  expected.context_length = 512;
  CHECK(c == expected);
  CHECK(bin.names().size() == 47);
  CHECK(gguf.names().size() == 48);
  for (const std::string_view name : bin.names()) {
    CHECK(bin.find(name) == gguf.find(name));
    CHECK(load(bin, name) == load(gguf, name));
  }
  CHECK(load(gguf, "lm_head.weight") == load(bin, "model.embed_tokens.weight"));
}

TEST_CASE("llama2c: the published model rewritten as version 1", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto first = ba::llama2c_weights::open(folder / "models/stories260K.bin").value();
  const byte_vector bytes =
      blockattn_test::llama2c_file({1, true, 64, 172, 5, 8, 4, 512, 512}, [&](const std::string& name, std::size_t n) {
        auto values = load(first, name);
        REQUIRE(values.size() == n);
        return values;
      });
  const auto second = ba::llama2c_weights::from_memory(bytes).value();
  CHECK(second.version() == 1);
  CHECK(second.config() == first.config());
  CHECK(second.names() == first.names());
  for (const std::string_view name : first.names()) CHECK(load(second, name) == load(first, name));

  // And the writer itself: version 0 gives the published bytes back, but for the angles.
  const byte_vector again = blockattn_test::llama2c_file(
      {0, true, 64, 172, 5, 8, 4, 512, 512}, [&](const std::string& name, std::size_t) { return load(first, name); });
  const std::string published = blockattn_test::read_text(folder / "models/stories260K.bin");
  REQUIRE(again.size() == published.size());
  const std::size_t angles = 512 * 8 * sizeof(float);
  CHECK(std::memcmp(again.data(), published.data(), published.size() - angles) == 0);
}
