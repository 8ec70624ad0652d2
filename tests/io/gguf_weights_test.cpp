// SPDX-License-Identifier: MIT
// Models in GGUF files: configuration by key, names, what is refused.
#include <blockattn/io/gguf_weights.hpp>
#include <cmath>

#include "../support/data.hpp"
#include "../support/gguf_writer.hpp"
#include "../support/temporary_file.hpp"
#include "../support/temporary_folder.hpp"

namespace ba = blockattn;
using blockattn_test::byte_vector;
using blockattn_test::gguf_writer;
using blockattn_test::small_gguf;

namespace {

ba::model_config config_of(gguf_writer& w) {
  const byte_vector bytes = w.build();
  const auto weights = ba::gguf_weights::from_memory(bytes);
  if (!weights) FAIL(weights.error().message);
  return weights->config();
}

ba::failure error_of(gguf_writer& w) {
  const byte_vector bytes = w.build();
  const auto weights = ba::gguf_weights::from_memory(bytes);
  REQUIRE_FALSE(weights.has_value());
  return weights.error();
}

// The code, and a part of the message, of what is refused.
void refuses(gguf_writer w, ba::errc code, const std::string& says) {
  const ba::failure e = error_of(w);
  INFO(e.message);
  CHECK(std::string(ba::to_string(e.code)) == ba::to_string(code));
  CHECK(e.message.find(says) != std::string::npos);
  CHECK(e.message.rfind("memory: ", 0) == 0);
  CHECK(e.message.find("expected") != std::string::npos);
}

}  // namespace

