// SPDX-License-Identifier: MIT
/// GGUF files, versions 2 and 3, little-endian: metadata by key, and where each tensor lies.
///
/// Layout: magic, version, two counts; the keys with their values; a description of each tensor; padding up to
/// `general.alignment` (32 unless stated); the tensors. Nothing in a file is trusted: a count, length, type or offset
/// is checked against the size of the file before it is used, so a hostile file costs at most a small multiple of its
/// own size in memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gguf_cursor.hpp"
#include "gguf_number.hpp"

namespace blockattn::inline v0 {

/// A metadata key, and where its value stands.
struct gguf_key {
  std::string name;
  gguf_type type = gguf_type::u32;     // of the value; `array` for lists
  gguf_type element = gguf_type::u32;  // of a list's elements; otherwise as `type`
  std::uint64_t count = 1;             // of a list's elements
  std::uint64_t offset = 0;            // of the value, or of the first element, from the beginning of the file
};

/// What the head says of a tensor. `dims[0]` counts elements of a row; unused dims are 1.
struct gguf_tensor {
  std::string name;
  std::uint32_t format = 0;  // see gguf_types.hpp
  std::array<std::uint64_t, 4> dims{1, 1, 1, 1};
  std::uint64_t offset = 0;  // from the beginning of the file
  std::uint64_t bytes = 0;   // 0 for a format whose size is not known here

  [[nodiscard]] std::uint64_t columns() const noexcept { return dims[0]; }
  [[nodiscard]] std::uint64_t rows() const noexcept { return dims[1] * dims[2] * dims[3]; }
};

/// The head of a GGUF file, checked as a whole when it is opened, and access to the tensors behind it. Move only.
/// Strings that it hands out live as long as it does, through moves. Const members are as safe from several threads as
/// the source is.
class gguf_file {
 public:
  /// Limits far above any model; they bound what the lists of keys and tensors cost.
  static constexpr std::uint64_t max_keys = 1u << 16, max_tensors = 1u << 17;

  /// Maps a file. Errors: `io`; `bad_format` and `unsupported` name the key or tensor, what was expected and found.
  [[nodiscard]] static result<gguf_file> open(const std::filesystem::path& path) {
    auto source = byte_source::open(path);
    if (!source) return std::move(source).error();
    return read(*std::move(source));
  }
  /// Reads from borrowed memory, which must outlive the object and the tensors loaded from it.
  [[nodiscard]] static result<gguf_file> from_memory(std::span<const std::byte> bytes) {
    return read(byte_source::from_memory(bytes));
  }
  /// Reads through a function: the head now, each tensor when it is loaded.
  [[nodiscard]] static result<gguf_file> from_callback(std::uint64_t size, read_function function) {
    return read(byte_source::from_callback(size, std::move(function)));
  }
  [[nodiscard]] static result<gguf_file> read(byte_source source) {
    gguf_file out(std::move(source));
    if (auto done = out.read_head(); !done) {
      failure e = std::move(done).error();
      e.message = out.source_.name() + ": " + e.message;
      return e;
    }
    return out;
  }

  [[nodiscard]] std::uint32_t version() const noexcept { return version_; }
  [[nodiscard]] std::uint64_t alignment() const noexcept { return alignment_; }
  /// The path, or the kind of source.
  [[nodiscard]] const std::string& name() const noexcept { return source_.name(); }

  /// All keys, in the order of the file.
  [[nodiscard]] std::span<const gguf_key> keys() const noexcept { return keys_; }
  [[nodiscard]] bool has(std::string_view key) const { return find_key(key) != nullptr; }
  [[nodiscard]] const gguf_key* find_key(std::string_view key) const {
    const auto it = key_index_.find(key);
    return it == key_index_.end() ? nullptr : &keys_[it->second];
  }

