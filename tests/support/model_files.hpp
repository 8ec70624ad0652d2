// SPDX-License-Identifier: MIT
/// The weights of any source as files of both worlds: safetensors with config.json, and GGUF; as converters write them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "blockattn/io/layer_names.hpp"
#include "blockattn/model/weights.hpp"
#include "safetensors_writer.hpp"

namespace blockattn_test {

/// A tensor of a source as floats.
template <class Source>
std::vector<float> floats_of(const Source& source, const std::string& name) {
  const auto info = source.find(name);
  INFO(name);
  REQUIRE((info && info->type == blockattn::dtype::f32));
  const auto bytes = source.load(name).value();
  std::vector<float> out(bytes.bytes().size() / sizeof(float));
  std::memcpy(out.data(), bytes.bytes().data(), bytes.bytes().size());
  return out;
}

/// All canonical names of a configuration.
inline std::vector<std::string> names_of(const blockattn::model_config& c) {
  std::vector<std::string> out{"model.embed_tokens.weight"};
  for (std::uint32_t l = 0; l < c.layers; ++l)
    for (const auto& t : blockattn::detail::layer_tensors)
      if (blockattn::detail::has_tensor(c, t.use))
        out.push_back("model.layers." + std::to_string(l) + "." + std::string(t.canonical));
  out.push_back("model.norm.weight");
  if (!c.tied_embeddings) out.push_back("lm_head.weight");
  return out;
}

inline bool is_norm(std::string_view name) { return name.ends_with("norm.weight"); }

inline byte_vector bf16_bytes(const std::vector<float>& values) {
  byte_vector out;
  for (const float x : values) put(out, blockattn::to_bf16(x).bits);
  return out;
}

/// Safetensors in `parts` files, tensors dealt out in turn; and the index that says where they are. Gemma's norms are
/// stored less one.
struct hf_files {
  std::vector<std::string> names;
  std::vector<byte_vector> files;
  std::string index;
};
template <class Source>
hf_files hf_files_of(const Source& source, std::size_t parts = 1, bool bf16 = false) {
  const auto& c = source.config();
  std::vector<safetensors_writer> writers(parts);
  nlohmann::json map = nlohmann::json::object();
  hf_files out;
  for (std::size_t p = 0; p < parts; ++p)
    out.names.push_back("model-0000" + std::to_string(p + 1) + "-of-0000" + std::to_string(parts) + ".safetensors");
  std::size_t next = 0;
  for (const std::string& name : names_of(c)) {
    auto values = floats_of(source, name);
    if (c.post_norms && is_norm(name))
      for (float& x : values) x -= 1;
    const auto info = *source.find(name);
    const std::size_t part = next++ % parts;
    const auto shape = info.rows == 1 ? std::vector<std::uint64_t>{info.cols} : std::vector<std::uint64_t>{info.rows, info.cols};
    writers[part].metadata("format", "pt");
    if (bf16)
      writers[part].tensor(name, "BF16", shape, bf16_bytes(values));
    else
      writers[part].floats(name, shape, values);
    map[name] = out.names[part];
  }
  for (const auto& w : writers) out.files.push_back(w.build());
  out.index = nlohmann::json{{"metadata", {{"total_size", 1}}}, {"weight_map", map}}.dump();
  return out;
}

/// The keys every config.json has.
inline nlohmann::json hf_json(const blockattn::model_config& c, const std::string& model_type) {
  return {{"model_type", model_type},
          {"hidden_size", c.dim},
          {"num_hidden_layers", c.layers},
          {"num_attention_heads", c.heads},
          {"num_key_value_heads", c.kv_heads},
          {"intermediate_size", c.ffn},
          {"vocab_size", c.vocab},
          {"head_dim", c.head_dim},
          {"max_position_embeddings", c.context_length},
          {"rms_norm_eps", c.norm_epsilon},
          {"rope_theta", c.rope.theta},
          {"tie_word_embeddings", c.tied_embeddings}};
}

/// GGUF; for architecture llama the rows of Q and K become neighbouring pairs.
template <class Source>
gguf_writer gguf_of(const Source& source, const std::string& architecture) {
  const auto& c = source.config();
  gguf_writer w;
  const std::string a = architecture + ".";
  w.text("general.architecture", architecture);
  w.u32(a + "context_length", c.context_length).u32(a + "embedding_length", c.dim).u32(a + "block_count", c.layers);
  w.u32(a + "feed_forward_length", c.ffn).u32(a + "attention.head_count", c.heads);
  w.u32(a + "attention.head_count_kv", c.kv_heads).u32(a + "attention.key_length", c.head_dim);
  w.u32(a + "attention.value_length", c.head_dim).f32(a + "attention.layer_norm_rms_epsilon", c.norm_epsilon);
  w.f32(a + "rope.freq_base", static_cast<float>(c.rope.theta));
  const auto add = [&](const std::string& name, const std::string& canonical) {
    auto values = floats_of(source, canonical);
    const auto info = *source.find(canonical);
    if (architecture == "llama" && (canonical.ends_with("q_proj.weight") || canonical.ends_with("k_proj.weight"))) {
      const std::size_t half = c.head_dim / 2;
      std::vector<float> turned(values.size());
      for (std::size_t r = 0; r < info.rows; ++r) {
        const std::size_t head = r / c.head_dim, d = r % c.head_dim;
        const std::size_t to = head * c.head_dim + (d < half ? 2 * d : 2 * (d - half) + 1);
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(r * info.cols), info.cols,
                    turned.begin() + static_cast<std::ptrdiff_t>(to * info.cols));
      }
      values = turned;
    }
    w.floats(name, info.rows == 1 ? std::vector<std::uint64_t>{info.cols} : std::vector<std::uint64_t>{info.cols, info.rows},
             values);
  };
  add("token_embd.weight", "model.embed_tokens.weight");
  for (std::uint32_t l = 0; l < c.layers; ++l)
    for (const auto& t : blockattn::detail::layer_tensors)
      if (blockattn::detail::has_tensor(c, t.use))
        add("blk." + std::to_string(l) + "." + std::string(t.gguf),
            "model.layers." + std::to_string(l) + "." + std::string(t.canonical));
  add("output_norm.weight", "model.norm.weight");
  if (!c.tied_embeddings) add("output.weight", "lm_head.weight");
  return w;
}

}  // namespace blockattn_test
