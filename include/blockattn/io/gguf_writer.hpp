// SPDX-License-Identifier: MIT
/// Writes a model as a GGUF file: any source of weights, in F32, F16, BF16 or Q8_0, with metadata of the program's own.
///
///     gguf_head head;                       // the tokenizer, say: text/gguf_vocabulary.hpp
///     add_vocabulary(head, vocabulary);
///     write_gguf("model.gguf", weights, {.format = dtype::q8_0}, std::move(head)).value();
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/whole_file.hpp"
#include "gguf_head.hpp"
#include "gguf_weights.hpp"
#include "write_rows.hpp"

namespace blockattn::inline v0 {

struct gguf_write_options {
  dtype format = dtype::f32;  ///< of matrices: f32, f16, bf16 or q8_0. Vectors stay f32
  std::string name = {};      ///< `general.name`, if not empty
};

namespace detail {

// The architecture by which a reader will know what the model computes.
[[nodiscard]] inline std::string gguf_architecture(const model_config& c) {
  for (const char* known : {"llama", "qwen2", "qwen3", "gemma3"})
    if (c.architecture == known) return known;
  return c.post_norms ? "gemma3" : c.qk_norm ? "qwen3" : c.qkv_bias ? "qwen2" : "llama";
}

[[nodiscard]] inline rope_layout gguf_layout(std::string_view architecture) noexcept {
  return architecture == "llama" ? rope_layout::interleaved : rope_layout::half_split;
}

inline void add_gguf_config(gguf_head& head, const model_config& c, const std::string& architecture,
                            const std::vector<float>& divisors) {
  const auto key = [&](std::string_view name) { return architecture + "." + std::string(name); };
  head.number(key("block_count"), c.layers).number(key("embedding_length"), c.dim);
  head.number(key("context_length"), std::max(c.context_length, 1u)).number(key("feed_forward_length"), c.ffn);
  head.number(key("attention.head_count"), c.heads).number(key("attention.head_count_kv"), c.kv_heads);
  head.number(key("attention.key_length"), c.head_dim).number(key("attention.value_length"), c.head_dim);
  head.number(key("attention.layer_norm_rms_epsilon"), c.norm_epsilon);
  head.number(key("rope.dimension_count"), c.rope.rotary_dim);
  head.number(key("rope.freq_base"), static_cast<float>(c.rope.theta));
  if (c.attention_scale != 0) head.number(key("attention.scale"), c.attention_scale);
  if (divisors.empty() && c.rope.scaling == rope_scaling::linear) {
    head.text(key("rope.scaling.type"), "linear").number(key("rope.scaling.factor"), static_cast<float>(c.rope.factor));
  } else if (divisors.empty() && c.rope.scaling == rope_scaling::yarn) {
    head.text(key("rope.scaling.type"), "yarn").number(key("rope.scaling.factor"), static_cast<float>(c.rope.factor));
    head.number(key("rope.scaling.original_context_length"), static_cast<std::uint32_t>(c.rope.original_context));
    head.number(key("rope.scaling.yarn_beta_fast"), static_cast<float>(c.rope.beta_fast));
    head.number(key("rope.scaling.yarn_beta_slow"), static_cast<float>(c.rope.beta_slow));
    head.number(key("rope.scaling.yarn_ext_factor"), static_cast<float>(c.rope.extrapolation));
    if (c.rope.attention_factor > 0)
      head.number(key("rope.scaling.yarn_attn_factor"),
                  static_cast<float>(c.rope.attention_factor / (0.1 * std::log(c.rope.factor) + 1.0)));
  }
  const auto widest = std::max_element(c.windows.begin(), c.windows.end());
  if (widest != c.windows.end() && *widest != 0) {
    head.number(key("attention.sliding_window"), *widest);
    std::vector<std::uint8_t> pattern;  // read as integers: 1 where a layer has the window
    for (const std::uint32_t w : c.windows) pattern.push_back(w != 0 ? 1 : 0);
    head.numbers<std::uint8_t>(key("attention.sliding_window_pattern"), pattern);
  }
  if (c.local_rope) head.number(key("rope.freq_base_swa"), static_cast<float>(c.local_rope->theta));
}

}  // namespace detail

/// Writes a model. The architecture is the configuration's own where GGUF has it, else one that computes the same; rows of
/// Q and K are put in the order that this architecture is stored in, and `head` may bring further keys. Matrices whose
/// rows are no multiple of 32 become f16 where q8_0 was asked for. The file is read back before it gets its name.
/// Memory: a few times the largest tensor.
/// Errors: `io`; `bad_format`, `shape_mismatch` name a tensor that is missing or wrong; `unsupported` what a file cannot
/// say, or a format.
template <weights_source W>
[[nodiscard]] result<void> write_gguf(const std::filesystem::path& path, const W& weights,
                                      const gguf_write_options& options = {}, gguf_head head = {}) {
  const model_config& config = weights.config();
  if (auto valid = validate(config); !valid) return valid;
  std::uint32_t format_id = 0;
  switch (options.format) {
    case dtype::f32: format_id = 0; break;
    case dtype::f16: format_id = 1; break;
    case dtype::q8_0: format_id = 8; break;
    case dtype::bf16: format_id = 30; break;
    default: return fail(errc::unsupported, "format: expected f32, f16, bf16 or q8_0, found ", to_string(options.format));
  }
  const std::string architecture = detail::gguf_architecture(config);
  // Llama 3's scaling is stored as its effect: a divisor for each pair.
  std::vector<float> divisors = config.rope.frequency_divisors;
  if (config.rope.scaling == rope_scaling::llama3 || (!divisors.empty() && config.rope.scaling != rope_scaling::none)) {
    const auto scaled = make_frequencies(config.rope);
    if (!scaled) return scaled.error();
    divisors.clear();
    for (std::size_t m = 0; m < scaled->pairs(); ++m)
      divisors.push_back(static_cast<float>(
          std::pow(config.rope.theta, -2.0 * static_cast<double>(m) / config.rope.rotary_dim) / scaled->per_position[m]));
  }
  head.text("general.architecture", architecture);
  if (!options.name.empty()) head.text("general.name", options.name);
  detail::add_gguf_config(head, config, architecture, divisors);

  struct plan {
    std::string name;
    tensor_info info;
    dtype type;
  };
  std::vector<plan> plans;
  for (std::string& name : tensor_names(config)) {
    const auto info = weights.find(name);
    if (!info) return fail(errc::bad_format, "tensor ", name, ": expected it, found none");
    dtype type = info->rows == 1 ? dtype::f32 : options.format;
    if (info->cols % block_elements(type) != 0) type = dtype::f16;
    if (is_quantized(info->type) && info->type != type)
      return fail(errc::unsupported, "tensor ", name, ": expected f32, f16, bf16 or the format asked for, found ",
                  to_string(info->type));
    const std::uint32_t id = type == options.format ? format_id : type == dtype::f32 ? 0u : 1u;
    head.tensor(detail::gguf_name(name, config), info->cols, info->rows, id,
                info->rows * info->cols / block_elements(type) * block_bytes(type));
    plans.push_back({std::move(name), *info, type});
  }
  if (!divisors.empty()) head.tensor("rope_freqs.weight", divisors.size(), 1, 0, divisors.size() * sizeof(float));

  auto file = whole_file::create(path);
  if (!file) return std::move(file).error();
  const std::vector<std::byte> start = head.bytes();
  if (auto done = file->write(start); !done) return done;
  const auto write_padded = [&](std::vector<std::byte> bytes) {
    bytes.resize(static_cast<std::size_t>(gguf_head::padded(bytes.size())));
    return file->write(bytes);
  };
  for (const plan& p : plans) {
    auto bytes = rows_for_file(weights, p.name, p.info, p.type, detail::gguf_layout(architecture));
    if (!bytes) return std::move(bytes).error();
    if (auto done = write_padded(*std::move(bytes)); !done) return done;
  }
  if (!divisors.empty()) {
    const auto view = std::as_bytes(std::span(divisors));
    if (auto done = write_padded({view.begin(), view.end()}); !done) return done;
  }
  const auto back = gguf_weights::open(file->temporary());
  if (!back) return fail(back.error().code, "written file: ", back.error().message);
  if (!detail::computes_the_same(config, back->config()))
    return fail(errc::unsupported, path.string(), ": expected a model that a GGUF file of architecture ", architecture,
                " can describe, found one that it cannot");
  return file->commit();
}

}  // namespace blockattn::inline v0