  // Values. Nothing, where the key is absent or its value is of another kind; numbers convert where that is exact (a
  // u32 of 7 is the double 7.0, a float of 0.5 is no integer). A NaN stays a NaN.
  [[nodiscard]] std::optional<std::string_view> find_string(std::string_view key) const {
    const gguf_key* k = find_key(key);
    if (k == nullptr || k->type != gguf_type::string) return std::nullopt;
    std::uint64_t at = k->offset;
    return string_at(at);
  }
  [[nodiscard]] std::optional<std::uint64_t> find_u64(std::string_view key) const {
    return find_number<std::uint64_t>(key);
  }
  [[nodiscard]] std::optional<std::int64_t> find_i64(std::string_view key) const {
    return find_number<std::int64_t>(key);
  }
  [[nodiscard]] std::optional<double> find_f64(std::string_view key) const { return find_number<double>(key); }
  [[nodiscard]] std::optional<bool> find_bool(std::string_view key) const {
    const gguf_key* k = find_key(key);
    if (k == nullptr || k->type != gguf_type::boolean) return std::nullopt;
    return head()[k->offset] != std::byte{0};
  }
  /// A list of strings. Costs a walk over the list and 16 bytes for each.
  [[nodiscard]] std::optional<std::vector<std::string_view>> find_strings(std::string_view key) const {
    const gguf_key* k = find_list(key);
    if (k == nullptr || k->element != gguf_type::string) return std::nullopt;
    std::vector<std::string_view> out;
    out.reserve(static_cast<std::size_t>(k->count));
    std::uint64_t at = k->offset;
    for (std::uint64_t i = 0; i < k->count; ++i) out.push_back(string_at(at));
    return out;
  }
  /// A list of numbers, if every one of them is exact in the type asked for. Bools are the integers 0 and 1.
  [[nodiscard]] std::optional<std::vector<float>> find_floats(std::string_view key) const {
    return find_numbers<float>(key);
  }
  [[nodiscard]] std::optional<std::vector<std::int64_t>> find_ints(std::string_view key) const {
    return find_numbers<std::int64_t>(key);
  }

  /// All tensors, in the order of the file.
  [[nodiscard]] std::span<const gguf_tensor> tensors() const noexcept { return tensors_; }
  [[nodiscard]] const gguf_tensor* find_tensor(std::string_view name) const {
    const auto it = tensor_index_.find(name);
    return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
  }
  /// The bytes of one of `tensors()`. Errors: `unsupported` for a format of unknown size; those of a read function.
  [[nodiscard]] result<tensor_bytes> load(const gguf_tensor& tensor) const {
    if (tensor.bytes == 0)
      return fail(errc::unsupported, name(), ": tensor ", tensor.name, ": expected a known format, found ",
                  gguf_format_name(tensor.format));
    auto bytes = source_.load(tensor.offset, tensor.bytes);
    if (!bytes) return fail(bytes.error().code, name(), ": tensor ", tensor.name, ": ", bytes.error().message);
    return bytes;
  }
  /// Says that a tensor will not be asked for again: a mapping drops its pages.
  void release(const gguf_tensor& tensor) const noexcept { source_.drop(tensor.offset, tensor.bytes); }

 private:
  using index = std::map<std::string, std::size_t, std::less<>>;

  explicit gguf_file(byte_source source) : source_(std::move(source)) {}

  // The head, whole: everything below was checked to lie inside it.
  [[nodiscard]] const std::byte* head() const noexcept {
    const auto view = source_.view();
    return view ? view->data() : head_.data();
  }
  [[nodiscard]] std::string_view string_at(std::uint64_t& at) const noexcept {
    std::uint64_t length = 0;
    std::memcpy(&length, head() + at, sizeof length);
    const std::string_view out(reinterpret_cast<const char*>(head()) + at + sizeof length,
                               static_cast<std::size_t>(length));
    at += sizeof length + length;
    return out;
  }
  [[nodiscard]] const gguf_key* find_list(std::string_view key) const {
    const gguf_key* k = find_key(key);
    return k != nullptr && k->type == gguf_type::array ? k : nullptr;
  }
  template <class T>
  [[nodiscard]] std::optional<T> find_number(std::string_view key) const {
    const gguf_key* k = find_key(key);
    if (k == nullptr || k->type == gguf_type::boolean) return std::nullopt;
    return detail::gguf_number<T>(k->type, head() + k->offset);
  }
  template <class T>
  [[nodiscard]] std::optional<std::vector<T>> find_numbers(std::string_view key) const {
    const gguf_key* k = find_list(key);
    if (k == nullptr || value_bytes(k->element) == 0) return std::nullopt;
    std::vector<T> out;
    out.reserve(static_cast<std::size_t>(k->count));
    for (std::uint64_t i = 0; i < k->count; ++i) {
      const auto value = detail::gguf_number<T>(k->element, head() + k->offset + i * value_bytes(k->element));
      if (!value) return std::nullopt;
      out.push_back(*value);
    }
    return out;
  }