TEST_CASE("gguf weights: a llama") {
  gguf_writer w = small_gguf();
  const byte_vector bytes = w.build();
  const blockattn_test::temporary_file path(bytes);
  std::vector<ba::gguf_weights> all;
  all.push_back(ba::gguf_weights::from_memory(bytes).value());
  all.push_back(ba::gguf_weights::open(path.path()).value());
  all.push_back(ba::gguf_weights::from_callback(bytes.size(), [&](std::uint64_t offset, std::span<std::byte> out) {
                  std::memcpy(out.data(), bytes.data() + offset, out.size());
                  return ba::result<void>();
                }).value());
  const std::pair<const char*, const char*> names[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.1.self_attn.q_proj.weight", "blk.1.attn_q.weight"},
      {"model.layers.1.self_attn.k_proj.weight", "blk.1.attn_k.weight"},
      {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"},
      {"model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight"},
      {"model.layers.1.post_attention_layernorm.weight", "blk.1.ffn_norm.weight"},
      {"model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight"},
      {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight"},
      {"model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"},
      {"model.norm.weight", "output_norm.weight"}};
  for (const auto& weights : all) {
    INFO(weights.file().name());
    const ba::model_config& c = weights.config();
    CHECK(c.architecture == "llama");
    CHECK(c.layers == 2);
    CHECK(c.dim == 8);
    CHECK(c.heads == 2);
    CHECK(c.kv_heads == 1);
    CHECK(c.head_dim == 4);
    CHECK(c.ffn == 12);
    CHECK(c.vocab == 10);
    CHECK(c.context_length == 32);
    CHECK(c.norm_epsilon == 1e-5f);
    CHECK(c.tied_embeddings);
    CHECK(c.windows.empty());
    CHECK(c.rope.theta == 10000.0);
    CHECK(c.rope.rotary_dim == 4);
    CHECK(c.rope.layout == ba::rope_layout::interleaved);
    CHECK(c.rope.scaling == ba::rope_scaling::none);
    CHECK(weights.names().size() == 20);
    for (const auto& [canonical, gguf] : names) {
      INFO(canonical);
      const auto data = weights.load(canonical).value();
      CHECK(data.bytes().size() == weights.find(canonical)->bytes);
      CHECK(std::memcmp(data.bytes().data(), bytes.data() + w.at(gguf), data.bytes().size()) == 0);
      weights.release(canonical);
      const auto again = weights.load(canonical).value();
      CHECK(std::memcmp(again.bytes().data(), bytes.data() + w.at(gguf), again.bytes().size()) == 0);
    }
    CHECK(weights.find("model.layers.1.mlp.down_proj.weight") == ba::tensor_info{ba::dtype::f32, 8, 12, 384});
    CHECK(weights.find("model.norm.weight") == ba::tensor_info{ba::dtype::f32, 1, 8, 32});
    CHECK_FALSE(weights.find("lm_head.weight"));
    CHECK_FALSE(weights.find("output_norm.weight"));
    const auto missing = weights.load("lm_head.weight");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().code == ba::errc::bad_format);
    weights.release("lm_head.weight");
  }
}

TEST_CASE("gguf weights: qwen2 and qwen3") {
  gguf_writer w = small_gguf("qwen2");
  ba::model_config c = config_of(w);
  CHECK(c.rope.layout == ba::rope_layout::half_split);
  CHECK(c.qkv_bias);
  CHECK_FALSE(c.qk_norm);
  const byte_vector bytes = w.build();
  const auto weights = ba::gguf_weights::from_memory(bytes).value();
  CHECK(weights.find("model.layers.1.self_attn.k_proj.bias") == ba::tensor_info{ba::dtype::f32, 1, 4, 16});
  // One layer's bias is enough to say that there are biases; binding then misses the others.
  for (const char* part : {"q", "k", "v"}) w.remove_tensor(std::string("blk.0.attn_") + part + ".bias");
  CHECK(config_of(w).qkv_bias);
  for (const char* part : {"q", "k", "v"}) w.remove_tensor(std::string("blk.1.attn_") + part + ".bias");
  CHECK_FALSE(config_of(w).qkv_bias);

  w = small_gguf("qwen3");
  c = config_of(w);
  CHECK(c.rope.layout == ba::rope_layout::half_split);
  CHECK_FALSE(c.qkv_bias);
  CHECK(c.qk_norm);
}

TEST_CASE("gguf weights: keys that change the configuration") {
  gguf_writer w = small_gguf();
  w.u32("llama.attention.key_length", 6).u32("llama.attention.value_length", 6);
  CHECK(config_of(w).head_dim == 6);
  CHECK(config_of(w).rope.rotary_dim == 6);
  w.u32("llama.rope.dimension_count", 2).f32("llama.rope.freq_base", 500000.0f);
  CHECK(config_of(w).rope.rotary_dim == 2);
  CHECK(config_of(w).rope.theta == 500000.0);
  w.remove_key("llama.attention.head_count_kv");
  CHECK(config_of(w).kv_heads == 2);
  w.remove_key("llama.context_length");
  CHECK(config_of(w).context_length == 0);
  w.floats("output.weight", {8, 10}, std::vector<float>(80));
  CHECK_FALSE(config_of(w).tied_embeddings);
  // Another integer type, a float that is an integer, a list that says the same for each layer.
  w.i64("llama.block_count", 2).f32("llama.embedding_length", 8.0f);
  w.list<std::int32_t>("llama.feed_forward_length", 5, {12, 12});
  CHECK(config_of(w).layers == 2);
  CHECK(config_of(w).dim == 8);
  CHECK(config_of(w).ffn == 12);
  // Neutral values of keys that other models use.
  w.u32("llama.expert_count", 0).f32("llama.logit_scale", 1.0f).boolean("llama.attention.causal", true);
  w.u32("split.count", 1);
  w.f32("llama.attention.scale", 0.25f);
  CHECK(config_of(w).layers == 2);
}

TEST_CASE("gguf weights: rope scaling") {
  gguf_writer w = small_gguf();
  w.f32("llama.rope.scaling.factor", 4.0f);
  ba::rope_config r = config_of(w).rope;
  CHECK(r.scaling == ba::rope_scaling::linear);
  CHECK(r.factor == 4.0);
  w.text("llama.rope.scaling.type", "none");
  CHECK(config_of(w).rope.scaling == ba::rope_scaling::none);
  w.text("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 0.0f);
  CHECK(config_of(w).rope.scaling == ba::rope_scaling::none);
  w = small_gguf();
  w.f32("llama.rope.scale_linear", 2.0f);
  CHECK(config_of(w).rope.scaling == ba::rope_scaling::linear);
  CHECK(config_of(w).rope.factor == 2.0);

  w = small_gguf();
  w.text("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 4.0f);
  r = config_of(w).rope;
  CHECK(r.scaling == ba::rope_scaling::yarn);
  CHECK(r.factor == 4.0);
  CHECK(r.original_context == 32.0);  // the context length, unless stated
  CHECK(r.attention_factor == 0.0);
  CHECK(r.beta_fast == 32.0);
  w.u32("llama.rope.scaling.original_context_length", 16).f32("llama.rope.scaling.attn_factor", 0.5f);
  w.f32("llama.rope.scaling.yarn_beta_fast", 16.0f).f32("llama.rope.scaling.yarn_beta_slow", 2.0f);
  w.f32("llama.rope.scaling.yarn_ext_factor", 0.5f).f32("llama.rope.scaling.yarn_log_multiplier", 0.0f);
  r = config_of(w).rope;
  CHECK(r.original_context == 16.0);
  CHECK(r.beta_fast == 16.0);
  CHECK(r.beta_slow == 2.0);
  CHECK(r.extrapolation == 0.5);
  CHECK(r.attention_factor == Approx(0.5 * (0.1 * std::log(4.0) + 1)));

  w = small_gguf();
  w.floats("rope_freqs.weight", {2}, {1.0f, 8.0f});
  w.floats("blk.0.attn_rot_embd.weight", {2}, {1.0f, 8.0f});
  CHECK(config_of(w).rope.frequency_divisors == std::vector<float>{1.0f, 8.0f});
}

TEST_CASE("gguf weights: sliding windows") {
  gguf_writer w = small_gguf();
  w.u32("llama.attention.sliding_window", 16);
  CHECK(config_of(w).windows == std::vector<std::uint32_t>{16, 16});
  w.u32("llama.attention.sliding_window_pattern", 2);
  CHECK(config_of(w).windows == std::vector<std::uint32_t>{16, 0});
  w.u32("llama.attention.sliding_window_pattern", 1);
  CHECK(config_of(w).windows == std::vector<std::uint32_t>{0, 0});
  w.u32("llama.attention.sliding_window_pattern", 0);
  CHECK(config_of(w).windows == std::vector<std::uint32_t>{16, 16});
  w.list<std::uint8_t>("llama.attention.sliding_window_pattern", 7, {0, 1});
  CHECK(config_of(w).windows == std::vector<std::uint32_t>{0, 16});
  w.u32("llama.attention.sliding_window", 0);
  CHECK(config_of(w).windows.empty());
}

TEST_CASE("gguf weights: what cannot be computed is refused, by name") {
  using ba::errc;
  for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count"}) {
    const std::string full = std::string("llama.") + key,
                      says = "key " + full + ": expected a positive integer, found ";
    refuses(small_gguf().remove_key(full), errc::bad_format, says + "nothing");
    refuses(small_gguf().u32(full, 0), errc::bad_format, says + "0");
    refuses(small_gguf().i32(full, -1), errc::bad_format, says + "-1");
    refuses(small_gguf().u32(full, 0xffffffffu), errc::bad_format, says + "4294967295");
    refuses(small_gguf().u64(full, ~std::uint64_t{0}), errc::bad_format, says);
    refuses(small_gguf().f32(full, std::nanf("")), errc::bad_format, says);
    refuses(small_gguf().f32(full, 1.5f), errc::bad_format, says + "1.5");
    refuses(small_gguf().text(full, "two\nlines"), errc::bad_format, says + "\"two?lines\"");
    refuses(small_gguf().list<std::int32_t>(full, 5, {}), errc::bad_format, says + "array of 0 i32");
    refuses(small_gguf().list<std::int32_t>(full, 5, {8, 4}), errc::unsupported, "the same number for every layer");
  }
  for (const char* key : {"attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.scaling.factor"}) {
    const std::string full = std::string("llama.") + key;
    for (const float bad : {-1.0f, std::nanf(""), HUGE_VALF, -HUGE_VALF})
      refuses(small_gguf().f32(full, bad), errc::bad_format, "key " + full + ": expected a finite number");
  }
  refuses(small_gguf().remove_key("llama.attention.layer_norm_rms_epsilon"), errc::bad_format, "found nothing");
  refuses(small_gguf().f32("llama.rope.freq_base", 0.0f), errc::bad_format, "expected a positive number");
  refuses(small_gguf().remove_key("general.architecture"), errc::bad_format, "general.architecture: expected a name");
  refuses(small_gguf().text("general.architecture", "phi3"), errc::unsupported,
          "key general.architecture: expected llama, qwen2, qwen3 or gemma3, found \"phi3\"");
  refuses(small_gguf().u32("split.count", 3), errc::unsupported, "split.count: expected all parts of the model, found 1 of 3");
  refuses(small_gguf().u32("llama.attention.value_length", 8), errc::unsupported, "expected the key length 4, found 8");
  refuses(small_gguf().u32("llama.attention.head_count", 3), errc::bad_format,
          "expected a divisor of embedding_length");
  refuses(small_gguf().u32("llama.expert_count", 8), errc::unsupported,
          "llama.expert_count: expected 0 or no such key");
  refuses(small_gguf().f32("llama.logit_scale", 0.5f), errc::unsupported, "llama.logit_scale: expected 1");
  refuses(small_gguf().f32("llama.attention.max_alibi_bias", 8.0f), errc::unsupported, "max_alibi_bias: expected 0");
  refuses(small_gguf().f32("llama.attention.scale", -0.5f), errc::bad_format,
          "llama.attention.scale: expected a finite number");
  refuses(small_gguf().boolean("llama.attention.causal", false), errc::unsupported, "expected true or no such key");
  refuses(small_gguf().list<std::int32_t>("llama.rope.dimension_sections", 5, {16, 24, 24, 0}), errc::unsupported,
          "rope.dimension_sections: expected one position for each token");
  for (const char* type : {"longrope", "dynamic", "su"})
    refuses(small_gguf().text("llama.rope.scaling.type", type).f32("llama.rope.scaling.factor", 2.0f),
            errc::unsupported, "llama.rope.scaling.type: expected none, linear or yarn, found");
  refuses(small_gguf().u32("llama.rope.scaling.type", 2), errc::bad_format, "rope.scaling.type: expected a name");
  refuses(small_gguf().text("llama.rope.scaling.type", "yarn"), errc::bad_format, "expected a positive number");
  refuses(small_gguf().floats("rope_factors_long.weight", {2}, {1, 1}), errc::unsupported, "found LongRoPE");
  refuses(small_gguf().floats("rope_freqs.weight", {3}, {1, 1, 1}), errc::shape_mismatch,
          "expected 1 x 2, found 1 x 3");
  refuses(small_gguf().floats("rope_freqs.weight", {2}, {1, 0}), errc::bad_format, "expected positive numbers");
  refuses(small_gguf().floats("rope_freqs.weight", {2}, {1, std::nanf("")}), errc::bad_format, "positive numbers");
  refuses(small_gguf().tensor("rope_freqs.weight", {2}, 1, byte_vector(4)), errc::unsupported,
          "expected F32, found F16");
  refuses(small_gguf().remove_tensor("token_embd.weight"), errc::bad_format, "tensor token_embd.weight: expected");
  refuses(small_gguf().floats("token_embd.weight", {12, 10}, std::vector<float>(120)), errc::shape_mismatch,
          "tensor token_embd.weight: expected rows of 8, found 10 x 12");
  refuses(small_gguf().u32("llama.attention.sliding_window", 8).u32("llama.attention.sliding_window_pattern", 3),
          errc::bad_format, "expected a bool for each of 2 layers or a period, found 3");
  refuses(small_gguf().text("llama.attention.sliding_window", "8"), errc::bad_format, "sliding_window: expected");

  // Tensors that would go unused.
  for (const char* name :
       {"blk.2.attn_q.weight", "blk.00.attn_q.weight", "blk.0.attn_q_norm.weight", "blk.0.attn_output.bias", "blk.x",
        "blk.0.", "blk.", "blk.0", "blk.99999999999999999999.attn_q.weight", "blk.-1.attn_q.weight", "output.bias",
        "position_embd.weight", "blk.0.ffn_gate_inp.weight", "blk.0.attn_k.bias", "blk.0.rope_freqs.weight"})
    refuses(small_gguf().floats(name, {8}, std::vector<float>(8)), errc::unsupported,
            std::string("tensor ") + name + ": expected the tensors of a llama of 2 layers");
  refuses(small_gguf().tensor("blk.1.ffn_up.weight", {32, 3}, 20, byte_vector(54)), errc::unsupported,
          "tensor blk.1.ffn_up.weight: expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K, found IQ4");
}

TEST_CASE("gguf weights: sizes that kernels cannot run are refused") {
  const auto refused = [](gguf_writer w, const std::string& says) {
    const ba::failure e = error_of(w);
    INFO(e.message);
    CHECK(e.code == ba::errc::unsupported);
    CHECK(e.message.find(says) != std::string::npos);
  };
  refused(small_gguf().u32("llama.attention.key_length", 258).u32("llama.attention.value_length", 258), "head_dim");
  refused(small_gguf().u32("llama.attention.key_length", 3).u32("llama.attention.value_length", 3), "head_dim");
  refused(small_gguf().u32("llama.attention.head_count_kv", 3), "kv_heads must divide heads");
  refused(small_gguf().u32("llama.rope.dimension_count", 6), "rotary_dim");
  refused(small_gguf().u32("llama.rope.dimension_count", 3), "rotary_dim");
  refused(small_gguf().u32("llama.block_count", 5000), "layers");
  refused(small_gguf().u32("llama.feed_forward_length", 1u << 25), "ffn");
  refused(small_gguf().f32("llama.attention.layer_norm_rms_epsilon", 3.0f), "norm_epsilon");
}

TEST_CASE("gguf weights: the reference files", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  struct expected {
    std::string file, architecture;
    std::uint32_t layers, dim, heads, kv_heads, head_dim, ffn, vocab, context;
    float epsilon;
    double theta;
    bool tied, bias, norm;
    ba::dtype type;
  };
  const std::string models = "models/", base = "golden/architectures/";
  const ba::dtype f32 = ba::dtype::f32;
  const expected files[] = {
      {models + "stories260K-f32.gguf", "llama", 5, 64, 8, 4, 8, 172, 512, 128, 1e-5f, 1e4, false, false, false, f32},
      {models + "stories260K-F16.gguf", "llama", 5, 64, 8, 4, 8, 172, 512, 128, 1e-5f, 1e4, false, false, false,
       ba::dtype::f16},
      {models + "babyllama105-f32.gguf", "llama", 5, 128, 8, 4, 16, 352, 105, 128, 1e-5f, 1e4, false, false, false,
       f32},
      {models + "babyllama105-Q8_0.gguf", "llama", 5, 128, 8, 4, 16, 352, 105, 128, 1e-5f, 1e4, false, false, false,
       ba::dtype::q8_0},
      {base + "llama3_rope/model.gguf", "llama", 3, 64, 8, 2, 16, 88, 128, 512, 1e-5f, 5e5, true, false, false, f32},
      {base + "qwen2/model.gguf", "qwen2", 2, 64, 4, 2, 16, 112, 136, 256, 1e-6f, 1e6, true, true, false, f32},
      {base + "qwen3/model.gguf", "qwen3", 2, 64, 4, 2, 24, 96, 144, 256, 1e-6f, 1e6, true, false, true, f32},
      {base + "smollm2/model.gguf", "llama", 3, 72, 9, 3, 8, 136, 150, 256, 1e-5f, 1e5, true, false, false,
       ba::dtype::bf16}};
  for (const expected& e : files) {
    INFO(e.file);
    const auto weights = ba::gguf_weights::open(folder / e.file).value();
    const ba::model_config& c = weights.config();
    CHECK(c.architecture == e.architecture);
    CHECK(c.layers == e.layers);
    CHECK(c.dim == e.dim);
    CHECK(c.heads == e.heads);
    CHECK(c.kv_heads == e.kv_heads);
    CHECK(c.head_dim == e.head_dim);
    CHECK(c.ffn == e.ffn);
    CHECK(c.vocab == e.vocab);
    CHECK(c.context_length == e.context);
    CHECK(c.norm_epsilon == e.epsilon);
    CHECK(c.tied_embeddings == e.tied);
    CHECK(c.qkv_bias == e.bias);
    CHECK(c.qk_norm == e.norm);
    CHECK(c.rope.theta == e.theta);
    CHECK(c.rope.rotary_dim == e.head_dim);
    CHECK(c.rope.layout == (e.architecture == "llama" ? ba::rope_layout::interleaved : ba::rope_layout::half_split));
    CHECK(c.rope.frequency_divisors.size() == (e.file == base + "llama3_rope/model.gguf" ? 8 : 0));
    CHECK(weights.find("model.layers.1.mlp.up_proj.weight")->type == e.type);
    CHECK(weights.find("model.norm.weight")->type == f32);
    for (const std::string_view name : weights.names()) {
      const auto info = *weights.find(name);
      CHECK(weights.load(name).value().bytes().size() == info.bytes);
      weights.release(name);
    }
  }
  const auto mixed = ba::gguf_weights::open(folder / "models/stories260K-Q4_K.gguf");
  REQUIRE(mixed);
  CHECK(mixed->find("model.embed_tokens.weight")->type == ba::dtype::q5_0);
}

TEST_CASE("gguf weights: a model in several files") {
  // Tensors are dealt out in turn; the first part has the keys.
  const auto parts_of = [](std::size_t count) {
    const byte_vector whole_bytes = small_gguf().build();
    const auto whole = ba::gguf_file::from_memory(whole_bytes).value();
    std::vector<gguf_writer> parts(count);
    for (std::size_t i = 0; i < count; ++i) {
      if (i == 0) parts[i] = small_gguf();
      for (const auto& t : whole.tensors()) parts[i].remove_tensor(t.name);
      parts[i].u16("split.no", static_cast<std::uint16_t>(i)).u16("split.count", static_cast<std::uint16_t>(count));
      parts[i].i32("split.tensors.count", static_cast<std::int32_t>(whole.tensors().size()));
    }
    std::size_t next = 0;
    for (const auto& t : whole.tensors()) {
      const auto data = whole.load(t).value();
      std::vector<std::uint64_t> dims{t.dims[0]};
      if (t.rows() != 1) dims.push_back(t.rows());
      parts[next++ % count].tensor(t.name, dims, t.format, byte_vector(data.bytes().begin(), data.bytes().end()));
    }
    return parts;
  };
  const byte_vector whole_bytes = small_gguf().build();
  const auto whole = ba::gguf_weights::from_memory(whole_bytes).value();
  auto parts = parts_of(3);
  const blockattn_test::temporary_folder folder;
  const auto name = [](int i) { return "m-0000" + std::to_string(i) + "-of-00003.gguf"; };
  for (int i = 0; i < 3; ++i) folder.file(name(i + 1), parts[static_cast<std::size_t>(i)].build());
  for (int i = 1; i <= 3; ++i) {  // any part leads to all
    const auto split = ba::gguf_weights::open(folder / name(i)).value();
    CHECK(split.config() == whole.config());
    CHECK(split.names() == whole.names());
    CHECK(split.files().size() == 3);
    for (const auto& n : whole.names()) {
      const auto a = split.load(n).value(), b = whole.load(n).value();
      CHECK(std::memcmp(a.bytes().data(), b.bytes().data(), b.bytes().size()) == 0);
      split.release(n);
    }
  }
  // From memory: the parts in order.
  std::vector<byte_vector> bytes;
  for (auto& p : parts) bytes.push_back(p.build());
  const auto from = [&](const std::vector<std::size_t>& order) {
    std::vector<ba::gguf_file> files;
    for (const std::size_t i : order) files.push_back(ba::gguf_file::from_memory(bytes[i]).value());
    return ba::gguf_weights::from_files(std::move(files));
  };
  CHECK(from({0, 1, 2}).value().names() == whole.names());
  const auto says = [](const auto& refused, ba::errc code, const std::string& text) {
    REQUIRE_FALSE(refused.has_value());
    INFO(refused.error().message);
    CHECK(refused.error().code == code);
    CHECK(refused.error().message.find(text) != std::string::npos);
  };
  using ba::errc;
  says(from({0, 2, 1}), errc::bad_format, "key split.no: expected 1, found another number");
  says(from({0, 1}), errc::unsupported, "expected all parts of the model, found 2 of 3");
  says(from({}), errc::invalid_argument, "expected at least one file");
  parts[2].remove_key("split.no");
  bytes[2] = parts[2].build();
  says(from({0, 1, 2}), errc::bad_format, "key split.no: expected 2, found nothing");
  parts[2].u16("split.no", 2);
  parts[2].floats("blk.0.attn_norm.weight", {8}, std::vector<float>(8));
  bytes[2] = parts[2].build();
  says(from({0, 1, 2}), errc::bad_format, "key split.tensors.count: expected the 21 tensors of all parts, found 20");
  parts[0].remove_key("split.tensors.count");
  bytes[0] = parts[0].build();
  says(from({0, 1, 2}), errc::bad_format, "tensor blk.0.attn_norm.weight: expected it in one part, found it in two");
  std::filesystem::remove(folder / name(2));
  says(ba::gguf_weights::open(folder / name(1)), errc::io, name(2));
  std::filesystem::rename(folder / name(1), folder / "other.gguf");
  says(ba::gguf_weights::open(folder / "other.gguf"), errc::bad_format, "expected a file called NAME-00001-of-00003.gguf");
  says(ba::gguf_weights::from_memory(bytes[0]), errc::unsupported, "found 1 of 3");
}

TEST_CASE("gguf weights: the narrow types") {
  for (const auto& [format, type] : {std::pair{2u, ba::dtype::q4_0}, {3u, ba::dtype::q4_1}, {6u, ba::dtype::q5_0},
                                     {7u, ba::dtype::q5_1}, {8u, ba::dtype::q8_0}}) {
    gguf_writer w = small_gguf();
    w.u32("llama.feed_forward_length", 32);
    w.tensor("blk.0.ffn_down.weight", {32, 8}, format, byte_vector(8 * ba::block_bytes(type)));
    const byte_vector bytes = w.build();
    const auto weights = ba::gguf_weights::from_memory(bytes).value();
    CHECK(weights.find("model.layers.0.mlp.down_proj.weight") ==
          ba::tensor_info{type, 8, 32, 8 * ba::block_bytes(type)});
  }
  for (const auto& [format, type] :
       {std::pair{12u, ba::dtype::q4_k}, {13u, ba::dtype::q5_k}, {14u, ba::dtype::q6_k}}) {
    gguf_writer w = small_gguf();
    w.tensor("blk.0.ffn_down.weight", {256, 2}, format, byte_vector(2 * ba::block_bytes(type)));
    const byte_vector bytes = w.build();
    CHECK(ba::gguf_weights::from_memory(bytes).value().find("model.layers.0.mlp.down_proj.weight")->type == type);
  }
  gguf_writer w = small_gguf();
  w.tensor("blk.0.ffn_down.weight", {256, 2}, 10, byte_vector(2 * 84));
  refuses(w, ba::errc::unsupported, "tensor blk.0.ffn_down.weight: expected F32, F16, BF16, Q8_0, Q4_0");
}
