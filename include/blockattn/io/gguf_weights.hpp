// SPDX-License-Identifier: MIT
/// Weights of a Llama-family model from a GGUF file: configuration, and tensors under the names of model/weights.hpp.
///
/// Rows of Q and K are handed out as the file stores them, which is how `config().rope.layout` rotates them: converters
/// reorder them to neighbouring pairs for architecture `llama` and leave them half-split for `qwen2` and `qwen3`.
/// (Converted llama2.c models are interleaved from birth; their rows are those of the `.bin`.)
///
/// A model may lie in several files: NAME-00001-of-000NN.gguf, each a whole GGUF file that says which part it is
/// (`split.no`, from 0) of how many (`split.count`). The first holds the keys; tensors are where they are.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gguf_config.hpp"
#include "layer_names.hpp"

namespace blockattn::inline v0 {

/// A `weights_source` over a GGUF file or the parts of one. Move only. Opening reads the head alone; a tensor's bytes are borrowed from the
/// mapping or memory, or read when they are loaded. As safe from several threads as its source.
class gguf_weights {
 public:
  /// Maps a file, and the other parts of a split model beside it. Errors: `io`; `bad_format`, `unsupported`,
  /// `shape_mismatch` name the key or tensor.
  [[nodiscard]] static result<gguf_weights> open(const std::filesystem::path& path);
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
    std::vector<gguf_file> files;
    files.push_back(*std::move(file));
    return from_files(std::move(files));
  }
  /// Takes the parts of a model, in order. Errors: as `open`; `invalid_argument` for no parts.
  [[nodiscard]] static result<gguf_weights> from_files(std::vector<gguf_file> files) {
    if (files.empty()) return fail(errc::invalid_argument, "expected at least one file, found none");
    gguf_weights out(std::move(files));
    if (auto done = out.read(); !done) return fail(done.error().code, out.file().name(), ": ", done.error().message);
    return out;
  }

  /// The file, of a split model the first: metadata, among it the tokenizer's.
  [[nodiscard]] const gguf_file& file() const noexcept { return files_.front(); }
  [[nodiscard]] std::span<const gguf_file> files() const noexcept { return files_; }
  [[nodiscard]] const model_config& config() const noexcept { return config_; }
  /// The canonical names of all tensors, in order of name.
  [[nodiscard]] std::vector<std::string_view> names() const {
    std::vector<std::string_view> out;
    for (const auto& [name, number] : tensors_) out.push_back(name);
    return out;
  }

  [[nodiscard]] std::optional<tensor_info> find(std::string_view name) const {
    const auto [file, tensor] = place_of(name);
    if (tensor == nullptr) return std::nullopt;
    return tensor_info{*gguf_weight_type(tensor->format), static_cast<std::size_t>(tensor->rows()),
                       static_cast<std::size_t>(tensor->columns()), static_cast<std::size_t>(tensor->bytes)};
  }
  /// Errors: `bad_format` if there is no such tensor; those of a read function.
  [[nodiscard]] result<tensor_bytes> load(std::string_view name) const {
    const auto [file, tensor] = place_of(name);
    if (tensor == nullptr)
      return fail(errc::bad_format, this->file().name(), ": tensor ", name, ": expected it, found none");
    return file->load(*tensor);
  }
  /// Drops the pages of a mapped tensor.
  void release(std::string_view name) const noexcept {
    if (const auto [file, tensor] = place_of(name); tensor != nullptr) file->release(*tensor);
  }

 private:
  struct place {
    const gguf_file* file;
    const gguf_tensor* tensor;
  };

  explicit gguf_weights(std::vector<gguf_file> files) : files_(std::move(files)) {}

  [[nodiscard]] place place_of(std::string_view name) const noexcept {
    const auto it = tensors_.find(name);
    return it == tensors_.end() ? place{nullptr, nullptr} : it->second;
  }

  result<void> read();
  result<void> check_parts() const;

