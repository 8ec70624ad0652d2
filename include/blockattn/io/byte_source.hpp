// SPDX-License-Identifier: MIT
/// Where the bytes of a model come from: a mapped file, the program's memory, or a function that reads. Readers see one
/// type; only this file knows the three.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/mapped_file.hpp"
#include "../core/result.hpp"
#include "../model/weights.hpp"

namespace blockattn::inline v0 {

// Tensors are lent as they lie in the file, and every format read here is little-endian.
static_assert(std::endian::native == std::endian::little, "the readers of model files need a little-endian machine");

namespace detail {

/// Text from a file, fit for a one-line message: short, and without bytes that a terminal would obey.
[[nodiscard]] inline std::string shown(std::string_view text) {
  constexpr std::size_t longest = 100;
  std::string out(text.substr(0, longest));
  for (char& c : out)
    if (c < ' ' || c > '~') c = '?';
  if (text.size() > longest) out += "...";
  return out;
}

}  // namespace detail

/// Reads `out.size()` bytes that begin at `offset`, all of them or an error. Ranges outside the stated size are never
/// asked for. Called from the thread that opens, binds or loads.
using read_function = std::function<result<void>(std::uint64_t offset, std::span<std::byte> out)>;

/// Random access to bytes of known size. Move only. Const members are as safe from several threads as the read
/// function.
class byte_source {
 public:
  /// Maps a file. Errors: `io`.
  [[nodiscard]] static result<byte_source> open(const std::filesystem::path& path) {
    auto file = mapped_file::open(path);
    if (!file) return std::move(file).error();
    byte_source out;
    out.name_ = path.string();
    out.file_ = *std::move(file);
    out.view_ = out.file_.bytes();
    out.size_ = out.view_.size();
    return out;
  }
  /// Borrows memory, which must outlive the source and every tensor loaded from it.
  [[nodiscard]] static byte_source from_memory(std::span<const std::byte> bytes) {
    byte_source out;
    out.name_ = "memory";
    out.view_ = bytes;
    out.size_ = bytes.size();
    return out;
  }
  /// Reads by calling `read`, which must not be empty. Tensors are then copies of their own.
  [[nodiscard]] static byte_source from_callback(std::uint64_t size, read_function read) {
    BLOCKATTN_EXPECTS(read);
    byte_source out;
    out.name_ = "callback";
    out.size_ = read ? size : 0;
    out.read_ = std::move(read);
    return out;
  }

  /// The path of the file, or what kind of source it is: for messages.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// All bytes, unless they have to be read by a function.
  [[nodiscard]] std::optional<std::span<const std::byte>> view() const noexcept {
    if (read_) return std::nullopt;
    return view_;
  }

  /// Copies a range. Requires `offset + out.size() <= size()`.
  [[nodiscard]] result<void> read(std::uint64_t offset, std::span<std::byte> out) const {
    BLOCKATTN_EXPECTS(offset <= size_ && out.size() <= size_ - offset);
    if (out.empty()) return {};
    if (read_) return read_(offset, out);
    std::memcpy(out.data(), view_.data() + offset, out.size());
    return {};
  }

  /// A range as the bytes of a tensor: borrowed where that is possible. Requires `offset + count <= size()`.
  [[nodiscard]] result<tensor_bytes> load(std::uint64_t offset, std::uint64_t count) const {
    BLOCKATTN_EXPECTS(offset <= size_ && count <= size_ - offset);
    if (!read_) return tensor_bytes(view_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(count)));
    if (count > static_cast<std::uint64_t>(PTRDIFF_MAX))
      return fail(errc::out_of_memory, "expected a range that fits into the address space, found ", count, " bytes");
    std::vector<std::byte> bytes(static_cast<std::size_t>(count));
    if (auto done = read(offset, bytes); !done) return std::move(done).error();
    return tensor_bytes(std::move(bytes));
  }

  /// Says that a range will not be asked for again: a mapping drops its pages.
  void drop(std::uint64_t offset, std::uint64_t count) const noexcept {
    if (offset < size_) file_.drop(static_cast<std::size_t>(offset), static_cast<std::size_t>(count));
  }

 private:
  byte_source() = default;

  std::string name_;
  mapped_file file_;                 // empty unless opened by path
  std::span<const std::byte> view_;  // empty with a read function
  read_function read_;
  std::uint64_t size_ = 0;
};

}  // namespace blockattn::inline v0
