// SPDX-License-Identifier: MIT
/// What is written as GGUF is read back: the same bits in F32, one rounding in BF16 and F16, the stated bound in Q8_0.
#include "blockattn/io/gguf_writer.hpp"

#include <fstream>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "../support/temporary_folder.hpp"
#include "blockattn/kernel/quantize.hpp"
#include "blockattn/model/random_weights.hpp"

namespace {

namespace ba = blockattn;
using blockattn_test::small_config;
using blockattn_test::temporary_folder;

std::vector<float> decoded(const ba::tensor_info& info, std::span<const std::byte> bytes) {
  std::vector<float> out(info.rows * info.cols);
  for (std::size_t r = 0; r < info.rows; ++r)
    ba::decode_row(info.type, bytes.data() + r * info.cols / ba::block_elements(info.type) * ba::block_bytes(info.type),
                   info.cols, out.data() + r * info.cols);
  return out;
}

template <class W>
std::vector<float> decoded(const W& weights, const std::string& name) {
  const auto bytes = weights.load(name);
  REQUIRE(bytes);
  return decoded(*weights.find(name), bytes->bytes());
}

ba::model_config interleaved() {
  ba::model_config c = small_config();
  c.rope.layout = ba::rope_layout::interleaved;
  return c;
}

}  // namespace

