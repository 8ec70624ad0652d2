// SPDX-License-Identifier: MIT
/// Writes a model as Hugging Face folders hold it: `config.json` and `model.safetensors`, in F32, F16 or BF16.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/whole_file.hpp"
#include "hf_weights.hpp"
#include "write_rows.hpp"

namespace blockattn::inline v0 {

namespace detail {

// The configuration in the words of that library. What it cannot say is found out when it is read back.
[[nodiscard]] inline std::string hf_config_text(const model_config& c, dtype format) {
  const std::string type = c.post_norms ? "gemma3_text" : c.qk_norm ? "qwen3" : c.qkv_bias ? "qwen2"
                           : std::any_of(c.windows.begin(), c.windows.end(), [](std::uint32_t w) { return w != 0; }) ? "mistral"
                                                                                                                     : "llama";
  const char* const name = type == "qwen3"     ? "Qwen3ForCausalLM"
                           : type == "qwen2"   ? "Qwen2ForCausalLM"
                           : type == "mistral" ? "MistralForCausalLM"
                           : type == "llama"   ? "LlamaForCausalLM"
                                               : "Gemma3ForCausalLM";
  nlohmann::ordered_json o = {
      {"architectures", {name}},
      {"model_type", type},
      {"hidden_size", c.dim},
      {"intermediate_size", c.ffn},
      {"num_hidden_layers", c.layers},
      {"num_attention_heads", c.heads},
      {"num_key_value_heads", c.kv_heads},
      {"head_dim", c.head_dim},
      {"vocab_size", c.vocab},
      {"max_position_embeddings", std::max(c.context_length, 1u)},
      {"rms_norm_eps", static_cast<double>(c.norm_epsilon)},
      {"rope_theta", c.rope.theta},
      {"hidden_act", "silu"},
      {"tie_word_embeddings", c.tied_embeddings},
      {"torch_dtype", format == dtype::f32 ? "float32" : format == dtype::f16 ? "float16" : "bfloat16"}};
  if (c.rope.rotary_dim != c.head_dim)
    o["partial_rotary_factor"] = static_cast<double>(c.rope.rotary_dim) / static_cast<double>(c.head_dim);
  if (type == "mistral") o["sliding_window"] = *std::max_element(c.windows.begin(), c.windows.end());
  if (c.rope.scaling == rope_scaling::linear) o["rope_scaling"] = {{"rope_type", "linear"}, {"factor", c.rope.factor}};
  if (c.rope.scaling == rope_scaling::llama3)
    o["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", c.rope.factor},
                         {"original_max_position_embeddings", c.rope.original_context},
                         {"low_freq_factor", c.rope.low_frequency_factor}, {"high_freq_factor", c.rope.high_frequency_factor}};
  if (c.rope.scaling == rope_scaling::yarn) {
    o["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", c.rope.factor},
                         {"original_max_position_embeddings", c.rope.original_context},
                         {"beta_fast", c.rope.beta_fast}, {"beta_slow", c.rope.beta_slow}};
    if (c.rope.attention_factor > 0) o["rope_scaling"]["attention_factor"] = c.rope.attention_factor;
  }
  return o.dump(2) + "\n";
}

}  // namespace detail

/// Writes both files into a folder, which is made if there is none; each is there whole or not at all, the configuration
/// last. Rows of Q and K are put in half-split order, as that library turns them. Vectors are in `format` too. Both are read
/// back before they get their names. Gemma 3 is not written.
/// Errors: `io`; `bad_format` names a tensor that is missing; `unsupported` a format, or what the files cannot say.
template <weights_source W>
[[nodiscard]] result<void> write_safetensors(const std::filesystem::path& folder, const W& weights, dtype format = dtype::f32) {
  const model_config& config = weights.config();
  if (auto valid = validate(config); !valid) return valid;
  if (format != dtype::f32 && format != dtype::f16 && format != dtype::bf16)
    return fail(errc::unsupported, "format: expected f32, f16 or bf16, found ", to_string(format));
  std::string text;
  std::uint64_t at = 0;
  std::vector<std::pair<std::string, tensor_info>> tensors;
  {
    nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
    for (std::string& name : tensor_names(config)) {
      const auto info = weights.find(name);
      if (!info) return fail(errc::bad_format, "tensor ", name, ": expected it, found none");
      const std::uint64_t bytes = std::uint64_t{info->rows} * info->cols * block_bytes(format);
      auto shape = nlohmann::ordered_json::array();
      if (info->rows != 1) shape.push_back(info->rows);
      shape.push_back(info->cols);
      header[name] = {{"dtype", format == dtype::f32 ? "F32" : format == dtype::f16 ? "F16" : "BF16"},
                      {"shape", std::move(shape)},
                      {"data_offsets", {at, at + bytes}}};
      at += bytes;
      tensors.emplace_back(std::move(name), *info);
    }
    text = header.dump();
  }
  text.append((64 - (8 + text.size()) % 64) % 64, ' ');

  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) return fail(errc::io, folder.string(), ": cannot create: ", code.message());
  auto file = whole_file::create(folder / "model.safetensors");
  if (!file) return std::move(file).error();
  const std::uint64_t length = text.size();
  if (auto done = file->write(std::as_bytes(std::span(&length, 1))); !done) return done;
  if (auto done = file->write(std::as_bytes(std::span(text))); !done) return done;
  for (const auto& [name, info] : tensors) {
    const auto bytes = rows_for_file(weights, name, info, format, rope_layout::half_split);
    if (!bytes) return bytes.error();
    if (auto done = file->write(*bytes); !done) return done;
  }
  const std::string described = detail::hf_config_text(config, format);
  {
    auto written = safetensors_file::open(file->temporary());
    if (!written) return std::move(written).error();
    std::vector<safetensors_file> files;
    files.push_back(*std::move(written));
    const auto back = hf_weights::from_files(described, std::move(files));
    if (!back) return fail(errc::unsupported, folder.string(), ": written model: ", back.error().message);
    if (!detail::computes_the_same(config, back->config()))
      return fail(errc::unsupported, folder.string(), ": expected a model that config.json can describe, found one that it cannot");
  }
  auto description = whole_file::create(folder / "config.json");
  if (!description) return std::move(description).error();
  if (auto done = description->write(std::as_bytes(std::span(described))); !done) return done;
  if (auto done = file->commit(); !done) return done;
  return description->commit();
}

}  // namespace blockattn::inline v0
