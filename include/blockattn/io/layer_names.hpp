// SPDX-License-Identifier: MIT
/// The names of a layer's tensors, in GGUF and in the canonical spelling of model/weights.hpp; which of them a model has
/// is decided by its configuration.
#pragma once

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../model/config.hpp"

namespace blockattn::inline v0::detail {

/// When a model has a tensor.
enum class tensor_use : std::uint8_t { always, bias, head_norm, no_post_norms, post_norms };

struct layer_tensor {
  std::string_view gguf, canonical;
  tensor_use use;
};

inline constexpr std::array layer_tensors = {
    layer_tensor{"attn_norm.weight", "input_layernorm.weight", tensor_use::always},
    layer_tensor{"attn_q.weight", "self_attn.q_proj.weight", tensor_use::always},
    layer_tensor{"attn_k.weight", "self_attn.k_proj.weight", tensor_use::always},
    layer_tensor{"attn_v.weight", "self_attn.v_proj.weight", tensor_use::always},
    layer_tensor{"attn_q.bias", "self_attn.q_proj.bias", tensor_use::bias},
    layer_tensor{"attn_k.bias", "self_attn.k_proj.bias", tensor_use::bias},
    layer_tensor{"attn_v.bias", "self_attn.v_proj.bias", tensor_use::bias},
    layer_tensor{"attn_q_norm.weight", "self_attn.q_norm.weight", tensor_use::head_norm},
    layer_tensor{"attn_k_norm.weight", "self_attn.k_norm.weight", tensor_use::head_norm},
    layer_tensor{"attn_output.weight", "self_attn.o_proj.weight", tensor_use::always},
    layer_tensor{"ffn_norm.weight", "post_attention_layernorm.weight", tensor_use::no_post_norms},
    layer_tensor{"post_attention_norm.weight", "post_attention_layernorm.weight", tensor_use::post_norms},
    layer_tensor{"ffn_norm.weight", "pre_feedforward_layernorm.weight", tensor_use::post_norms},
    layer_tensor{"post_ffw_norm.weight", "post_feedforward_layernorm.weight", tensor_use::post_norms},
    layer_tensor{"ffn_gate.weight", "mlp.gate_proj.weight", tensor_use::always},
    layer_tensor{"ffn_up.weight", "mlp.up_proj.weight", tensor_use::always},
    layer_tensor{"ffn_down.weight", "mlp.down_proj.weight", tensor_use::always}};

[[nodiscard]] inline bool has_tensor(const model_config& config, tensor_use use) noexcept {
  switch (use) {
    case tensor_use::always: return true;
    case tensor_use::bias: return config.qkv_bias;
    case tensor_use::head_norm: return config.qk_norm;
    case tensor_use::no_post_norms: return !config.post_norms;
    case tensor_use::post_norms: return config.post_norms;
  }
  return false;
}

/// Splits "PREFIX12.rest" into 12 and "rest"; nothing if the number is not a layer of the model in its one spelling
/// ("00" would be a second one).
[[nodiscard]] inline std::optional<std::pair<std::uint32_t, std::string_view>> layer_part(std::string_view name,
                                                                                         std::string_view prefix,
                                                                                         std::uint32_t layers) {
  if (!name.starts_with(prefix)) return std::nullopt;
  std::uint32_t layer = 0;
  const char* const first = name.data() + prefix.size();
  const char* const last = name.data() + name.size();
  const auto number = std::from_chars(first, last, layer);
  if (number.ec != std::errc() || number.ptr == last || *number.ptr != '.' || layer >= layers) return std::nullopt;
  if (std::to_string(layer).size() != static_cast<std::size_t>(number.ptr - first)) return std::nullopt;
  return std::pair(layer, std::string_view(number.ptr + 1, static_cast<std::size_t>(last - number.ptr - 1)));
}

/// The canonical name of a GGUF tensor, or an empty string if a model of this configuration has no such tensor.
[[nodiscard]] inline std::string canonical_name(std::string_view name, const model_config& config) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  const auto part = layer_part(name, "blk.", config.layers);
  if (!part) return {};
  for (const layer_tensor& t : layer_tensors)
    if (t.gguf == part->second && has_tensor(config, t.use))
      return "model.layers." + std::to_string(part->first) + "." + std::string(t.canonical);
  return {};
}

/// The name of a tensor in GGUF, or an empty string if a model of this configuration has none of that canonical name.
[[nodiscard]] inline std::string gguf_name(std::string_view name, const model_config& config) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  const auto part = layer_part(name, "model.layers.", config.layers);
  if (!part) return {};
  for (const layer_tensor& t : layer_tensors)
    if (t.canonical == part->second && has_tensor(config, t.use))
      return "blk." + std::to_string(part->first) + "." + std::string(t.gguf);
  return {};
}

/// Whether a model of this configuration has a tensor of that canonical name.
[[nodiscard]] inline bool is_canonical(std::string_view name, const model_config& config) {
  if (name == "model.embed_tokens.weight" || name == "model.norm.weight") return true;
  if (name == "lm_head.weight") return !config.tied_embeddings;
  const auto part = layer_part(name, "model.layers.", config.layers);
  if (!part) return false;
  for (const layer_tensor& t : layer_tensors)
    if (t.canonical == part->second && has_tensor(config, t.use)) return true;
  return false;
}

}  // namespace blockattn::inline v0::detail