TEST_CASE("gguf_writer: F32 gives back every bit, configuration included", "[io][gguf_writer]") {
  std::vector<ba::model_config> configs{interleaved()};
  configs.push_back(interleaved());
  configs.back().tied_embeddings = true;
  configs.back().head_dim = 10;
  configs.back().rope.rotary_dim = 6;
  configs.back().context_length = 4096;
  configs.push_back(small_config());
  configs.back().architecture = "qwen2";
  configs.back().qkv_bias = true;
  configs.back().rope.theta = 1e6;
  configs.push_back(small_config());
  configs.back().architecture = "qwen3";
  configs.back().qk_norm = true;
  configs.back().rope.scaling = ba::rope_scaling::yarn;
  configs.back().rope.factor = 4;
  configs.back().rope.original_context = 128;
  configs.back().rope.attention_factor = 1.25;
  configs.push_back(interleaved());
  configs.back().windows = {8, 8, 8};
  configs.back().rope.scaling = ba::rope_scaling::linear;
  configs.back().rope.factor = 2;
  configs.push_back(interleaved());
  configs.back().windows = {8, 0, 8};
  configs.push_back(small_config());
  configs.back().architecture = "gemma3";
  configs.back().post_norms = configs.back().qk_norm = configs.back().tied_embeddings = true;
  configs.back().gate = ba::gate_function::gelu_tanh;
  configs.back().embedding_scale = std::sqrt(24.0f);
  configs.back().windows = {16, 0, 16};
  configs.back().local_rope = configs.back().rope;
  configs.back().local_rope->theta = 5e3;
  const temporary_folder folder;
  for (std::size_t i = 0; i < configs.size(); ++i) {
    INFO("configuration " << i);
    const ba::random_weights weights(configs[i], ba::dtype::f32, i);
    const std::string file = folder / "model.gguf";
    const auto done = ba::write_gguf(file, weights, {.name = "a model"});
    if (!done) FAIL(done.error().message);
    const auto back = ba::gguf_weights::open(file);
    REQUIRE(back);
    CHECK(back->file().find_string("general.name") == "a model");
    CHECK(ba::detail::computes_the_same(configs[i], back->config()));
    CHECK(back->config().rope.layout == configs[i].rope.layout);
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

TEST_CASE("gguf_writer: half-split pairs become neighbours where the architecture wants it", "[io][gguf_writer]") {
  ba::model_config c = small_config();
  c.rope.rotary_dim = 12;  // of a head of 16: the last four rows stay
  const ba::random_weights weights(c, ba::dtype::bf16, 3);
  const temporary_folder folder;
  REQUIRE(ba::write_gguf(folder / "m.gguf", weights, {.format = ba::dtype::bf16}));
  const auto back = ba::gguf_weights::open(folder / "m.gguf");
  REQUIRE(back);
  CHECK(back->config().rope.layout == ba::rope_layout::interleaved);
  for (const char* part : {"q", "k", "v"}) {
    const std::string name = std::string("model.layers.1.self_attn.") + part + "_proj.weight";
    const auto from = decoded(weights, name), to = decoded(*back, name);
    for (std::size_t row = 0; row < to.size() / c.dim; ++row) {
      const std::size_t head = row / 16, at = row % 16;
      const std::size_t source = *part == 'v' || at >= 12 ? row : head * 16 + at / 2 + at % 2 * 6;
      for (std::size_t i = 0; i < c.dim; ++i) CHECK(to[row * c.dim + i] == from[source * c.dim + i]);
    }
  }
}

TEST_CASE("gguf_writer: narrower formats round as stated", "[io][gguf_writer]") {
  ba::model_config c = interleaved();
  c.dim = 64;  // 40 columns of down_proj are no multiple of 32
  const ba::random_weights weights(c, ba::dtype::f32, 9);
  const temporary_folder folder;
  for (const ba::dtype format : {ba::dtype::bf16, ba::dtype::f16, ba::dtype::q8_0}) {
    REQUIRE(ba::write_gguf(folder / "m.gguf", weights, {.format = format}));
    const auto back = ba::gguf_weights::open(folder / "m.gguf");
    REQUIRE(back);
    for (const std::string& name : ba::tensor_names(c)) {
      INFO(name << " as " << ba::to_string(format));
      const auto info = back->find(name);
      const auto from = decoded(weights, name), to = decoded(*back, name);
      const bool whole = info->cols % ba::block_elements(format) == 0;
      CHECK(info->type == (info->rows == 1 ? ba::dtype::f32 : whole ? format : ba::dtype::f16));
      for (std::size_t i = 0; i < from.size(); ++i) {
        switch (info->type) {
          case ba::dtype::f32: CHECK(to[i] == from[i]); break;
          case ba::dtype::bf16: CHECK(to[i] == ba::widen(ba::to_bf16(from[i]))); break;
          case ba::dtype::f16: CHECK(to[i] == ba::widen(ba::to_f16(from[i]))); break;
          default: {
            float most = 0;
            for (std::size_t k = i / 32 * 32; k < i / 32 * 32 + 32; ++k) most = std::fmax(most, std::fabs(from[k]));
            CHECK(std::fabs(to[i] - from[i]) <= most * (1.0f / 254 + 0x1.0p-11f));
          }
        }
      }
    }
  }
}

TEST_CASE("gguf_writer: Q8_0 at its edges", "[io][gguf_writer]") {
  std::vector<float> x(32, 0.0f), back(32, 1.0f);
  std::byte block[34];
  ba::encode_q8_0(x.data(), block);
  ba::decode_row(ba::dtype::q8_0, block, 32, back.data());
  CHECK(back == x);
  x[0] = -127, x[1] = 127, x[2] = 0.5f, x[3] = 1.49f, x[31] = -0.5f;  // a scale of one
  ba::encode_q8_0(x.data(), block);
  ba::decode_row(ba::dtype::q8_0, block, 32, back.data());
  CHECK(back[0] == -127);
  CHECK(back[1] == 127);
  CHECK(back[2] == 1);  // halves go away from zero
  CHECK(back[3] == 1);
  CHECK(back[31] == -1);
}

TEST_CASE("gguf_writer: what fails leaves no file, and the old one in place", "[io][gguf_writer]") {
  const temporary_folder folder;
  const std::string file = folder.file("m.gguf", std::string("old"));
  const auto refused = [&](const auto& weights, ba::gguf_write_options options, ba::errc code) {
    const auto done = ba::write_gguf(file, weights, options);
    REQUIRE(!done);
    INFO(done.error().message);
    CHECK(done.error().code == code);
    std::ifstream in(file);
    CHECK(std::string(std::istreambuf_iterator<char>(in), {}) == "old");
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  };
  const ba::random_weights good(interleaved());
  refused(good, {.format = ba::dtype::q4_k}, ba::errc::unsupported);
  refused(ba::span_weights(interleaved()), {}, ba::errc::bad_format);  // no tensors
  ba::model_config odd = interleaved();
  odd.embedding_scale = 3;  // no key of a Llama says so: the file would compute something else
  refused(ba::random_weights(odd), {}, ba::errc::unsupported);
  odd = interleaved();
  odd.heads = 3;
  refused(ba::random_weights(odd), {}, ba::errc::invalid_argument);
  const auto nowhere = ba::write_gguf(folder / "no/such/folder.gguf", good);
  REQUIRE(!nowhere);
  CHECK(nowhere.error().code == ba::errc::io);
}
