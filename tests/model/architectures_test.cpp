// SPDX-License-Identifier: MIT
// Architectures that no engine has recorded for us, in the forms that users have them in, against the double reference:
// Mistral's window and Gemma 3, from safetensors and from GGUF; and every quantised type of GGUF.
#include "blockattn/io/gguf_weights.hpp"
#include "blockattn/io/hf_weights.hpp"
#include "../support/model_files.hpp"
#include "../support/report.hpp"
#include "support.hpp"

using namespace blockattn_test;

namespace {

// Block and full attention by all position policies, and the ablation; against the reference on the same source.
template <class Source>
void check(const char* model_name, const char* name, const Source& source, const ba::model_config& expected_config,
           const std::vector<std::size_t>& lengths) {
  INFO(model_name << ", " << name);
  const auto model = ba::llama<>::bind(source, {.compute = ba::compute_type::f32}).value();
  // The oracle reads the weights as the file has them, but is told the configuration that the test wrote.
  const auto oracle = ba::reference::transformer::from(source, expected_config).value();
  ba::session<> session(model, {}, {.kv = ba::dtype::f32, .batch_tokens = 24});
  const auto blocks = random_blocks(lengths, expected_config.vocab, 11);
  const auto expected = reference_logits(oracle, blocks);
  const auto full = reference_logits(oracle, blocks, ba::reference::position::key_side, 0);
  const double query_side = largest_difference(assembled_logits(session, blocks), expected);
  const double all = largest_difference(assembled_logits(session, blocks, ba::position_policy::query_side, 0), full);
  INFO("block " << query_side << ", full " << all);
  CHECK(query_side < logit_gate);
  CHECK(all < logit_gate);
  const double key_side =
      largest_difference(assembled_logits(session, blocks, ba::position_policy::key_side), expected);
  CHECK(key_side < logit_gate);
  report_difference(model_name, name, "double reference", std::max({query_side, key_side, all}));
  CHECK(largest_difference(assembled_logits(session, blocks, ba::position_policy::none),
                           reference_logits(oracle, blocks, ba::reference::position::none)) < logit_gate);
}

// Whether a change of the configuration shows in the logits: what a test compares must be able to differ.
template <class Source>
double effect(const Source& source, const ba::model_config& a, const ba::model_config& b,
              const std::vector<std::size_t>& lengths) {
  const auto blocks = random_blocks(lengths, a.vocab, 11);
  return largest_difference(reference_logits(ba::reference::transformer::from(source, a).value(), blocks),
                            reference_logits(ba::reference::transformer::from(source, b).value(), blocks));
}

ba::hf_weights from_memory(const nlohmann::json& config, const hf_files& files) {
  return ba::hf_weights::from_memory(config.dump(), files.files.front()).value();
}

ba::model_config gemma_config() {
  auto c = small_config(16);
  c.layers = 7;  // five local, one global, one local
  c.qk_norm = c.post_norms = c.tied_embeddings = true;
  c.gate = ba::gate_function::gelu_tanh;
  c.embedding_scale = std::sqrt(24.0f);
  c.attention_scale = static_cast<float>(1.0 / std::sqrt(40.0));  // query_pre_attn_scalar
  c.windows = {12, 12, 12, 12, 12, 0, 12};
  c.rope.theta = 1e6;
  c.rope.scaling = ba::rope_scaling::linear;
  c.rope.factor = 8;
  c.local_rope = ba::rope_config{.theta = 1e4, .rotary_dim = 16};
  return c;
}

nlohmann::json gemma_json(const ba::model_config& c) {
  auto json = hf_json(c, "gemma3_text");
  json["hidden_activation"] = "gelu_pytorch_tanh";
  json["sliding_window"] = 12;
  json["sliding_window_pattern"] = 6;
  json["rope_local_base_freq"] = 1e4;
  json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 8.0}};
  json["query_pre_attn_scalar"] = 40;
  json.erase("tie_word_embeddings");  // tied where the file is silent
  return json;
}

}  // namespace

TEST_CASE("Mistral's sliding window, from safetensors and GGUF", "[architectures]") {
  auto config = small_config(16);
  config.windows = {14, 14, 14};
  const random_model weights(config, 3);
  // Windows that end within a block, between blocks and before the question.
  const std::vector<std::size_t> lengths{9, 20, 3, 18};
  auto unlimited = config;
  unlimited.windows.clear();
  CHECK(effect(weights.source(), config, unlimited, lengths) > 0.1);

  auto json = hf_json(config, "mistral");
  json["sliding_window"] = 14;
  json["architectures"] = {"MistralForCausalLM"};
  const auto files = hf_files_of(weights.source());
  const auto hf = from_memory(json, files);
  CHECK(hf.config().windows == config.windows);
  check("Mistral", "safetensors", hf, config, lengths);

  gguf_writer w = gguf_of(weights.source(), "llama");
  w.u32("llama.attention.sliding_window", 14);
  const byte_vector bytes = w.build();
  const auto gguf = ba::gguf_weights::from_memory(bytes).value();
  config.rope.layout = ba::rope_layout::interleaved;
  check("Mistral", "gguf", gguf, config, lengths);
}

