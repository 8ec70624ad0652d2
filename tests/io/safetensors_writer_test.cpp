// SPDX-License-Identifier: MIT
/// A folder of config.json and model.safetensors that is written is read back to the same bits and the same model.
#include "blockattn/io/safetensors_writer.hpp"

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "../support/temporary_folder.hpp"
#include "blockattn/model/random_weights.hpp"

namespace {

namespace ba = blockattn;
using blockattn_test::small_config;
using blockattn_test::temporary_folder;

}  // namespace

TEST_CASE("safetensors_writer: F32 gives back every bit, configuration included", "[io][safetensors_writer]") {
  std::vector<ba::model_config> configs(7, small_config());
  configs[1].architecture = "qwen2", configs[1].qkv_bias = configs[1].tied_embeddings = true, configs[1].rope.theta = 1e6;
  configs[2].architecture = "qwen3", configs[2].qk_norm = true, configs[2].norm_epsilon = 1e-6f;
  configs[3].windows = {8, 8, 8};
  configs[4].rope.scaling = ba::rope_scaling::llama3, configs[4].rope.factor = 8, configs[4].rope.original_context = 64;
  configs[5].rope.scaling = ba::rope_scaling::yarn, configs[5].rope.factor = 4, configs[5].rope.original_context = 64;
  configs[6].rope.rotary_dim = 8;
  const temporary_folder folder;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    INFO("configuration " << i);
    const ba::random_weights weights(configs[i], ba::dtype::f32, i);
    const auto done = ba::write_safetensors(folder / "model", weights);
    if (!done) FAIL(done.error().message);
    const auto back = ba::hf_weights::open(folder / "model");
    if (!back) FAIL(back.error().message);
    CHECK(ba::detail::computes_the_same(configs[i], back->config()));
    CHECK(back->config().context_length == configs[i].context_length);
    CHECK(back->names().size() == ba::tensor_names(configs[i]).size());
    for (const std::string& name : ba::tensor_names(configs[i])) {
      const auto bytes = back->load(name), expected = weights.load(name);
      REQUIRE(bytes);
      CHECK(back->find(name) == weights.find(name));
      CHECK(std::ranges::equal(bytes->bytes(), expected->bytes()));
    }
  }
}

TEST_CASE("safetensors_writer: neighbouring pairs become half-split; bf16 rounds once", "[io][safetensors_writer]") {
  ba::model_config c = small_config();
  c.rope.layout = ba::rope_layout::interleaved;
  const ba::random_weights weights(c, ba::dtype::f32, 4);
  const temporary_folder folder;
  REQUIRE(ba::write_safetensors(folder.path(), weights, ba::dtype::bf16));
  const auto back = ba::hf_weights::open(folder.path());
  REQUIRE(back);
  CHECK(back->config().rope.layout == ba::rope_layout::half_split);
  for (const char* part : {"k", "v"}) {
    const std::string name = std::string("model.layers.2.self_attn.") + part + "_proj.weight";
    const auto from = weights.load(name), to = back->load(name);
    for (std::size_t row = 0; row < 32; ++row) {
      const std::size_t at = row % 16, source = *part == 'v' ? row : row - at + at % 8 * 2 + at / 8;
      for (std::size_t i = 0; i < c.dim; ++i) {
        float x = 0;
        ba::bf16 y;
        std::memcpy(&x, from->bytes().data() + (source * c.dim + i) * 4, 4);
        std::memcpy(&y, to->bytes().data() + (row * c.dim + i) * 2, 2);
        CHECK(y == ba::to_bf16(x));
      }
    }
  }
}

TEST_CASE("safetensors_writer: what fails leaves nothing behind", "[io][safetensors_writer]") {
  const temporary_folder folder;
  const auto refused = [&](const auto& weights, ba::dtype format, ba::errc code) {
    const auto done = ba::write_safetensors(folder / "m", weights, format);
    REQUIRE(!done);
    INFO(done.error().message);
    CHECK(done.error().code == code);
    std::error_code none;
    CHECK((!std::filesystem::exists(folder / "m") || std::filesystem::is_empty(folder / "m", none)));
  };
  refused(ba::random_weights(small_config()), ba::dtype::q8_0, ba::errc::unsupported);
  refused(ba::span_weights(small_config()), ba::dtype::f32, ba::errc::bad_format);
  ba::model_config odd = small_config();
  odd.embedding_scale = 2;
  refused(ba::random_weights(odd), ba::dtype::f32, ba::errc::unsupported);
  odd = small_config();
  odd.windows = {8, 0, 8};
  refused(ba::random_weights(odd), ba::dtype::f32, ba::errc::unsupported);
  const std::string file = folder.file("plain", std::string("x"));
  CHECK(ba::write_safetensors(file, ba::random_weights(small_config())).error().code == ba::errc::io);
}
