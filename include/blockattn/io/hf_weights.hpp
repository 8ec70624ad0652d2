// SPDX-License-Identifier: MIT
/// Weights of a model as Hugging Face folders hold them: `config.json` beside `model.safetensors`, or beside
/// `model.safetensors.index.json` and the files that it names.
///
/// Names come without or with the prefixes of multimodal checkpoints, whose other towers are passed over. Norms of
/// families that multiply with 1 + w are handed out with the one added, as floats, so that the model need not know.
#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hf_config.hpp"
#include "layer_names.hpp"
#include "safetensors.hpp"
#include "safetensors_index.hpp"

namespace blockattn::inline v0 {

/// A `weights_source` over one or several safetensors files. Move only. Opening reads headers alone; a tensor's bytes are
/// borrowed from its mapping or memory, or read when they are loaded. As safe from several threads as its sources.
class hf_weights {
 public:
  /// Opens a folder, a single `.safetensors` file with `config.json` beside it, or an index with its files beside it.
  /// Errors: `io` names the file; `bad_format`, `unsupported`, `shape_mismatch` also the key or tensor.
  [[nodiscard]] static result<hf_weights> open(const std::filesystem::path& path);

  /// The same from files that are open already, in memory or behind functions. Errors: as `open`.
  [[nodiscard]] static result<hf_weights> from_files(std::string_view config_json, std::vector<safetensors_file> files) {
    auto config = read_hf_config(config_json);
    if (!config) return fail(config.error().code, "config.json: ", config.error().message);
    hf_weights out(*std::move(config), std::move(files));
    if (auto done = out.read(); !done) return std::move(done).error();
    return out;
  }
  /// One file from borrowed memory, which must outlive the object and the tensors loaded from it.
  [[nodiscard]] static result<hf_weights> from_memory(std::string_view config_json, std::span<const std::byte> bytes) {
    return from_file(config_json, safetensors_file::from_memory(bytes));
  }
  /// One file through a function.
  [[nodiscard]] static result<hf_weights> from_callback(std::string_view config_json, std::uint64_t size,
                                                        read_function function) {
    return from_file(config_json, safetensors_file::from_callback(size, std::move(function)));
  }

  [[nodiscard]] const model_config& config() const noexcept { return config_.model; }
  [[nodiscard]] std::span<const safetensors_file> files() const noexcept { return files_; }
  /// The canonical names of all tensors, in order of name.
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const auto& [name, where] : tensors_) out.push_back(name);
    return out;
  }

  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end()) return std::nullopt;
    tensor_info info = stored(*it->second.tensor);
    if (adds_one(name)) info = {dtype::f32, info.rows, info.cols, info.rows * info.cols * sizeof(float)};
    return info;
  }
  /// Errors: `bad_format` if there is no such tensor; those of a read function.
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const auto it = tensors_.find(name);
    if (it == tensors_.end())
      return fail(errc::bad_format, "tensor ", detail::shown(name), ": expected it, found none");
    auto bytes = files_[it->second.file].load(*it->second.tensor);
    if (!bytes || !adds_one(name)) return bytes;
    return one_more(stored(*it->second.tensor), bytes->bytes());
  }
  /// Drops the pages of a mapped tensor.
  void release(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    if (it != tensors_.end()) files_[it->second.file].release(*it->second.tensor);
  }

 private:
  struct place {
    std::size_t file;
    const safetensors_tensor* tensor;
  };

  hf_weights(hf_config config, std::vector<safetensors_file> files)
      : config_(std::move(config)), files_(std::move(files)) {}

  static result<hf_weights> from_file(std::string_view config_json, result<safetensors_file> file) {
    if (!file) return std::move(file).error();
    std::vector<safetensors_file> files;
    files.push_back(*std::move(file));
    return from_files(config_json, std::move(files));
  }

  static tensor_info stored(const safetensors_tensor& t) noexcept {
    const std::size_t cols = t.shape.empty() ? 1 : static_cast<std::size_t>(t.shape.back());
    const std::size_t rows = t.shape.size() < 2 ? 1 : static_cast<std::size_t>(t.shape.front());
    return {*find_safetensors_format(t.format)->type, rows, cols, static_cast<std::size_t>(t.bytes)};
  }
  [[nodiscard]] bool adds_one(std::string_view name) const noexcept {
    return config_.norms_add_one && name.ends_with("norm.weight");
  }
  // 1 + w in float, as the published model computes it.
  static tensor_bytes one_more(const tensor_info& info, std::span<const std::byte> bytes) {
    const std::size_t n = info.rows * info.cols, width = block_bytes(info.type);
    std::vector<std::byte> out(n * sizeof(float));
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, bytes.data() + i * width, width);
      const auto half = static_cast<std::uint16_t>(bits);
      const float w = info.type == dtype::f32    ? std::bit_cast<float>(bits)
                      : info.type == dtype::bf16 ? widen(bf16{half})
                                                 : widen(f16{half});
      const float sum = 1.0f + w;
      std::memcpy(out.data() + i * sizeof sum, &sum, sizeof sum);
    }
    return tensor_bytes(std::move(out));
  }

  result<void> read();
  result<void> add(std::size_t file, const safetensors_tensor& tensor, std::string name);

  hf_config config_;
  std::vector<safetensors_file> files_;
  std::map<std::string, place, std::less<>> tensors_;  // by canonical name; tensors stay where they are through moves
};