TEST_CASE("Gemma 3, from safetensors and GGUF", "[architectures]") {
  const auto config = gemma_config();
  const random_model weights(config, 5, 1.5);
  const std::vector<std::size_t> lengths{9, 20, 3, 18};
  // Every trait of the family shows in these logits.
  const std::pair<const char*, void (*)(ba::model_config&)> traits[] = {
      {"gate", [](ba::model_config& c) { c.gate = ba::gate_function::silu; }},
      {"embedding scale", [](ba::model_config& c) { c.embedding_scale = 1; }},
      {"attention scale", [](ba::model_config& c) { c.attention_scale = 0; }},
      {"windows", [](ba::model_config& c) { c.windows.assign(7, 1000); c.windows[5] = 0; }},
      {"global layer", [](ba::model_config& c) { c.windows[5] = 12; }},
      {"local rope", [](ba::model_config& c) { c.local_rope.reset(); }},
      {"scaling", [](ba::model_config& c) { c.rope.factor = 1; }}};
  for (const auto& [name, change] : traits) {
    auto other = config;
    change(other);
    INFO(name);
    CHECK(effect(weights.source(), config, other, lengths) > 3e-3);
  }

  const auto files = hf_files_of(weights.source());
  const auto hf = from_memory(gemma_json(config), files);
  auto stated = hf.config();
  stated.architecture = config.architecture;
  stated.context_length = config.context_length;
  CHECK(stated == config);
  // The oracle reads w + 1 from the source, and the random weights themselves.
  check("Gemma 3", "safetensors", hf, config, lengths);
  check("Gemma 3", "the weights themselves", weights.source(), config, lengths);

  auto ours = config;
  ours.attention_scale = 0;  // GGUF: the root of the head size
  gguf_writer w = gguf_of(weights.source(), "gemma3");
  w.u32("gemma3.attention.sliding_window", 12);
  w.text("gemma3.rope.scaling.type", "linear").f32("gemma3.rope.scaling.factor", 8);
  const byte_vector bytes = w.build();
  const auto gguf = ba::gguf_weights::from_memory(bytes).value();
  check("Gemma 3", "gguf", gguf, ours, lengths);
  w.f32("gemma3.attention.scale", config.attention_scale);
  const byte_vector with_scale = w.build();
  const auto scaled = ba::gguf_weights::from_memory(with_scale).value();
  check("Gemma 3", "gguf with a scale", scaled, config, lengths);
  auto seen = scaled.config();
  seen.architecture = config.architecture;
  CHECK(seen == config);
}

TEST_CASE("Gemma 3: weights of bf16 round the embedding's scale, and blocks are named by both ropes", "[architectures]") {
  const auto config = gemma_config();
  const random_model weights(config, 5, 1.5);
  const auto files = hf_files_of(weights.source(), 1, true);
  const auto hf = from_memory(gemma_json(config), files);
  auto rounded = config;
  rounded.embedding_scale = ba::widen(ba::to_bf16(std::sqrt(24.0f)));
  CHECK(rounded.embedding_scale != config.embedding_scale);
  CHECK(hf.config().embedding_scale == rounded.embedding_scale);
  check("Gemma 3", "bf16", hf, rounded, {9, 20, 3, 18});

  const std::vector<ba::token> ids{1, 2, 3};
  const auto key = [&](auto change) {
    auto other = config;
    change(other);
    const random_model same(other, 5, 1.5);
    const auto model = ba::llama<>::bind(same.source()).value();
    ba::session<> session(model);
    return ba::key_of(session.realm(), ids);
  };
  const auto plain = key([](ba::model_config&) {});
  CHECK(plain == key([](ba::model_config&) {}));
  CHECK(plain != key([](ba::model_config& c) { c.local_rope->theta = 2e4; }));
  CHECK(plain != key([](ba::model_config& c) { c.local_rope.reset(); }));
  CHECK(plain != key([](ba::model_config& c) { c.embedding_scale = 2; }));
  CHECK(plain != key([](ba::model_config& c) { c.attention_scale = 0.5f; }));
  CHECK(plain != key([](ba::model_config& c) { c.gate = ba::gate_function::silu; }));
}