  std::vector<gguf_file> files_;  // files and their tensors stay where they are through moves
  model_config config_;
  std::map<std::string, place, std::less<>> tensors_;  // by canonical name
};

static_assert(weights_source<gguf_weights>);

// Whether the files are the parts of one model, in order.
inline result<void> gguf_weights::check_parts() const {
  const std::uint64_t count = file().find_u64("split.count").value_or(1);
  if (files_.size() == 1 && count <= 1) return {};
  if (count != files_.size())
    return fail(errc::unsupported, "key split.count: expected all parts of the model, found ", files_.size(), " of ",
                count);
  std::uint64_t tensors = 0;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    tensors += files_[i].tensors().size();
    for (const auto& [key, expected] : {std::pair<const char*, std::uint64_t>{"split.no", i}, {"split.count", count}})
      if (files_[i].find_u64(key) != expected)
        return fail(errc::bad_format, files_[i].name(), ": key ", key, ": expected ", expected, ", found ",
                    files_[i].has(key) ? "another number" : "nothing");
  }
  if (const auto all = file().find_u64("split.tensors.count"); all && *all != tensors)
    return fail(errc::bad_format, "key split.tensors.count: expected the ", tensors, " tensors of all parts, found ",
                *all);
  return {};
}

inline result<void> gguf_weights::read() {
  if (auto parts = check_parts(); !parts) return parts;
  auto config = read_config(files_);
  if (!config) return std::move(config).error();
  config_ = *std::move(config);
  for (const gguf_file& file : files_) {
    for (const gguf_tensor& tensor : file.tensors()) {
      // The divisors are in the configuration by now; the other is a table that no program reads.
      if (tensor.name == "rope_freqs.weight" || tensor.name.ends_with(".attn_rot_embd.weight")) continue;
      std::string name = detail::canonical_name(tensor.name, config_);
      // A tensor that is not understood means a computation that is not done.
      if (name.empty())
        return fail(errc::unsupported, "tensor ", tensor.name, ": expected the tensors of a ", config_.architecture,
                    " of ", config_.layers, " layers, found one that it does not have");
      if (!gguf_weight_type(tensor.format))
        return fail(errc::unsupported, "tensor ", tensor.name,
                    ": expected F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K, found ",
                    gguf_format_name(tensor.format));
      if (!tensors_.emplace(std::move(name), place{&file, &tensor}).second)
        return fail(errc::bad_format, "tensor ", tensor.name, ": expected it in one part, found it in two");
    }
  }
  return {};
}

inline result<gguf_weights> gguf_weights::open(const std::filesystem::path& path) {
  auto first = gguf_file::open(path);
  if (!first) return std::move(first).error();
  const std::uint64_t count = first->find_u64("split.count").value_or(1);
  if (count <= 1) return from_file(std::move(first));
  // NAME-00001-of-00003.gguf: any part leads to all.
  constexpr std::uint64_t most = 99999;
  const auto five = [](std::uint64_t n) { return std::to_string(n + 100000).substr(1); };
  const std::string name = path.filename().string();
  const std::string ending = count <= most ? "-of-" + five(count) + ".gguf" : std::string();
  const std::size_t tail = ending.size() + 6;  // and "-00001"
  if (ending.empty() || name.size() <= tail || !name.ends_with(ending) || name[name.size() - tail] != '-')
    return fail(errc::bad_format, path.string(), ": key split.count: expected a file called NAME-00001-of-",
                ending.empty() ? "N" : five(count), ".gguf, found ", count, " parts");
  const std::string stem = name.substr(0, name.size() - tail);
  std::vector<gguf_file> files;
  for (std::uint64_t i = 1; i <= count; ++i) {
    auto file = gguf_file::open(path.parent_path() / (stem + "-" + five(i) + ending));
    if (!file) return std::move(file).error();
    files.push_back(*std::move(file));
  }
  return from_files(std::move(files));
}

}  // namespace blockattn::inline v0