static_assert(weights_source<hf_weights>);

// Names every tensor, and checks that each is understood: one that is not means a computation that is not done.
inline result<void> hf_weights::read() {
  constexpr std::string_view embedding = "embed_tokens.weight";
  std::optional<std::string_view> prefix;
  for (const std::string_view p : {"model.", "language_model.model.", "model.language_model.", ""})
    for (const safetensors_file& file : files_)
      if (!prefix && file.find_tensor(std::string(p) + std::string(embedding)) != nullptr) prefix = p;
  if (!prefix) return fail(errc::bad_format, "tensor model.embed_tokens.weight: expected it, found none");
  const bool multimodal = prefix->starts_with("language_model") || prefix->ends_with("language_model.");
  for (std::size_t f = 0; f < files_.size(); ++f) {
    for (const safetensors_tensor& tensor : files_[f].tensors()) {
      std::string_view name = tensor.name;
      // Tables that older checkpoints keep and no program reads; towers for pictures.
      if (name.ends_with(".rotary_emb.inv_freq")) continue;
      if (multimodal && (name.find("vision_tower.") < 7 || name.find("multi_modal_projector.") < 7)) continue;
      std::string canonical;
      if (name == "lm_head.weight" || (multimodal && name == "language_model.lm_head.weight")) {
        if (config_.model.tied_embeddings) continue;  // a copy of the embedding
        canonical = "lm_head.weight";
      } else if (name.starts_with(*prefix)) {
        canonical = "model." + std::string(name.substr(prefix->size()));
      }
      if (auto done = add(f, tensor, std::move(canonical)); !done)
        return fail(done.error().code, files_[f].name(), ": tensor ", detail::shown(name), ": ", done.error().message);
    }
  }
  const auto found = find("model.embed_tokens.weight");
  if (!config_.has_vocab && found) config_.model.vocab = static_cast<std::uint32_t>(std::min<std::size_t>(found->rows, UINT32_MAX));
  if (auto valid = validate(config_.model); !valid) return fail(errc::unsupported, valid.error().message);
  // The published model rounds the factor to the type of the weights that it multiplies.
  if (config_.model.embedding_scale != 1 && found) {
    float& scale = config_.model.embedding_scale;
    if (found->type == dtype::bf16) scale = widen(to_bf16(scale));
    if (found->type == dtype::f16) scale = widen(to_f16(scale));
  }
  return {};
}

inline result<void> hf_weights::add(std::size_t file, const safetensors_tensor& tensor, std::string name) {
  const model_config& c = config_.model;
  if (!detail::is_canonical(name, c))
    return fail(errc::unsupported, "expected the tensors of a ", c.architecture, " of ", c.layers,
                " layers, found one that it does not have");
  if (tensor.format != "F32" && tensor.format != "F16" && tensor.format != "BF16")
    return fail(errc::unsupported, "expected F32, F16 or BF16, found ", detail::shown(tensor.format));
  if (tensor.shape.empty() || tensor.shape.size() > 2)
    return fail(errc::shape_mismatch, "expected a vector or a matrix, found ", tensor.shape.size(), " dims");
  if (!tensors_.emplace(std::move(name), place{file, &tensor}).second)
    return fail(errc::bad_format, "expected each tensor once, found it in two files");
  return {};
}

inline result<hf_weights> hf_weights::open(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code code;
  fs::path weights = path;
  if (fs::is_directory(path, code)) {
    weights = path / "model.safetensors";
    if (!fs::exists(weights, code)) weights = path / "model.safetensors.index.json";
    if (!fs::exists(weights, code))
      return fail(errc::io, path.string(), ": expected model.safetensors or model.safetensors.index.json in it, found neither");
  }
  const fs::path folder = weights.parent_path();
  const auto config = mapped_file::open(folder / "config.json");
  if (!config) return config.error();
  const auto text = [](const mapped_file& file) {
    return std::string_view(reinterpret_cast<const char*>(file.bytes().data()), file.size());
  };
  // The configuration first: it is small, and the way to learn that the architecture is another.
  if (auto valid = read_hf_config(text(*config)); !valid)
    return fail(valid.error().code, (folder / "config.json").string(), ": ", valid.error().message);

  std::vector<safetensors_file> files;
  if (weights.extension() != ".json") {
    auto file = safetensors_file::open(weights);
    if (!file) return std::move(file).error();
    files.push_back(*std::move(file));
    return from_files(text(*config), std::move(files));
  }
  const auto mapped = mapped_file::open(weights);
  if (!mapped) return mapped.error();
  auto index = read_safetensors_index(text(*mapped));
  if (!index) return fail(index.error().code, weights.string(), ": ", index.error().message);
  for (const std::string& name : index->files) {
    auto file = safetensors_file::open(folder / name);
    if (!file) return std::move(file).error();
    files.push_back(*std::move(file));
  }
  for (const auto& [name, number] : index->tensors)
    if (files[number].find_tensor(name) == nullptr)
      return fail(errc::bad_format, files[number].name(), ": tensor ", detail::shown(name),
                  ": expected it here, as the index says, found none");
  return from_files(text(*config), std::move(files));
}

}  // namespace blockattn::inline v0