  result<void> read_head();
  result<void> read_key(detail::gguf_cursor& in, std::uint64_t number);
  result<void> read_tensor(detail::gguf_cursor& in, std::uint64_t number);
  result<void> place_tensors(std::uint64_t head_end);

  byte_source source_;
  std::vector<std::byte> head_;  // a copy, where the source has to be read by a function
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<gguf_key> keys_;
  std::vector<gguf_tensor> tensors_;
  index key_index_, tensor_index_;
};

inline result<void> gguf_file::read_head() {
  detail::gguf_cursor in(source_);
  const auto magic = in.take(4);
  if (!magic) return magic.error();
  if (std::memcmp(*magic, "GGUF", 4) != 0)
    return fail(errc::bad_format, "header: expected the magic bytes GGUF, found \"",
                detail::shown({reinterpret_cast<const char*>(*magic), 4}), "\"");
  const auto version = in.number<std::uint32_t>();
  if (!version) return version.error();
  if (*version != 0 && (*version & 0xffffu) == 0)
    return fail(errc::unsupported, "header: expected a little-endian file, found a big-endian one");
  if (*version != 2 && *version != 3)
    return fail(errc::unsupported, "header: expected version 2 or 3, found ", *version);
  version_ = *version;

  const auto tensors = in.number<std::uint64_t>();
  if (!tensors) return tensors.error();
  const auto keys = in.number<std::uint64_t>();
  if (!keys) return keys.error();
  // Each key takes at least 13 bytes, each tensor 24: a false count is refused before anything is sized by it.
  const std::uint64_t most_keys = std::min(max_keys, in.left() / 13);
  if (*keys > most_keys)
    return fail(errc::bad_format, "header: expected at most ", most_keys, " keys in a file of ", source_.size(),
                " bytes, found a count of ", *keys);
  keys_.reserve(static_cast<std::size_t>(*keys));
  for (std::uint64_t i = 0; i < *keys; ++i)
    if (auto done = read_key(in, i); !done) return done;

  const std::uint64_t most_tensors = std::min(max_tensors, in.left() / 24);
  if (*tensors > most_tensors)
    return fail(errc::bad_format, "header: expected at most ", most_tensors, " tensors in the ", in.left(),
                " bytes after the keys, found a count of ", *tensors);
  tensors_.reserve(static_cast<std::size_t>(*tensors));
  for (std::uint64_t i = 0; i < *tensors; ++i)
    if (auto done = read_tensor(in, i); !done) return done;
  const std::uint64_t head_end = in.at();
  head_ = std::move(in).release_head();

  if (has("general.alignment")) {
    constexpr std::uint64_t largest = 1u << 30;
    const auto alignment = find_u64("general.alignment");
    if (!alignment || *alignment == 0 || *alignment > largest || (*alignment & (*alignment - 1)) != 0)
      return fail(errc::bad_format, "key general.alignment: expected a power of two, found ",
                  alignment ? std::to_string(*alignment) : std::string("no such number"));
    alignment_ = *alignment;
  }
  return place_tensors(head_end);
}

inline result<void> gguf_file::read_key(detail::gguf_cursor& in, std::uint64_t number) {
  in.where("key " + std::to_string(number));
  auto name = in.name(65535);
  if (!name) return std::move(name).error();
  gguf_key key;
  key.name = *std::move(name);
  in.where("key " + detail::shown(key.name));

  const auto read_type = [&in]() -> result<gguf_type> {
    const auto id = in.number<std::uint32_t>();
    if (!id) return id.error();
    if (*id > static_cast<std::uint32_t>(gguf_type::f64))
      return in.error(errc::bad_format, "expected a value type of 0 to 12, found ", *id);
    return static_cast<gguf_type>(*id);
  };
  const auto type = read_type();
  if (!type) return type.error();
  key.type = key.element = *type;
  if (*type == gguf_type::array) {
    const auto element = read_type();
    if (!element) return element.error();
    if (*element == gguf_type::array)
      return in.error(errc::unsupported, "expected a list of numbers or strings, found a list of lists");
    const auto count = in.number<std::uint64_t>();
    if (!count) return count.error();
    key.element = *element;
    key.count = *count;
  }
  key.offset = in.at();
  if (auto done = in.skip(key.element, key.count); !done) return done;
  if (!key_index_.emplace(key.name, keys_.size()).second)
    return in.error(errc::bad_format, "expected each key once, found it twice");
  keys_.push_back(std::move(key));
  return {};
}

inline result<void> gguf_file::read_tensor(detail::gguf_cursor& in, std::uint64_t number) {
  in.where("tensor " + std::to_string(number));
  auto name = in.name(255);  // writers keep to 64
  if (!name) return std::move(name).error();
  gguf_tensor tensor;
  tensor.name = *std::move(name);
  in.where("tensor " + detail::shown(tensor.name));

  const auto rank = in.number<std::uint32_t>();
  if (!rank) return rank.error();
  if (*rank < 1 || *rank > tensor.dims.size())
    return in.error(errc::bad_format, "expected 1 to ", tensor.dims.size(), " dims, found ", *rank);
  std::uint64_t elements = 1;
  for (std::size_t d = 0; d < *rank; ++d) {
    const auto dim = in.number<std::uint64_t>();
    if (!dim) return dim.error();
    // No format takes more than 8 bytes an element, so that bytes cannot overflow either.
    constexpr std::uint64_t largest = std::uint64_t{1} << 59;
    if (*dim == 0 || *dim > largest / elements)
      return in.error(errc::bad_format, "expected dims whose product is 1 to 2^59, found dim ", d, " = ", *dim,
                      " after a product of ", elements);
    tensor.dims[d] = *dim;
    elements *= *dim;
  }
  const auto format = in.number<std::uint32_t>();
  if (!format) return format.error();
  const auto offset = in.number<std::uint64_t>();
  if (!offset) return offset.error();
  tensor.format = *format;
  tensor.offset = *offset;
  if (const gguf_format* known = find_gguf_format(*format)) {
    if (tensor.columns() % known->elements != 0)
      return in.error(errc::bad_format, "expected rows of a multiple of ", known->elements, " elements for ",
                      known->name, ", found ", tensor.columns());
    tensor.bytes = elements / known->elements * known->bytes;
  }
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second)
    return in.error(errc::bad_format, "expected each tensor once, found it twice");
  tensors_.push_back(std::move(tensor));
  return {};
}

