// SPDX-License-Identifier: MIT
// Hugging Face folders: config.json in its spellings, tensors by name in one file or several, and what is refused.
#include <blockattn/io/hf_weights.hpp>
#include <cmath>

#include "../support/allocation_watch.hpp"
#include "../support/model_files.hpp"
#include "../support/random_model.hpp"
#include "../support/temporary_folder.hpp"

namespace ba = blockattn;
using namespace blockattn_test;
using nlohmann::json;

namespace {

json plain(const std::string& type = "llama") {
  json j = hf_json(small_config(), type);
  j.erase("head_dim");
  j["hidden_size"] = 64;
  return j;
}

ba::model_config read(const json& j) {
  auto c = ba::read_hf_config(j.dump());
  if (!c) FAIL(c.error().message);
  return c->model;
}

void refuses_text(const std::string& text, ba::errc code, const std::string& says) {
  largest_allocation = 0;
  const auto c = ba::read_hf_config(text);
  CHECK(largest_allocation.load() <= 32 * text.size() + 100'000);
  INFO(text.substr(0, 300));
  REQUIRE_FALSE(c.has_value());
  INFO(c.error().message);
  CHECK(std::string(ba::to_string(c.error().code)) == ba::to_string(code));
  CHECK(c.error().message.find(says) != std::string::npos);
}
// The plain configuration with some keys changed.
void refuses(const json& changes, ba::errc code, const std::string& says, const std::string& type = "llama") {
  json j = plain(type);
  j.update(changes);
  refuses_text(j.dump(), code, says);
}
json with(json j, const json& changes) {
  j.update(changes);
  return j;
}

}  // namespace

TEST_CASE("config.json: a llama, and what silent files mean") {
  json j = plain();
  ba::model_config c = read(j);
  CHECK(c.architecture == "llama");
  CHECK(c.layers == 3);
  CHECK(c.dim == 64);
  CHECK(c.heads == 4);
  CHECK(c.kv_heads == 2);
  CHECK(c.head_dim == 16);
  CHECK(c.ffn == 40);
  CHECK(c.vocab == 53);
  CHECK(c.context_length == 256);
  CHECK(c.norm_epsilon == 1e-5f);
  CHECK_FALSE(c.tied_embeddings);
  CHECK_FALSE(c.qkv_bias);
  CHECK_FALSE(c.qk_norm);
  CHECK(c.windows.empty());
  CHECK_FALSE(c.local_rope);
  CHECK(c.rope.layout == ba::rope_layout::half_split);
  CHECK(c.rope.rotary_dim == 16);
  CHECK(c.rope.scaling == ba::rope_scaling::none);
  for (const char* name : {"num_key_value_heads", "rms_norm_eps", "rope_theta", "max_position_embeddings"}) j.erase(name);
  j["rope_scaling"] = nullptr;
  j["sliding_window"] = nullptr;
  c = read(j);
  CHECK(c.kv_heads == 4);
  CHECK(c.norm_epsilon == 1e-6f);
  CHECK(c.rope.theta == 1e4);
  CHECK(c.context_length == 0);
  CHECK(read(with(j, {{"head_dim", 20}})).head_dim == 20);
  CHECK(read(with(j, {{"head_dim", nullptr}})).head_dim == 16);
  CHECK(read(with(j, {{"attention_bias", true}})).qkv_bias);
  CHECK(read(with(j, {{"partial_rotary_factor", 0.5}})).rope.rotary_dim == 8);
  CHECK(read(plain("qwen2")).qkv_bias);
  CHECK_FALSE(read(plain("qwen2")).qk_norm);
  CHECK(read(plain("qwen3")).qk_norm);
  CHECK(read(plain("qwen3")).head_dim == 128);
  CHECK_FALSE(read(plain("qwen3")).qkv_bias);
}

TEST_CASE("config.json: rope scaling in all spellings") {
  const auto rope = [](const json& scaling, const json& more = json::object()) {
    return read(with(with(plain(), {{"rope_scaling", scaling}}), more)).rope;
  };
  for (const char* key : {"type", "rope_type"}) {
    CHECK(rope({{key, "default"}}).scaling == ba::rope_scaling::none);
    const auto linear = rope({{key, "linear"}, {"factor", 4}});
    CHECK(linear.scaling == ba::rope_scaling::linear);
    CHECK(linear.factor == 4);
  }
  auto r = rope({{"rope_type", "llama3"},
                 {"type", "ignored beside rope_type"},
                 {"factor", 8.0},
                 {"low_freq_factor", 1.5},
                 {"high_freq_factor", 4.5},
                 {"original_max_position_embeddings", 64}});
  CHECK(r.scaling == ba::rope_scaling::llama3);
  CHECK(r.original_context == 64);
  CHECK(r.low_frequency_factor == 1.5);
  CHECK(r.high_frequency_factor == 4.5);

  // Newer files: the base is among the parameters.
  json parameters = plain();
  parameters.erase("rope_theta");
  parameters["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2}, {"rope_theta", 5e5}};
  CHECK(read(parameters).rope.theta == 5e5);
  CHECK(read(parameters).rope.factor == 2);
  parameters["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}, {"partial_rotary_factor", 0.5}};
  CHECK(read(parameters).rope.rotary_dim == 8);

  r = rope({{"type", "yarn"}, {"factor", 4.0}});
  CHECK(r.scaling == ba::rope_scaling::yarn);
  CHECK(r.original_context == 256);  // max_position_embeddings
  CHECK(r.beta_fast == 32);
  CHECK(r.beta_slow == 1);
  CHECK(r.attention_factor == Approx(0.1 * std::log(4.0) + 1));
  r = rope({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}, {"beta_fast", 16},
            {"beta_slow", 2}, {"attention_factor", 0.75}});
  CHECK(r.original_context == 64);
  CHECK(r.beta_fast == 16);
  CHECK(r.beta_slow == 2);
  CHECK(r.attention_factor == 0.75);
  r = rope({{"type", "yarn"}, {"original_max_position_embeddings", 64}});  // the factor follows from the lengths
  CHECK(r.factor == 4);
  r = rope({{"type", "yarn"}, {"factor", 4.0}, {"mscale", 0.7}, {"mscale_all_dim", 0.5}});
  CHECK(r.attention_factor == Approx((0.07 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1)));
  CHECK(rope({{"type", "yarn"}, {"factor", 0.5}}).attention_factor == 1);  // nothing to make up for

  using ba::errc;
  for (const char* type : {"dynamic", "longrope", "su", "mrope"})
    refuses({{"rope_scaling", {{"type", type}, {"factor", 2}}}}, errc::unsupported, "rope_scaling.type: expected default, lin");
  refuses({{"rope_scaling", {{"rope_type", 7}}}}, errc::bad_format, "key rope_scaling.rope_type: expected text, found 7");
  refuses({{"rope_scaling", "linear"}}, errc::bad_format, "key rope_scaling: expected an object, found \"linear\"");
  refuses({{"rope_scaling", {{"type", "linear"}}}}, errc::bad_format, "key rope_scaling.factor: expected a finite");
  refuses({{"rope_scaling", {{"type", "linear"}, {"factor", -1}}}}, errc::bad_format, "above zero, found -1");
  refuses({{"rope_scaling", {{"type", "llama3"}, {"factor", 8}}}}, errc::bad_format, "original_max_position_embeddings");
  refuses({{"rope_scaling", {{"type", "yarn"}, {"factor", 4}, {"truncate", false}}}}, errc::unsupported, "truncate");
  refuses({{"rope_scaling", {{"type", "linear"}}}, {"rope_parameters", json::object()}}, errc::unsupported, "only one of");
  refuses({{"rope_scaling", {{"type", "default"}, {"mrope_section", {1, 2}}}}}, errc::unsupported, "mrope_section");
  refuses({{"rope_theta", 0}}, errc::bad_format, "key rope_theta: expected a finite number above zero, found 0");
  refuses({{"partial_rotary_factor", 2}}, errc::bad_format, "at most 1");
}

TEST_CASE("config.json: sliding windows of each family") {
  CHECK(read(with(plain("mistral"), {{"sliding_window", 8}})).windows == std::vector<std::uint32_t>{8, 8, 8});
  CHECK(read(plain("mistral")).windows.empty());
  const json qwen = with(plain("qwen2"), {{"sliding_window", 8}, {"max_window_layers", 2}});
  CHECK(read(qwen).windows.empty());
  CHECK(read(with(qwen, {{"use_sliding_window", false}})).windows.empty());
  CHECK(read(with(qwen, {{"use_sliding_window", true}})).windows == std::vector<std::uint32_t>{0, 0, 8});
  CHECK(read(with(qwen, {{"use_sliding_window", true},
                         {"layer_types", {"sliding_attention", "full_attention", "sliding_attention"}}}))
            .windows == std::vector<std::uint32_t>{8, 0, 8});
  CHECK(read(with(qwen, {{"use_sliding_window", true}, {"max_window_layers", 99}})).windows.empty());
  using ba::errc;
  refuses({{"sliding_window", 8}}, errc::unsupported, "key sliding_window: expected no such key in a llama, found 8");
  refuses({{"sliding_window", "8"}}, errc::bad_format, "key sliding_window", "mistral");
  refuses({{"layer_types", {"full_attention"}}}, errc::bad_format, "layer_types: expected one name for each of 3");
  refuses({{"layer_types", {"full_attention", "chunked_attention", "full_attention"}}}, errc::unsupported,
          "found \"chunked_attention\" for layer 1");
  refuses({{"layer_types", {"full_attention", "sliding_attention", "full_attention"}}}, errc::bad_format,
          "sliding_window: expected the width", "mistral");
}

TEST_CASE("config.json: Gemma 3, alone and within a multimodal file") {
  json j = hf_json(small_config(), "gemma3_text");
  j["sliding_window"] = 8;
  for (const char* name : {"rope_theta", "tie_word_embeddings", "max_position_embeddings"}) j.erase(name);
  const ba::model_config c = read(j);
  CHECK(c.architecture == "gemma3");
  CHECK(c.post_norms);
  CHECK(c.qk_norm);
  CHECK(c.gate == ba::gate_function::gelu_tanh);
  CHECK(c.tied_embeddings);
  CHECK(c.rope.theta == 1e6);
  REQUIRE(c.local_rope);
  CHECK(c.local_rope->theta == 1e4);
  CHECK(c.embedding_scale == std::sqrt(24.0f));
  CHECK(c.attention_scale == 1.0f / 16);
  CHECK(c.context_length == 131072);
  CHECK(c.windows == std::vector<std::uint32_t>{8, 8, 8});
  CHECK(read(with(j, {{"sliding_window_pattern", 2}})).windows == std::vector<std::uint32_t>{8, 0, 8});
  CHECK(read(with(j, {{"_sliding_window_pattern", 3}})).windows == std::vector<std::uint32_t>{8, 8, 0});
  CHECK(read({{"model_type", "gemma3"}, {"text_config", j}, {"vision_config", {{"model_type", "siglip"}}}}) == c);

  // Newer files: one object for each kind of layer.
  json newer = j;
  newer["rope_parameters"] = {{"full_attention", {{"rope_type", "linear"}, {"factor", 8}, {"rope_theta", 2e6}}},
                              {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 3e4}}}};
  newer["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  const ba::model_config n = read(newer);
  CHECK(n.rope.theta == 2e6);
  CHECK(n.rope.factor == 8);
  CHECK(n.local_rope->theta == 3e4);
  CHECK(n.local_rope->scaling == ba::rope_scaling::none);
  CHECK(n.windows == std::vector<std::uint32_t>{8, 0, 8});
  // Where nothing has a window, nothing turns by the local base.
  newer["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  CHECK_FALSE(read(newer).local_rope);
  CHECK(read(newer).windows.empty());

  using ba::errc;
  refuses_text(with(j, {{"final_logit_softcapping", 30.0}}).dump(), errc::unsupported, "final_logit_softcapping: expected null");
  refuses_text(with(j, {{"use_bidirectional_attention", true}}).dump(), errc::unsupported, "use_bidirectional_attention");
  refuses_text(with(j, {{"hidden_activation", "gelu"}}).dump(), errc::unsupported, "expected gelu_pytorch_tanh, found \"gelu\"");
  refuses_text(with(j, {{"query_pre_attn_scalar", -1}}).dump(), errc::bad_format, "query_pre_attn_scalar");
  refuses_text(with(j, {{"sliding_window", nullptr}}).dump(), errc::bad_format, "sliding_window");
  refuses_text(R"({"model_type":"gemma3"})", errc::bad_format, "key text_config: expected an object, found nothing");
}

TEST_CASE("config.json: hostile and foreign files") {
  using ba::errc;
  refuses_text(std::string(), errc::bad_format, "expected valid JSON");
  // Between tokens the parser takes a zero byte for the end: what is behind it would never be read.
  refuses_text(plain().dump() + std::string(1, '\0') + "and more", errc::bad_format, "expected JSON, found a zero byte at byte");
  refuses_text(std::string("[1]"), errc::bad_format, "expected a JSON object, found array");
  refuses_text(std::string("{}"), errc::bad_format, "key model_type: expected text, found nothing");
  refuses_text(std::string(900'000, '['), errc::bad_format, "expected JSON of at most 32 levels");
  refuses_text(std::string(2'000'000, ' '), errc::bad_format, "expected at most 1048576 bytes of JSON, found 2000000");
  std::string lists = "{\"a\":[[]";
  for (int i = 0; i < 100'000; ++i) lists += ",[]";
  refuses_text(lists + "]}", errc::bad_format, "key model_type");
  refuses({{"model_type", "phi3"}}, errc::unsupported, "key model_type: expected llama, mistral, qwen2, qwen3, gemma3");
  refuses({{"quantization_config", {{"bits", 4}}}}, errc::unsupported, "key quantization_config: expected null");
  refuses({{"hidden_act", "relu"}}, errc::unsupported, "key hidden_act: expected silu, found \"relu\"");
  refuses({{"mlp_bias", true}}, errc::unsupported, "key mlp_bias: expected false");
  refuses({{"attention_bias", 1}}, errc::bad_format, "key attention_bias: expected true or false, found 1");
  for (const json& bad : {json(-1), json(0), json(1.5), json("64"), json(1ull << 31), json(nullptr), json::array()})
    refuses({{"hidden_size", bad}}, errc::bad_format, "key hidden_size: expected a positive integer");
  refuses({{"num_hidden_layers", 2'000'000'000}}, errc::unsupported, "layers must be 1 to 4096");
  refuses({{"num_attention_heads", 7}}, errc::bad_format, "expected a divisor of hidden_size 64");
  refuses({{"num_key_value_heads", 3}}, errc::unsupported, "kv_heads must divide heads");
  refuses({{"head_dim", 1}}, errc::unsupported, "head_dim must be even");
  refuses({{"head_dim", 512}}, errc::unsupported, "head_dim must be even and 2 to 256");
  refuses({{"rms_norm_eps", 1e300}}, errc::unsupported, "norm_epsilon");
  refuses({{"partial_rotary_factor", 0.01}}, errc::unsupported, "rotary_dim");
}

TEST_CASE("a folder: one file, several, and from memory") {
  const auto config = small_config();
  const random_model weights(config, 4);
  const std::string text = hf_json(config, "mistral").dump();
  const temporary_folder one, several;
  const auto whole = hf_files_of(weights.source());
  one.file("config.json", text);
  const std::string single = one.file("model.safetensors", whole.files[0]);
  const auto parts = hf_files_of(weights.source(), 3);
  several.file("config.json", text);
  for (std::size_t i = 0; i < 3; ++i) several.file(parts.names[i], parts.files[i]);
  const std::string index = several.file("model.safetensors.index.json", parts.index);

  std::vector<ba::hf_weights> all;
  for (const std::string& path : {one.path(), single, several.path(), index})
    all.push_back(ba::hf_weights::open(path).value());
  all.push_back(ba::hf_weights::from_memory(text, whole.files[0]).value());
  all.push_back(ba::hf_weights::from_callback(text, whole.files[0].size(), [&](std::uint64_t at, std::span<std::byte> out) {
                  std::memcpy(out.data(), whole.files[0].data() + at, out.size());
                  return ba::result<void>();
                }).value());
  const auto names = names_of(config);
  for (const auto& hf : all) {
    CHECK(hf.names().size() == names.size());
    CHECK(hf.config().architecture == "mistral");
    for (const std::string& name : names) {
      INFO(name);
      CHECK(hf.find(name) == weights.source().find(name));
      CHECK(floats_of(hf, name) == floats_of(weights.source(), name));
      hf.release(name);
      CHECK(floats_of(hf, name) == floats_of(weights.source(), name));
    }
    CHECK_FALSE(hf.find("model.layers.3.mlp.up_proj.weight"));
    CHECK(hf.load("nothing").error().code == ba::errc::bad_format);
    hf.release("nothing");
  }
  CHECK(all[2].files().size() == 3);
  // Where the file is silent the embedding matrix says how many words there are.
  json silent = hf_json(config, "llama");
  silent.erase("vocab_size");
  CHECK(ba::hf_weights::from_memory(silent.dump(), whole.files[0]).value().config().vocab == 53);
}

TEST_CASE("a norm of 1 + w is handed out as floats, whatever it is stored as") {
  auto config = small_config();
  config.qk_norm = config.post_norms = config.tied_embeddings = true;
  const random_model weights(config, 4);
  json j = hf_json(config, "gemma3_text");
  j["sliding_window"] = 8;
  const auto whole = hf_files_of(weights.source());
  const auto file = ba::safetensors_file::from_memory(whole.files[0]).value();
  for (const std::string type : {"F32", "F16", "BF16"}) {
    INFO(type);
    safetensors_writer w;
    std::vector<float> expected;
    for (const auto& t : file.tensors()) {
      const auto data = file.load(t).value();
      std::vector<float> values(data.bytes().size() / 4);
      std::memcpy(values.data(), data.bytes().data(), data.bytes().size());
      byte_vector bytes;
      for (const float x : values) {
        const float kept = type == "F32" ? x : type == "F16" ? ba::widen(ba::to_f16(x)) : ba::widen(ba::to_bf16(x));
        if (type == "F32") put(bytes, x);
        if (type == "F16") put(bytes, ba::to_f16(x).bits);
        if (type == "BF16") put(bytes, ba::to_bf16(x).bits);
        if (t.name == "model.norm.weight") expected.push_back(1.0f + kept);
      }
      w.tensor(t.name, type, t.shape, bytes);
    }
    const auto bytes = w.build();
    const auto hf = ba::hf_weights::from_memory(j.dump(), bytes).value();
    CHECK(hf.find("model.norm.weight") == ba::tensor_info{ba::dtype::f32, 1, 24, 96});
    CHECK(floats_of(hf, "model.norm.weight") == expected);
    CHECK(hf.find("model.embed_tokens.weight")->type ==
          (type == "F32" ? ba::dtype::f32 : type == "F16" ? ba::dtype::f16 : ba::dtype::bf16));
  }
}

TEST_CASE("names: without a prefix, multimodal, what is passed over and what is not understood") {
  auto config = small_config();
  config.tied_embeddings = true;
  const random_model weights(config, 4);
  const std::string text = hf_json(config, "llama").dump();
  const auto renamed = [&](auto rename, auto more) {
    safetensors_writer w;
    for (const std::string& name : names_of(config)) {
      const auto info = *weights.source().find(name);
      if (rename(name).empty()) continue;
      w.floats(rename(name), info.rows == 1 ? std::vector<std::uint64_t>{info.cols} : std::vector<std::uint64_t>{info.rows, info.cols},
               floats_of(weights.source(), name));
    }
    more(w);
    return w.build();
  };
  const auto same = [](const std::string& name) { return name; };
  const auto nothing = [](safetensors_writer&) {};
  const auto opens = [&](const byte_vector& bytes) {
    const auto hf = ba::hf_weights::from_memory(text, bytes);
    if (!hf) FAIL(hf.error().message);
    CHECK(hf->names().size() == names_of(config).size());
  };
  opens(renamed(same, nothing));
  opens(renamed([](const std::string& name) { return name.substr(6); }, nothing));
  const auto towers = [](safetensors_writer& w) {
    w.floats("vision_tower.x", {1}, {1}).floats("multi_modal_projector.y", {1}, {1});
  };
  opens(renamed([](const std::string& name) { return "language_model." + name; }, towers));
  opens(renamed([](const std::string& name) { return "model.language_model." + name.substr(6); }, [](safetensors_writer& w) {
    w.floats("model.vision_tower.x", {1}, {1});
  }));
  opens(renamed(same, [](safetensors_writer& w) {
    w.floats("model.layers.0.self_attn.rotary_emb.inv_freq", {8}, std::vector<float>(8));
    w.floats("lm_head.weight", {53, 24}, std::vector<float>(53 * 24));  // tied: a copy
  }));

  const auto refused = [&](auto more, ba::errc code, const std::string& says) {
    // Room for a last norm of another kind.
    const auto bytes = renamed([](const std::string& name) { return name == "model.norm.weight" ? "" : name; }, more);
    const auto hf = ba::hf_weights::from_memory(text, bytes);
    REQUIRE_FALSE(hf.has_value());
    INFO(hf.error().message);
    CHECK(std::string(ba::to_string(hf.error().code)) == ba::to_string(code));
    CHECK(hf.error().message.find(says) != std::string::npos);
    CHECK(hf.error().message.rfind("memory: tensor ", 0) == 0);
  };
  using ba::errc;
  for (const char* name : {"model.layers.0.self_attn.o_proj.bias", "model.layers.0.self_attn.q_proj.bias", "score.weight",
                           "model.layers.3.mlp.up_proj.weight", "model.layers.00.mlp.up_proj.weight", "vision_tower.x",
                           "model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.gate_proj.weight_scale"})
    refused([&](safetensors_writer& w) { w.floats(name, {1}, {1}); }, errc::unsupported,
            std::string("tensor ") + name + ": expected the tensors of a llama of 3 layers");
  refused([](safetensors_writer& w) { w.floats("model.norm.weight", {24, 1, 1}, std::vector<float>(24)); },
          errc::shape_mismatch, "tensor model.norm.weight: expected a vector or a matrix, found 3 dims");
  refused([](safetensors_writer& w) { w.tensor("model.norm.weight", "F8_E4M3", {24}, byte_vector(24)); },
          errc::unsupported, "tensor model.norm.weight: expected F32, F16 or BF16, found F8_E4M3");
  const auto empty = ba::hf_weights::from_memory(text, safetensors_writer().build());
  REQUIRE_FALSE(empty.has_value());
  CHECK(empty.error().message == "tensor model.embed_tokens.weight: expected it, found none");
}

TEST_CASE("a folder whose parts do not agree") {
  const auto config = small_config();
  const random_model weights(config, 4);
  const auto parts = hf_files_of(weights.source(), 2);
  const auto refused = [&](auto change) {
    const temporary_folder folder;
    folder.file("config.json", hf_json(config, "llama").dump());
    for (std::size_t i = 0; i < 2; ++i) folder.file(parts.names[i], parts.files[i]);
    folder.file("model.safetensors.index.json", parts.index);
    change(folder);
    const auto hf = ba::hf_weights::open(folder.path());
    REQUIRE_FALSE(hf.has_value());
    return hf.error();
  };
  const auto says = [](const ba::failure& e, ba::errc code, const std::string& text) {
    INFO(e.message);
    CHECK(std::string(ba::to_string(e.code)) == ba::to_string(code));
    CHECK(e.message.find(text) != std::string::npos);
  };
  using ba::errc;
  says(refused([&](const temporary_folder& f) { std::filesystem::remove(f / parts.names[1]); }), errc::io, parts.names[1]);
  says(refused([&](const temporary_folder& f) { std::filesystem::remove(f / "config.json"); }), errc::io, "config.json");
  says(refused([&](const temporary_folder& f) { std::filesystem::remove(f / "model.safetensors.index.json"); }), errc::io,
       "expected model.safetensors or model.safetensors.index.json in it, found neither");
  says(refused([&](const temporary_folder& f) { f.file("config.json", std::string("{")); }), errc::bad_format,
       "config.json: expected valid JSON");
  says(refused([&](const temporary_folder& f) { f.file("model.safetensors.index.json", std::string("{}")); }),
       errc::bad_format, "index.json: weight_map: expected");
  says(refused([&](const temporary_folder& f) {
         byte_vector cut = parts.files[0];
         cut.resize(cut.size() - 1);
         f.file(parts.names[0], cut);
       }),
       errc::bad_format, "expected data_offsets in order and within");
  says(refused([&](const temporary_folder& f) { f.file(parts.names[1], parts.files[0]); }), errc::bad_format,
       "expected it here, as the index says, found none");
  says(refused([&](const temporary_folder& f) {
         // Both files hold everything: a tensor must not depend on which is read.
         const auto whole = hf_files_of(weights.source());
         for (const auto& name : parts.names) f.file(name, whole.files[0]);
       }),
       errc::bad_format, "expected each tensor once, found it in two files");
}
