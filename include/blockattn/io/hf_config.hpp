// SPDX-License-Identifier: MIT
/// A model's hyperparameters from the `config.json` of a Hugging Face folder, in the spellings of its generations. What
/// would change the results and is not supported is refused, never ignored.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "../model/config.hpp"
#include "json_object.hpp"

namespace blockattn::inline v0 {

/// What `config.json` says. Two things about the tensors stand beside the configuration of the model.
struct hf_config {
  model_config model;
  bool norms_add_one = false;  // Gemma: a norm multiplies with 1 + w
  bool has_vocab = true;       // false: the file is silent, and the embedding matrix decides
};

/// The largest file that is read, and so a bound of what reading it can cost; published ones take a few thousand bytes.
inline constexpr std::size_t max_hf_config = std::size_t{1} << 20;

namespace detail {

/// How the architectures differ in what their files leave out.
struct hf_family {
  std::string_view model_type, architecture;  // in the file; here, where GGUF has a name for it, that
  std::uint32_t head_dim;                     // 0: hidden_size / num_attention_heads
  bool qkv_bias, qk_norm, gemma;
};
inline constexpr hf_family hf_families[] = {{"llama", "llama", 0, false, false, false},
                                            {"mistral", "mistral", 0, false, false, false},
                                            {"qwen2", "qwen2", 0, true, false, false},
                                            {"qwen3", "qwen3", 128, false, true, false},
                                            {"gemma3_text", "gemma3", 256, false, true, true}};

// YaRN: the magnitude of queries and keys is stated, or follows from the factor, or is a quotient of two such.
inline result<void> read_hf_yarn(const json_object& from, std::uint32_t context_length, rope_config& rope) {
  rope.scaling = rope_scaling::yarn;
  const auto original = from.number("original_max_position_embeddings", context_length);
  if (!original) return original.error();
  rope.original_context = *original;
  // Some files leave the factor to the two lengths.
  const auto factor = from.number("factor", *original > 0 ? context_length / *original : 0);
  if (!factor) return factor.error();
  if (!(*factor > 0)) return from.error(errc::bad_format, "factor", "a finite number above zero");
  rope.factor = *factor;
  const std::pair<const char*, double*> betas[] = {{"beta_fast", &rope.beta_fast}, {"beta_slow", &rope.beta_slow}};
  for (const auto& [name, out] : betas) {
    const auto value = from.number(name, *out);
    if (!value) return value.error();
    *out = *value;
  }
  const auto truncate = from.flag("truncate", true);
  if (!truncate) return truncate.error();
  if (!*truncate) return from.error(errc::unsupported, "truncate", "true or no such key");

  const auto magnitude = [&](double m) { return rope.factor > 1 ? 0.1 * m * std::log(rope.factor) + 1.0 : 1.0; };
  rope.attention_factor = magnitude(1);
  if (from.has("mscale") && from.has("mscale_all_dim")) {
    const auto scale = from.number("mscale"), all = from.number("mscale_all_dim");
    if (!scale) return scale.error();
    if (!all) return all.error();
    rope.attention_factor = magnitude(*scale) / magnitude(*all);
  }
  if (from.has("attention_factor")) {
    const auto stated = from.number("attention_factor");
    if (!stated) return stated.error();
    rope.attention_factor = *stated;
  }
  return {};
}

// One object of rope_scaling or rope_parameters.
inline result<void> read_hf_rope(const json_object& from, std::uint32_t context_length, rope_config& rope) {
  const auto theta = from.number("rope_theta", rope.theta);
  if (!theta) return theta.error();
  rope.theta = *theta;
  const auto part = from.number("partial_rotary_factor", 1.0);
  if (!part) return part.error();
  if (*part > 1) return from.error(errc::bad_format, "partial_rotary_factor", "at most 1");
  rope.rotary_dim = static_cast<std::uint32_t>(rope.rotary_dim * *part);
  const char* const key = from.has("rope_type") ? "rope_type" : "type";
  const auto type = from.text(key, "default");
  if (!type) return type.error();
  if (from.has("mrope_section")) return from.error(errc::unsupported, "mrope_section", "one position for each token");
  if (*type == "default" || *type == "none") return {};
  if (*type == "yarn") return read_hf_yarn(from, context_length, rope);
  // dynamic, longrope: frequencies that look at the length of the prompt, so that a block could not move.
  if (*type != "linear" && *type != "llama3")
    return from.error(errc::unsupported, key, "default, linear, llama3 or yarn, which do not look at the length");
  const auto factor = from.number("factor");
  if (!factor) return factor.error();
  rope.factor = *factor;
  rope.scaling = *type == "linear" ? rope_scaling::linear : rope_scaling::llama3;
  if (rope.scaling == rope_scaling::linear) return {};
  const std::pair<const char*, double*> needed[] = {{"original_max_position_embeddings", &rope.original_context},
                                                    {"low_freq_factor", &rope.low_frequency_factor},
                                                    {"high_freq_factor", &rope.high_frequency_factor}};
  for (const auto& [name, out] : needed) {
    const auto value = from.number(name);
    if (!value) return value.error();
    *out = *value;
  }
  return {};
}

// Bases and scalings of all layers. Gemma 3 has a second base for layers with a window; its scaling is not theirs.
inline result<void> read_hf_ropes(const json_object& h, const hf_family& family, model_config& c) {
  c.rope.layout = rope_layout::half_split;
  const auto part = h.number("partial_rotary_factor", 1.0);
  if (!part) return part.error();
  if (*part > 1) return h.error(errc::bad_format, "partial_rotary_factor", "at most 1");
  c.rope.rotary_dim = static_cast<std::uint32_t>(c.head_dim * *part);
  const auto theta = h.number("rope_theta", family.gemma ? 1e6 : 1e4);
  if (!theta) return theta.error();
  c.rope.theta = *theta;
  if (family.gemma) {
    const auto local = h.number("rope_local_base_freq", 1e4);
    if (!local) return local.error();
    c.local_rope = c.rope;
    c.local_rope->theta = *local;
  }
  if (h.has("rope_scaling") && h.has("rope_parameters"))
    return h.error(errc::unsupported, "rope_scaling", "only one of rope_scaling and rope_parameters");
  const auto scaling = h.object(h.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
  if (!scaling) return scaling.error();
  if (!*scaling) return {};
  // Newer files hold one object for each kind of layer.
  const auto full = (*scaling)->object("full_attention"), sliding = (*scaling)->object("sliding_attention");
  if (!full) return full.error();
  if (!sliding) return sliding.error();
  if (!*full && !*sliding) return read_hf_rope(**scaling, c.context_length, c.rope);
  if (*full)
    if (auto r = read_hf_rope(**full, c.context_length, c.rope); !r) return r;
  if (!*sliding) return {};
  if (!c.local_rope) c.local_rope = c.rope;
  c.local_rope->scaling = rope_scaling::none;
  return read_hf_rope(**sliding, c.context_length, *c.local_rope);
}

// Sliding windows: one width, and which layers have it, by a list or by the rule of the family.
inline result<void> read_hf_windows(const json_object& h, const hf_family& family, model_config& c) {
  const auto used = h.flag("use_sliding_window", !family.architecture.starts_with("qwen"));
  if (!used) return used.error();
  if (!h.has("sliding_window") && family.gemma) return h.error(errc::bad_format, "sliding_window", "a positive integer");
  const bool has_width = *used && h.has("sliding_window");
  const auto width = has_width ? h.count("sliding_window") : result<std::uint32_t>(0u);
  if (!width) return width.error();
  std::vector<std::uint32_t> windows(c.layers, 0);
  if (const nlohmann::json* types = h.find("layer_types")) {
    if (!types->is_array() || types->size() != c.layers)
      return h.error(errc::bad_format, "layer_types", "one name for each of ", c.layers, " layers");
    for (std::size_t l = 0; l < c.layers; ++l) {
      const nlohmann::json& type = (*types)[l];
      const bool sliding = type == "sliding_attention";
      if (!sliding && type != "full_attention")
        return fail(errc::unsupported, "key layer_types: expected full_attention or sliding_attention, found ",
                    shown(type.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)), " for layer ", l);
      if (sliding && *width == 0) return h.error(errc::bad_format, "sliding_window", "the width that layer_types needs");
      if (sliding) windows[l] = *width;
    }
  } else if (family.gemma) {
    const char* const key = h.has("_sliding_window_pattern") ? "_sliding_window_pattern" : "sliding_window_pattern";
    const auto period = h.count(key, 6);
    if (!period) return period.error();
    for (std::size_t l = 0; l < c.layers; ++l)
      if ((l + 1) % *period != 0) windows[l] = *width;
  } else if (*width != 0) {
    if (family.architecture == "llama") return h.error(errc::unsupported, "sliding_window", "no such key in a llama");
    // Qwen: the lower layers see everything.
    std::uint32_t first = 0;
    if (const nlohmann::json* below = h.find("max_window_layers"); below != nullptr && family.architecture != "mistral") {
      if (!below->is_number_unsigned()) return h.error(errc::bad_format, "max_window_layers", "a number of layers");
      first = static_cast<std::uint32_t>(std::min<std::uint64_t>(below->get<std::uint64_t>(), c.layers));
    }
    std::fill(windows.begin() + first, windows.end(), *width);
  }
  if (std::any_of(windows.begin(), windows.end(), [](std::uint32_t w) { return w != 0; })) c.windows = std::move(windows);
  return {};
}

// What would have to be computed and is not.
inline result<void> refuse_hf_extras(const json_object& h, const hf_family& family) {
  for (const char* name : {"quantization_config", "attn_logit_softcapping", "final_logit_softcapping"})
    if (h.has(name)) return h.error(errc::unsupported, name, "null or no such key");
  for (const char* name : {"mlp_bias", "use_bidirectional_attention"}) {
    const auto on = h.flag(name, false);
    if (!on) return on.error();
    if (*on) return h.error(errc::unsupported, name, "false or no such key");
  }
  const char* const expected = family.gemma ? "gelu_pytorch_tanh" : "silu";
  for (const char* name : {"hidden_act", "hidden_activation"}) {
    const auto act = h.text(name, expected);
    if (!act) return act.error();
    // Both keys stand in some Gemma files; the newer one counts.
    if (*act != expected && !(family.gemma && std::string_view(name) == "hidden_act"))
      return h.error(errc::unsupported, name, expected);
  }
  return {};
}

inline result<hf_config> read_hf_object(const json_object& h, const hf_family& family) {
  hf_config out;
  model_config& c = out.model;
  c.architecture = family.architecture;
  out.norms_add_one = family.gemma;
  if (auto r = refuse_hf_extras(h, family); !r) return std::move(r).error();
  struct field {
    const char* name;
    std::uint32_t* out;
    std::uint32_t gemma;  // what a silent file of that family means, 0: it may not be silent
  };
  const field needed[] = {{"num_hidden_layers", &c.layers, 26},
                          {"hidden_size", &c.dim, 2304},
                          {"intermediate_size", &c.ffn, 9216},
                          {"num_attention_heads", &c.heads, 8}};
  for (const field& f : needed) {
    const auto value = family.gemma ? h.count(f.name, f.gemma) : h.count(f.name);
    if (!value) return value.error();
    *f.out = *value;
  }
  out.has_vocab = h.has("vocab_size");
  const field optional[] = {{"vocab_size", &c.vocab, 1},
                            {"num_key_value_heads", &c.kv_heads, family.gemma ? 4 : c.heads},
                            {"max_position_embeddings", &c.context_length, family.gemma ? 131072u : 0u},
                            {"head_dim", &c.head_dim, family.head_dim}};
  for (const field& f : optional) {
    const auto value = h.count(f.name, f.gemma);
    if (!value) return value.error();
    *f.out = *value;
  }
  if (c.head_dim == 0) {
    if (c.dim % c.heads != 0)
      return h.error(errc::bad_format, "num_attention_heads", "a divisor of hidden_size ", c.dim, ", or head_dim");
    c.head_dim = c.dim / c.heads;
  }
  const auto epsilon = h.number("rms_norm_eps", 1e-6);
  if (!epsilon) return epsilon.error();
  c.norm_epsilon = static_cast<float>(std::min(*epsilon, 2.0));  // too large is refused below
  const auto tied = h.flag("tie_word_embeddings", family.gemma);
  if (!tied) return tied.error();
  c.tied_embeddings = *tied;
  const auto bias = h.flag("attention_bias", false);
  if (!bias) return bias.error();
  c.qkv_bias = family.qkv_bias || *bias;
  c.qk_norm = family.qk_norm;
  if (family.gemma) {
    c.post_norms = true;
    c.gate = gate_function::gelu_tanh;
    c.embedding_scale = std::sqrt(static_cast<float>(c.dim));
    const auto scalar = h.number("query_pre_attn_scalar", 256);
    if (!scalar) return scalar.error();
    c.attention_scale = static_cast<float>(1.0 / std::sqrt(*scalar));
  }
  // Sizes that kernels cannot run, before anything is sized by them.
  c.rope.rotary_dim = c.head_dim / 2 * 2;
  if (auto valid = validate(c); !valid) return fail(errc::unsupported, valid.error().message);
  if (auto r = read_hf_ropes(h, family, c); !r) return std::move(r).error();
  if (auto r = read_hf_windows(h, family, c); !r) return std::move(r).error();
  if (c.local_rope == c.rope || c.windows.empty()) c.local_rope.reset();
  if (auto valid = validate(c); !valid) return fail(errc::unsupported, valid.error().message);
  return out;
}

}  // namespace detail

/// The configuration of a Llama, Mistral, Qwen2, Qwen3 or Gemma 3, of whose multimodal form the text part. Errors:
/// `bad_format` and `unsupported` name the key, what was expected and found. Memory: at most about 32 times the text.
[[nodiscard]] inline result<hf_config> read_hf_config(std::string_view json) {
  const auto document = detail::parse_json_object(json, max_hf_config);
  if (!document) return document.error();
  detail::json_object top(*document);
  auto type = top.text("model_type");
  if (!type) return std::move(type).error();
  if (*type == "gemma3") {
    const auto text = top.object("text_config");
    if (!text) return text.error();
    if (!*text) return top.error(errc::bad_format, "text_config", "an object");
    top = **text;
    type = std::string("gemma3_text");
  }
  for (const detail::hf_family& family : detail::hf_families)
    if (family.model_type == *type) return detail::read_hf_object(top, family);
  return top.error(errc::unsupported, "model_type", "llama, mistral, qwen2, qwen3, gemma3 or gemma3_text");
}

}  // namespace blockattn::inline v0