// Makes offsets absolute and checks that tensors lie in the file, aligned, each in bytes of its own: tensors that share
// bytes would let a small file describe a model of any size.
inline result<void> gguf_file::place_tensors(std::uint64_t head_end) {
  const std::uint64_t size = source_.size();
  const std::uint64_t start = head_end + (alignment_ - head_end % alignment_) % alignment_;
  const std::uint64_t room = start < size ? size - start : 0;
  const auto bad = [](const gguf_tensor& tensor, const auto&... pieces) {
    return fail(errc::bad_format, "tensor ", detail::shown(tensor.name), ": ", pieces...);
  };
  std::vector<const gguf_tensor*> order;
  order.reserve(tensors_.size());
  for (gguf_tensor& tensor : tensors_) {
    if (tensor.offset % alignment_ != 0)
      return bad(tensor, "expected an offset that is a multiple of ", alignment_, ", found ", tensor.offset);
    if (tensor.offset > room || tensor.bytes > room - tensor.offset)
      return bad(tensor, "expected ", tensor.bytes, " bytes at offset ", tensor.offset, " of the data, found ", room,
                 " bytes of data in all");
    tensor.offset += start;
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < order.size(); ++i)
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes)
      return bad(*order[i], "expected bytes of its own, found them shared with tensor ",
                 detail::shown(order[i - 1]->name));
  return {};
}

}  // namespace blockattn::inline v0