TEST_CASE("two ropes: the same bits for any number of workers, and after an edit", "[architectures]") {
  const auto config = gemma_config();
  const random_model weights(config, 5, 1.5);
  const auto model = ba::llama<>::bind(weights.source()).value();
  ba::session<> alone(model);
  ba::session<ba::llama<>, ba::thread_executor> three(model, ba::thread_executor(3));
  const auto blocks = random_blocks({9, 20, 3, 18}, config.vocab, 11);
  for (const auto policy : {ba::position_policy::query_side, ba::position_policy::key_side}) {
    const auto expected = assembled_logits(alone, blocks, policy);
    CHECK(same_bits(assembled_logits(three, blocks, policy), expected));
    // The blocks in another order first, then in the right one.
    ba::context context(alone, {.room = 64, .position = policy});
    std::vector<ba::block_handle> handles;
    for (std::size_t i = 0; i < 3; ++i) handles.push_back(alone.encode(blocks[i]).value());
    (void)context.assemble(std::vector<ba::block_handle>{handles[2], handles[0], handles[1]}).value();
    (void)context.assemble(handles).value();
    std::vector<float> logits(blocks.back().size() * config.vocab);
    alone.prefill_logits(context, blocks.back(), logits).value();
    CHECK(same_bits(logits, expected));
  }
}

namespace {

// Random codes behind scales that make weights of about the size of trained ones.
byte_vector random_blocks_of(ba::dtype type, std::size_t blocks, random_numbers& random) {
  const std::size_t size = ba::block_bytes(type);
  byte_vector out(blocks * size);
  for (auto& b : out) b = static_cast<std::byte>(random.below(256));
  const auto half = [&](std::size_t at, double x) {
    const std::uint16_t bits = ba::to_f16(static_cast<float>(x * (0.5 + random.uniform()))).bits;
    std::memcpy(out.data() + at, &bits, sizeof bits);
  };
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t at = b * size;
    switch (type) {
      case ba::dtype::q4_0: half(at, 0.02); break;
      case ba::dtype::q5_0: half(at, 0.01); break;
      case ba::dtype::q8_0: half(at, 0.0013); break;
      case ba::dtype::q4_1: half(at, 0.02), half(at + 2, -0.15); break;
      case ba::dtype::q5_1: half(at, 0.01), half(at + 2, -0.155); break;
      case ba::dtype::q4_k: half(at, 6e-4), half(at + 2, 4.5e-3); break;
      case ba::dtype::q5_k: half(at, 3e-4), half(at + 2, 4.65e-3); break;
      case ba::dtype::q6_k: half(at + 208, 1e-4); break;
      default: FAIL("not a quantised type");
    }
  }
  return out;
}

}  // namespace

TEST_CASE("a GGUF of each quantised type computes what the double reference does", "[architectures]") {
  ba::model_config config;
  config.layers = 2;
  config.dim = config.ffn = 256;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.vocab = 48;
  config.context_length = 64;
  config.tied_embeddings = true;
  config.rope.rotary_dim = 64;
  const random_model weights(config, 9);
  for (const auto& quantised : {std::pair{2u, ba::dtype::q4_0}, {3u, ba::dtype::q4_1}, {6u, ba::dtype::q5_0},
                                {7u, ba::dtype::q5_1}, {8u, ba::dtype::q8_0}, {12u, ba::dtype::q4_k},
                                {13u, ba::dtype::q5_k}, {14u, ba::dtype::q6_k}}) {
    const auto format = quantised.first;  // clang 14 captures no structured binding
    const auto type = quantised.second;
    INFO(ba::to_string(type));
    gguf_writer w = gguf_of(weights.source(), "qwen2");
    random_numbers random(format);
    const auto quantise = [&](const std::string& name, std::uint64_t rows, std::uint64_t cols) {
      w.tensor(name, {cols, rows}, format,
               random_blocks_of(type, static_cast<std::size_t>(rows * cols) / ba::block_elements(type), random));
    };
    quantise("token_embd.weight", 48, 256);
    for (const std::string l : {"blk.0.", "blk.1."}) {
      quantise(l + "attn_q.weight", 256, 256);
      quantise(l + "attn_k.weight", 128, 256);
      quantise(l + "attn_v.weight", 128, 256);
      for (const char* name : {"attn_output", "ffn_gate", "ffn_up", "ffn_down"})
        quantise(l + name + ".weight", 256, 256);
    }
    const byte_vector bytes = w.build();
    const auto source = ba::gguf_weights::from_memory(bytes).value();
    CHECK(source.find("model.layers.1.mlp.down_proj.weight")->type == type);
    const auto model = ba::llama<>::bind(source, {.compute = ba::compute_type::f32}).value();
    const auto oracle = ba::reference::transformer::from(source).value();
    ba::session<> session(model, {}, {.kv = ba::dtype::f32});
    const auto blocks = random_blocks({5, 4, 3}, config.vocab, 2);
    const auto expected = reference_logits(oracle, blocks);
    const double size = *std::max_element(expected.begin(), expected.end());
    const double difference = largest_difference(assembled_logits(session, blocks), expected);
    INFO("largest logit " << size << ", difference " << difference);
    CHECK(size > 0.05);
    CHECK(difference < logit_gate);
    report_difference("random, largest logit " + std::to_string(size), "GGUF " + std::string(ba::to_string(type)), "double reference", difference);
  }
}
