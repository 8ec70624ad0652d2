// SPDX-License-Identifier: MIT
/// A model's hyperparameters from GGUF metadata: `general.architecture`, `<architecture>.*`, and the shape of the
/// embedding matrix. What would change the results and is not supported is refused, never ignored.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "../model/config.hpp"
#include "gguf.hpp"

namespace blockattn::inline v0 {

namespace detail {

/// Reads `<architecture>.*` with errors that name the key, what was expected and what the file says.
class gguf_hyperparameters {
 public:
  gguf_hyperparameters(const gguf_file& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  [[nodiscard]] std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  [[nodiscard]] bool has(std::string_view name) const { return file_.has(key(name)); }

  /// What a key holds, for a message.
  [[nodiscard]] std::string found(std::string_view name) const {
    const gguf_key* k = file_.find_key(key(name));
    if (k == nullptr) return "nothing";
    if (const auto text = file_.find_string(k->name)) return "\"" + shown(*text) + "\"";
    if (const auto i = file_.find_i64(k->name)) return std::to_string(*i);
    if (const auto f = file_.find_f64(k->name)) return std::to_string(*f);
    if (const auto b = file_.find_bool(k->name)) return *b ? "true" : "false";
    std::string out(to_string(k->type));
    if (k->type == gguf_type::array)
      out += " of " + std::to_string(k->count) + " " + std::string(to_string(k->element));
    return out;
  }

  template <class... Pieces>
  [[nodiscard]] failure error(errc code, std::string_view name, const Pieces&... expected) const {
    return fail(code, "key ", key(name), ": expected ", expected..., ", found ", found(name));
  }

  /// A positive integer below 2^31. Some files hold a list, one for each layer; layers that differ are unsupported.
  [[nodiscard]] result<std::uint32_t> count(std::string_view name) const {
    constexpr std::int64_t limit = std::int64_t{1} << 31;
    if (const auto list = file_.find_ints(key(name)); list && !list->empty()) {
      const std::int64_t first = list->front();
      if (std::any_of(list->begin(), list->end(), [first](std::int64_t x) { return x != first; }))
        return error(errc::unsupported, name, "the same number for every layer");
      if (first >= 1 && first < limit) return static_cast<std::uint32_t>(first);
    }
    const auto value = file_.find_i64(key(name));
    if (!value || *value < 1 || *value >= limit) return error(errc::bad_format, name, "a positive integer");
    return static_cast<std::uint32_t>(*value);
  }
  [[nodiscard]] result<std::uint32_t> count(std::string_view name, std::uint32_t otherwise) const {
    if (!has(name)) return otherwise;
    return count(name);
  }

  /// A finite number, not negative.
  [[nodiscard]] result<double> number(std::string_view name) const {
    const auto value = file_.find_f64(key(name));
    if (!value || !is_finite(*value) || *value < 0)
      return error(errc::bad_format, name, "a finite number, not negative");
    return *value;
  }
  [[nodiscard]] result<double> number(std::string_view name, double otherwise) const {
    if (!has(name)) return otherwise;
    return number(name);
  }

  /// Refuses a key that changes the computation, unless it says what a Llama does anyway.
  [[nodiscard]] result<void> only(std::string_view name, int neutral) const {
    if (!has(name)) return {};
    if (file_.find_f64(key(name)) == static_cast<double>(neutral)) return {};
    return error(errc::unsupported, name, neutral, " or no such key");
  }

  [[nodiscard]] const gguf_file& file() const noexcept { return file_; }

 private:
  const gguf_file& file_;
  std::string prefix_;
};

// Which scaling a file states. Llama 3's comes as a tensor instead, see read_gguf_divisors.
inline result<void> read_gguf_scaling(const gguf_hyperparameters& h, std::uint32_t context_length, rope_config& rope) {
  const std::string type_key = h.key("rope.scaling.type");
  auto factor = h.number("rope.scaling.factor", 0);
  if (!factor) return std::move(factor).error();
  if (!h.has("rope.scaling.factor")) {
    factor = h.number("rope.scale_linear", 0);  // the name in old files
    if (!factor) return std::move(factor).error();
  }
  // A factor without a type is linear; 0 is how writers say that there is none.
  std::string_view type = "linear";
  if (h.has("rope.scaling.type")) {
    const auto text = h.file().find_string(type_key);
    if (!text) return h.error(errc::bad_format, "rope.scaling.type", "a name");
    type = *text;
  }
  if (type == "none" || (type == "linear" && (*factor == 0 || *factor == 1))) return {};
  if (type == "linear") {
    rope.scaling = rope_scaling::linear;
    rope.factor = *factor;
    return {};
  }
  // longrope, dynamic: frequencies that look at the length of the prompt, so that a block could not move.
  if (type != "yarn") return h.error(errc::unsupported, "rope.scaling.type", "none, linear or yarn");

  if (!(*factor > 0)) return h.error(errc::bad_format, "rope.scaling.factor", "a positive number");
  rope.scaling = rope_scaling::yarn;
  rope.factor = *factor;
  const auto original = h.count("rope.scaling.original_context_length", context_length);
  if (!original) return original.error();
  rope.original_context = *original;
  const std::pair<const char*, double*> optional[] = {{"rope.scaling.yarn_beta_fast", &rope.beta_fast},
                                                      {"rope.scaling.yarn_beta_slow", &rope.beta_slow},
                                                      {"rope.scaling.yarn_ext_factor", &rope.extrapolation}};
  for (const auto& [name, out] : optional) {
    const auto value = h.number(name, *out);
    if (!value) return value.error();
    *out = *value;
  }
  if (auto r = h.only("rope.scaling.yarn_log_multiplier", 0); !r) return r;
  // In this format the factor multiplies YaRN's own magnitude, it does not replace it.
  for (const char* name : {"rope.scaling.yarn_attn_factor", "rope.scaling.attn_factor"}) {
    if (!h.has(name)) continue;
    const auto value = h.number(name);
    if (!value) return value.error();
    if (!(*value > 0)) return h.error(errc::bad_format, name, "a positive number");
    rope.attention_factor = *value * (0.1 * std::log(rope.factor) + 1.0);
    break;
  }
  return {};
}

/// A tensor of a model in one file or several, and the file that has it; two nulls if none does.
[[nodiscard]] inline std::pair<const gguf_file*, const gguf_tensor*> find_in(std::span<const gguf_file> files,
                                                                             std::string_view name) {
  for (const gguf_file& file : files)
    if (const gguf_tensor* tensor = file.find_tensor(name)) return {&file, tensor};
  return {nullptr, nullptr};
}

// Frequency divisors: how Llama 3's scaling is stored. Needs rotary_dim.
inline result<void> read_gguf_divisors(std::span<const gguf_file> files, rope_config& rope) {
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"})
    if (find_in(files, name).second != nullptr)
      return fail(errc::unsupported, "tensor ", name,
                  ": expected frequencies that do not depend on the length of the prompt, found LongRoPE");
  const auto [file, tensor] = find_in(files, "rope_freqs.weight");
  if (tensor == nullptr) return {};
  const std::size_t pairs = rope.rotary_dim / 2;
  if (tensor->columns() != pairs || tensor->rows() != 1)
    return fail(errc::shape_mismatch, "tensor ", tensor->name, ": expected 1 x ", pairs, ", found ", tensor->rows(),
                " x ", tensor->columns());
  if (gguf_weight_type(tensor->format) != dtype::f32)
    return fail(errc::unsupported, "tensor ", tensor->name, ": expected F32, found ", gguf_format_name(tensor->format));
  const auto bytes = file->load(*tensor);
  if (!bytes) return bytes.error();
  rope.frequency_divisors.resize(pairs);
  std::memcpy(rope.frequency_divisors.data(), bytes->bytes().data(), pairs * sizeof(float));
  for (const float x : rope.frequency_divisors)
    if (!is_finite(static_cast<double>(x)) || !(x > 0))
      return fail(errc::bad_format, "tensor ", tensor->name, ": expected positive numbers, found ", x);
  return {};
}

// Sliding windows: one width, and which layers have it: all, a list of bools, or all but every n-th.
inline result<void> read_gguf_windows(const gguf_hyperparameters& h, model_config& config) {
  const std::string width_key = h.key("attention.sliding_window");
  const std::string pattern_name = "attention.sliding_window_pattern";
  if (!h.file().has(width_key)) return {};
  const auto width = h.file().find_u64(width_key);
  if (!width || *width > UINT32_MAX) return h.error(errc::bad_format, "attention.sliding_window", "a window");
  if (*width == 0) return {};
  config.windows.assign(config.layers, static_cast<std::uint32_t>(*width));
  if (!h.has(pattern_name)) {
    // Gemma 3's files do not say that every sixth layer sees everything.
    if (config.architecture == "gemma3")
      for (std::size_t l = 5; l < config.layers; l += 6) config.windows[l] = 0;
    return {};
  }
  if (const auto list = h.file().find_ints(h.key(pattern_name)); list && list->size() == config.layers) {
    for (std::size_t l = 0; l < config.layers; ++l)
      if ((*list)[l] == 0) config.windows[l] = 0;
    return {};
  }
  const auto period = h.file().find_u64(h.key(pattern_name));
  if (!period || *period > config.layers)
    return h.error(errc::bad_format, pattern_name, "a bool for each of ", config.layers, " layers or a period");
  for (std::size_t l = 0; l < config.layers && *period != 0; ++l)
    if (l % *period == *period - 1) config.windows[l] = 0;
  return {};
}

// What Gemma 3 has beyond a Llama. Its norms are stored with the one added. The base of layers with a window has a key in
// new files only; their scaling is none. The largest model divides scores by another root than that of its head size,
// and files do not say so: it is known by its number of layers.
inline result<void> read_gguf_gemma3(const gguf_hyperparameters& h, model_config& c) {
  c.post_norms = true;
  c.gate = gate_function::gelu_tanh;
  c.embedding_scale = std::sqrt(static_cast<float>(c.dim));
  if (c.layers == 62 && c.attention_scale == 0)
    c.attention_scale = 1.0f / std::sqrt(static_cast<float>(c.dim) / static_cast<float>(c.heads));
  if (!h.has("attention.sliding_window")) return h.error(errc::bad_format, "attention.sliding_window", "a window");
  const auto base = h.number("rope.freq_base_swa", 1e4);
  if (!base) return base.error();
  if (!(*base > 0)) return h.error(errc::bad_format, "rope.freq_base_swa", "a positive number");
  rope_config local = c.rope;
  local.theta = *base;
  local.scaling = rope_scaling::none;
  local.factor = 1;
  local.frequency_divisors.clear();
  if (local != c.rope && !c.windows.empty()) c.local_rope = local;
  return {};
}

}  // namespace detail

/// The configuration of a model in one file or several, the first of which holds the keys: architectures `llama`
/// (interleaved rotary pairs, as its Q and K rows are stored), `qwen2`, `qwen3` and `gemma3` (half-split). Errors:
/// `bad_format` names the key; `unsupported` what this library does not compute; `shape_mismatch` a tensor. Whether the
/// tensors fit is checked when a model is bound.
[[nodiscard]] inline result<model_config> read_config(std::span<const gguf_file> files) {
  if (files.empty()) return fail(errc::invalid_argument, "expected at least one file, found none");
  const gguf_file& file = files.front();
  const auto architecture = file.find_string("general.architecture");
  if (!architecture) return fail(errc::bad_format, "key general.architecture: expected a name, found nothing");
  if (*architecture != "llama" && *architecture != "qwen2" && *architecture != "qwen3" && *architecture != "gemma3")
    return fail(errc::unsupported, "key general.architecture: expected llama, qwen2, qwen3 or gemma3, found \"",
                detail::shown(*architecture), "\"");

  model_config c;
  c.architecture = *architecture;
  const detail::gguf_hyperparameters h(file, c.architecture);
  const std::pair<const char*, std::uint32_t*> needed[] = {{"block_count", &c.layers},
                                                           {"embedding_length", &c.dim},
                                                           {"feed_forward_length", &c.ffn},
                                                           {"attention.head_count", &c.heads}};
  for (const auto& [name, out] : needed) {
    const auto value = h.count(name);
    if (!value) return value.error();
    *out = *value;
  }
  c.kv_heads = c.heads;
  // The head size is a key of its own in newer files; it need not be dim / heads.
  if (!h.has("attention.key_length") && c.dim % c.heads != 0)
    return h.error(errc::bad_format, "attention.head_count", "a divisor of embedding_length ", c.dim);
  c.head_dim = c.dim / c.heads;
  const std::pair<const char*, std::uint32_t*> optional[] = {{"attention.head_count_kv", &c.kv_heads},
                                                             {"attention.key_length", &c.head_dim},
                                                             {"context_length", &c.context_length}};
  for (const auto& [name, out] : optional) {
    const auto value = h.count(name, *out);
    if (!value) return value.error();
    *out = *value;
  }
  const auto value_length = h.count("attention.value_length", c.head_dim);
  if (!value_length) return value_length.error();
  if (*value_length != c.head_dim)
    return h.error(errc::unsupported, "attention.value_length", "the key length ", c.head_dim);
  const auto epsilon = h.number("attention.layer_norm_rms_epsilon");
  if (!epsilon) return epsilon.error();
  c.norm_epsilon = static_cast<float>(std::min(*epsilon, 2.0));  // too large is refused below

  c.rope.layout = c.architecture == "llama" ? rope_layout::interleaved : rope_layout::half_split;
  const auto rotary = h.count("rope.dimension_count", c.head_dim);
  if (!rotary) return rotary.error();
  c.rope.rotary_dim = *rotary;
  const auto theta = h.number("rope.freq_base", 10000.0);
  if (!theta) return theta.error();
  if (!(*theta > 0)) return h.error(errc::bad_format, "rope.freq_base", "a positive number");
  c.rope.theta = *theta;

  const std::pair<const char*, int> neutral[] = {
      {"expert_count", 0},           {"attention.clamp_kqv", 0},     {"attention.max_alibi_bias", 0},
      {"attn_logit_softcapping", 0}, {"final_logit_softcapping", 0}, {"logit_scale", 1},
      {"residual_scale", 1},         {"embedding_scale", 1}};
  for (const auto& [name, value] : neutral)
    if (auto r = h.only(name, value); !r) return std::move(r).error();
  if (h.has("attention.causal") && file.find_bool(h.key("attention.causal")) != true)
    return h.error(errc::unsupported, "attention.causal", "true or no such key");
  const auto scale = h.number("attention.scale", 0);
  if (!scale) return scale.error();
  c.attention_scale = static_cast<float>(*scale);
  if (h.has("rope.dimension_sections"))
    return h.error(errc::unsupported, "rope.dimension_sections", "one position for each token");

  if (auto r = detail::read_gguf_scaling(h, c.context_length, c.rope); !r) return std::move(r).error();

  const gguf_tensor* embedding = detail::find_in(files, "token_embd.weight").second;
  if (embedding == nullptr) return fail(errc::bad_format, "tensor token_embd.weight: expected it, found none");
  if (embedding->columns() != c.dim || embedding->rows() > UINT32_MAX)
    return fail(errc::shape_mismatch, "tensor token_embd.weight: expected rows of ", c.dim, ", found ",
                embedding->rows(), " x ", embedding->columns());
  c.vocab = static_cast<std::uint32_t>(embedding->rows());
  c.tied_embeddings = detail::find_in(files, "output.weight").second == nullptr;
  c.qk_norm = c.architecture == "qwen3" || c.architecture == "gemma3";
  for (const gguf_file& part : files)
    for (const gguf_tensor& tensor : part.tensors())
      if (tensor.name.ends_with(".attn_q.bias")) c.qkv_bias = true;

  // Sizes that kernels cannot run, before anything is sized by them.
  if (auto valid = validate(c); !valid) return fail(errc::unsupported, valid.error().message);
  if (auto r = detail::read_gguf_windows(h, c); !r) return std::move(r).error();
  if (auto r = detail::read_gguf_divisors(files, c.rope); !r) return std::move(r).error();
  if (c.architecture == "gemma3")
    if (auto r = detail::read_gguf_gemma3(h, c); !r) return std::move(r).error();
  if (auto valid = validate(c); !valid) return fail(errc::unsupported, valid.error().message);
  return c;
}
[[nodiscard]] inline result<model_config> read_config(const gguf_file& file) { return read_config({&file, 1}); }

}  // namespace blockattn::inline v0
