// SPDX-License-Identifier: MIT
/// Weights of a Llama-family model from a GGUF file: configuration, and tensors under the names of model/weights.hpp.
///
/// Rows of Q and K are handed out as the file stores them, which is how `config().rope.layout` rotates them: converters
/// reorder them to neighbouring pairs for architecture `llama` and leave them half-split for `qwen2` and `qwen3`.
/// (Converted llama2.c models are interleaved from birth; their rows are those of the `.bin`.)
#pragma once

#include <charconv>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "gguf_config.hpp"

namespace blockattn::inline v0 {

namespace detail {

/// The canonical name of a GGUF tensor, or an empty string if a model of this configuration has no such tensor.
[[nodiscard]] inline std::string canonical_name(std::string_view name, const model_config& config) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  if (!name.starts_with("blk.")) return {};
  std::uint32_t layer = 0;
  const char* const last = name.data() + name.size();
  const auto number = std::from_chars(name.data() + 4, last, layer);
  if (number.ec != std::errc() || number.ptr == last || *number.ptr != '.' || layer >= config.layers) return {};
  // One spelling for each layer: "blk.00." would be a second one.
  if (std::to_string(layer).size() != static_cast<std::size_t>(number.ptr - (name.data() + 4))) return {};
  const std::string_view part(number.ptr + 1, static_cast<std::size_t>(last - number.ptr - 1));
  struct translation {
    std::string_view gguf, canonical;
    bool used;
  };
  const translation translations[] = {{"attn_norm.weight", "input_layernorm.weight", true},
                                      {"attn_q.weight", "self_attn.q_proj.weight", true},
                                      {"attn_k.weight", "self_attn.k_proj.weight", true},
                                      {"attn_v.weight", "self_attn.v_proj.weight", true},
                                      {"attn_q.bias", "self_attn.q_proj.bias", config.qkv_bias},
                                      {"attn_k.bias", "self_attn.k_proj.bias", config.qkv_bias},
                                      {"attn_v.bias", "self_attn.v_proj.bias", config.qkv_bias},
                                      {"attn_q_norm.weight", "self_attn.q_norm.weight", config.qk_norm},
                                      {"attn_k_norm.weight", "self_attn.k_norm.weight", config.qk_norm},
                                      {"attn_output.weight", "self_attn.o_proj.weight", true},
                                      {"ffn_norm.weight", "post_attention_layernorm.weight", true},
                                      {"ffn_gate.weight", "mlp.gate_proj.weight", true},
                                      {"ffn_up.weight", "mlp.up_proj.weight", true},
                                      {"ffn_down.weight", "mlp.down_proj.weight", true}};
  for (const translation& t : translations)
    if (t.used && t.gguf == part) return "model.layers." + std::to_string(layer) + "." + std::string(t.canonical);
  return {};
}

}  // namespace detail

/// A `weights_source` over a GGUF file. Move only. Opening reads the head alone; a tensor's bytes are borrowed from the
/// mapping or memory, or read when they are loaded. As safe from several threads as its source.
class gguf_weights {
 public:
  /// Maps a file. Errors: `io`; `bad_format`, `unsupported`, `shape_mismatch` name the key or tensor.
  [[nodiscard]] static result<gguf_weights> open(const std::filesystem::path& path) {
    return from_file(gguf_file::open(path));
  }
  /// Borrows memory, which must outlive the object and the tensors loaded from it.
  [[nodiscard]] static result<gguf_weights> from_memory(std::span<const std::byte> bytes) {
    return from_file(gguf_file::from_memory(bytes));
  }
  [[nodiscard]] static result<gguf_weights> from_callback(std::uint64_t size, read_function read) {
    return from_file(gguf_file::from_callback(size, std::move(read)));
  }
  /// Takes a file that is open already, or passes on why it is not.
  [[nodiscard]] static result<gguf_weights> from_file(result<gguf_file> file) {
    if (!file) return std::move(file).error();
    gguf_weights out(*std::move(file));
    if (auto done = out.read(); !done) return fail(done.error().code, out.file_.name(), ": ", done.error().message);
    return out;
  }

  /// The file: metadata, among it the tokenizer's.
  [[nodiscard]] const gguf_file& file() const noexcept { return file_; }
  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  /// The canonical names of all tensors, in order of name.
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const auto& [name, number] : tensors_) out.push_back(name);
    return out;
  }

  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const gguf_tensor* tensor = tensor_of(name);
    if (tensor == nullptr) return std::nullopt;
    return tensor_info{*gguf_weight_type(tensor->format), static_cast<std::size_t>(tensor->rows()),
                       static_cast<std::size_t>(tensor->columns()), static_cast<std::size_t>(tensor->bytes)};
  }
  /// Errors: `bad_format` if there is no such tensor; those of a read function.
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const gguf_tensor* tensor = tensor_of(name);
    if (tensor == nullptr) return fail(errc::bad_format, file_.name(), ": tensor ", name, ": expected it, found none");
    return file_.load(*tensor);
  }
  /// Drops the pages of a mapped tensor.
  void release(std::string_view name) const noexcept {
    if (const gguf_tensor* tensor = tensor_of(name)) file_.release(*tensor);
  }

 private:
  explicit gguf_weights(gguf_file file) : file_(std::move(file)) {}

  [[nodiscard]] const gguf_tensor* tensor_of(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? nullptr : &file_.tensors()[it->second];
  }

  result<void> read() {
    auto config = read_config(file_);
    if (!config) return std::move(config).error();
    config_ = *std::move(config);
    const auto tensors = file_.tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const gguf_tensor& tensor = tensors[i];
      // The divisors are in the configuration by now; the other is a table that no program reads.
      if (tensor.name == "rope_freqs.weight" || tensor.name.ends_with(".attn_rot_embd.weight")) continue;
      std::string name = detail::canonical_name(tensor.name, config_);
      // A tensor that is not understood means a computation that is not done.
      if (name.empty())
        return fail(errc::unsupported, "tensor ", tensor.name, ": expected the tensors of a ", config_.architecture,
                    " of ", config_.layers, " layers, found one that it does not have");
      if (!gguf_weight_type(tensor.format))
        return fail(errc::unsupported, "tensor ", tensor.name, ": expected F32, F16, BF16 or Q8_0, found ",
                    gguf_format_name(tensor.format));
      tensors_.emplace(std::move(name), i);
    }
    return {};
  }

  gguf_file file_;
  model_config config_;
  std::map<std::string, std::size_t, std::less<>> tensors_;  // canonical name -> number in the file
};

static_assert(weights_source<gguf_weights>);

}  // namespace blockattn::inline v0
