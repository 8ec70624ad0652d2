// SPDX-License-Identifier: MIT
/// Safetensors files: named tensors behind a JSON header.
///
///     u64 length | header: {"__metadata__": {text: text}, NAME: {"dtype", "shape", "data_offsets": [begin, end]}} | data
///
/// Offsets count from the end of the header. Nothing in a file is trusted: names and keys occur once, the bytes of a
/// tensor are those of its shape, and the tensors cover the data without gap or overlap, as the format demands; so a
/// truncated or padded file is refused when it is opened.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "safetensors_header.hpp"

namespace blockattn::inline v0 {

/// An open file, checked as a whole when it is opened. Move only. Const members are as safe from several threads as the
/// source is. Opening costs at most about sixteen times the header in memory; tensors are borrowed from a mapping.
class safetensors_file {
 public:
  static constexpr std::uint64_t max_header = 100'000'000;  // bytes; the limit of other readers

  /// Maps a file. Errors: `io`; `bad_format` names the tensor or key, what was expected and found.
  [[nodiscard]] static result<safetensors_file> open(const std::filesystem::path& path) {
    auto source = byte_source::open(path);
    if (!source) return std::move(source).error();
    return read(*std::move(source));
  }
  /// Reads from borrowed memory, which must outlive the object and the tensors loaded from it.
  [[nodiscard]] static result<safetensors_file> from_memory(std::span<const std::byte> bytes) {
    return read(byte_source::from_memory(bytes));
  }
  /// Reads through a function: the header now, each tensor when it is loaded.
  [[nodiscard]] static result<safetensors_file> from_callback(std::uint64_t size, read_function function) {
    return read(byte_source::from_callback(size, std::move(function)));
  }
  [[nodiscard]] static result<safetensors_file> read(byte_source source) {
    safetensors_file out(std::move(source));
    if (auto done = out.read_header(); !done)
      return fail(done.error().code, out.source_.name(), ": ", done.error().message);
    return out;
  }

  /// The path, or the kind of source.
  [[nodiscard]] const std::string& name() const noexcept { return source_.name(); }
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const noexcept { return metadata_; }
  /// All tensors, in order of name.
  [[nodiscard]] std::span<const safetensors_tensor> tensors() const noexcept { return tensors_; }
  /// Complexity: logarithmic.
  [[nodiscard]] const safetensors_tensor* find_tensor(std::string_view name) const noexcept {
    const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                     [](const safetensors_tensor& t, std::string_view n) { return t.name < n; });
    return it != tensors_.end() && it->name == name ? &*it : nullptr;
  }

  /// The bytes of one of `tensors()`. Errors: those of a read function.
  [[nodiscard]] result<tensor_bytes> load(const safetensors_tensor& tensor) const {
    auto bytes = source_.load(tensor.offset, tensor.bytes);
    if (!bytes)
      return fail(bytes.error().code, name(), ": tensor ", detail::shown(tensor.name), ": ", bytes.error().message);
    return bytes;
  }
  /// Says that a tensor will not be asked for again: a mapping drops its pages.
  void release(const safetensors_tensor& tensor) const noexcept { source_.drop(tensor.offset, tensor.bytes); }

 private:
  explicit safetensors_file(byte_source source) : source_(std::move(source)) {}

  result<void> read_header();
  result<void> place_tensors(std::uint64_t start);

  byte_source source_;
  std::vector<safetensors_tensor> tensors_;  // in order of name
  std::map<std::string, std::string, std::less<>> metadata_;
};

inline result<void> safetensors_file::read_header() {
  const std::uint64_t size = source_.size();
  if (size < 8) return fail(errc::bad_format, "header: expected a length of 8 bytes, found a file of ", size);
  std::uint64_t length = 0;
  if (auto done = source_.read(0, std::as_writable_bytes(std::span(&length, 1))); !done) return done;
  const std::uint64_t most = std::min(max_header, size - 8);
  if (length > most)
    return fail(errc::bad_format, "header: expected at most ", most, " bytes, found a length of ", length);

  std::vector<std::byte> copy;
  std::span<const std::byte> text;
  if (const auto view = source_.view()) {
    text = view->subspan(8, static_cast<std::size_t>(length));
  } else {
    copy.resize(static_cast<std::size_t>(length));
    if (auto done = source_.read(8, copy); !done) return done;
    text = copy;
  }
  detail::safetensors_header header;
  if (!header.read({reinterpret_cast<const char*>(text.data()), text.size()})) return std::move(header.error);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  return place_tensors(8 + length);
}

// Checks shapes against offsets and offsets against the file, and makes them absolute. `bytes` holds the end until here.
inline result<void> safetensors_file::place_tensors(std::uint64_t start) {
  const std::uint64_t room = source_.size() - start;
  const auto bad = [](const safetensors_tensor& tensor, const auto&... pieces) {
    return fail(errc::bad_format, "tensor ", detail::shown(tensor.name), ": ", pieces...);
  };
  for (safetensors_tensor& tensor : tensors_) {
    const std::uint64_t begin = tensor.offset, end = tensor.bytes;
    if (begin > end || end > room)
      return bad(tensor, "expected data_offsets in order and within the ", room, " bytes of data, found ", begin,
                 " to ", end);
    tensor.bytes = end - begin;
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : tensor.shape) {
      // No format takes more than 8 bytes an element, so that bytes cannot overflow either.
      constexpr std::uint64_t largest = std::uint64_t{1} << 59;
      if (dim != 0 && elements > largest / dim) return bad(tensor, "expected a shape of at most 2^59 elements");
      elements *= dim;
    }
    const safetensors_format* format = find_safetensors_format(tensor.format);
    if (format == nullptr)
      return fail(errc::unsupported, "tensor ", detail::shown(tensor.name), ": expected a known dtype, found ",
                  detail::shown(tensor.format));
    if (elements * format->bytes != tensor.bytes)
      return bad(tensor, "expected ", elements * format->bytes, " bytes for ", elements, " elements of ", format->name,
                 ", found ", tensor.bytes);
  }

  std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;  // empty ones stand before their neighbour
  });
  std::uint64_t next = 0;
  for (safetensors_tensor& tensor : tensors_) {
    if (tensor.offset != next)
      return bad(tensor, "expected to begin at ", next, ", where the tensor before it ends, found ", tensor.offset);
    next += tensor.bytes;
    tensor.offset += start;
  }
  if (next != room) return fail(errc::bad_format, "data: expected ", next, " bytes in all, found ", room);

  std::sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < tensors_.size(); ++i)
    if (tensors_[i].name == tensors_[i - 1].name) return bad(tensors_[i], "expected each tensor once, found it twice");
  return {};
}

}  // namespace blockattn::inline v0
