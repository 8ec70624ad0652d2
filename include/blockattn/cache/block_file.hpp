// SPDX-License-Identifier: MIT
/// A block as a file that any safetensors reader opens: one tensor of keys and one of values for each layer, in the
/// panels of tensor/kv_panels.hpp, the token ids, and metadata that says who made it.
///
///     layers.N.keys     (kv_heads, tiles, ceil(head_dim/lane), 16, lane)   F32, BF16 or I8; keys at local positions
///     layers.N.values   (kv_heads, tiles*16/lane, round_up(head_dim,16), lane)
///     layers.N.key_scales, layers.N.value_scales   (kv_heads, tiles, 16)       F32, of I8 only: element = code * scale;
///                                                                              a key is that times its factor
///     tokens            (round_up(n, 16))                                      I32, padded with -1
///
/// The header is padded so that data begins on a 64-byte boundary, and every tensor's size is a multiple of 64: a
/// mapped file is read by the attention kernel in place. XXH3-64 checksums cover the header (with its own field
/// zeroed), the token ids and each layer. A file is written under a temporary name, flushed, renamed, and its folder
/// flushed; it is never changed in place. The same bytes are what a server keeps (cache/redis_storage.hpp).
/// Component `blockattn::store` (xxHash, nlohmann-json).
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/executor.hpp"
#include "../core/mapped_file.hpp"
#include "../core/memory.hpp"
#include "../core/result.hpp"
#include "../version.hpp"
#include "block.hpp"
#include "block_header.hpp"
#include "checksum.hpp"
#include "file_system.hpp"
#include "key.hpp"
#include "lazy_layers.hpp"

namespace blockattn::inline v0 {

/// The bytes of a block's file, in pieces: header, payload, token ids. Borrows the payload from the block.
class block_file_image {
 public:
  /// `isa` names the instruction set whose bits the block holds. Errors: `invalid_argument` for a block without tokens,
  /// of which there is nothing to keep; `bad_format` for a block that was restored lazily and is damaged. Complexity:
  /// linear, for the checksums.
  [[nodiscard]] static result<block_file_image> of(const block_realm& realm, const kv_block& block,
                                                   std::string_view isa) {
    if (block.tokens().empty()) return fail(errc::invalid_argument, "expected a block of at least one token, found none");
    // A checksum over bytes that nobody has compared would call damage whole.
    if (auto whole = block.verify(); !whole) return std::move(whole).error();
    block_file_image out;
    out.ids_.assign(block.tokens().begin(), block.tokens().end());
    out.ids_.resize(round_up(out.ids_.size(), 16), block_file_padding);
    const auto ids = std::as_bytes(std::span<const token>(out.ids_));
    out.header_ = block_file_header(realm, block, isa, detail::xxh3(ids));
    out.payload_ = block.payload();
    return out;
  }
  [[nodiscard]] std::array<std::span<const std::byte>, 3> pieces() const noexcept {
    return {std::as_bytes(std::span<const char>(header_)), payload_, std::as_bytes(std::span<const token>(ids_))};
  }
  [[nodiscard]] std::size_t size() const noexcept {
    return header_.size() + payload_.size() + ids_.size() * sizeof(token);
  }

 private:
  block_file_image() = default;
  std::string header_;
  std::span<const std::byte> payload_;
  std::vector<token> ids_;
};

namespace detail {
// Two writers never share a temporary file: the process, the thread's stack and the time are in its name.
inline std::filesystem::path temporary_beside(const std::filesystem::path& file) {
  const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  const auto here = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&now));
  std::filesystem::path temporary = file;
  temporary += "." + std::to_string(::getpid()) + "." + hasher().number(now).number(here).finish().hex() + ".tmp";
  return temporary;
}
inline failure naming(const std::filesystem::path& file, const failure& e) {
  return fail(e.code, file.string(), ": ", e.message);
}
}  // namespace detail

/// Writes a block. `isa` names the instruction set whose bits it holds. Errors: as `block_file_image::of`; `io`, with
/// what the system said; then no file of this name has appeared. Safe against other writers of the same file: the last
/// one wins. (It knows no budget: directory_storage does.)
[[nodiscard]] inline result<void> write_block_file(const std::filesystem::path& file, const block_realm& realm,
                                                   const kv_block& block, std::string_view isa) {
  const auto image = block_file_image::of(realm, block, isa);
  if (!image) return detail::naming(file, image.error());
  native_file_system files;
  const std::filesystem::path temporary = detail::temporary_beside(file);
  const std::filesystem::path folder = file.parent_path().empty() ? "." : file.parent_path();
  // A directory_storage on the folder must not take the beginning file for one that was left behind, nor miss it in its
  // sums while it gets its name. Where there are no locks, there is no such storage.
  const auto under_lock = [&](auto&& body) {
    const auto held = folder_lock::acquire(folder, std::chrono::seconds(10));
    return body();
  };
  auto to = under_lock([&] { return files.create(temporary, image->size()); });
  if (!to) return std::move(to).error();
  auto done = detail::write_whole(*to, temporary, image->pieces());
  if (done) done = under_lock([&] { return files.rename(temporary, file); });
  if (!done) {
    (void)files.remove(temporary);
    return done;
  }
  // The rename is a fact once the folder is flushed; a folder that cannot be opened for that is not an error of ours.
  (void)files.flush_folder(folder);
  return {};
}

/// Whether bytes are a whole block, of whatever model. Errors name the field, what was expected and found:
/// `bad_format`; `unsupported` for a block of another format or layout version. Never undefined behaviour, whatever the
/// bytes are. Complexity: linear, for the checksums.
[[nodiscard]] inline result<void> verify_block(std::span<const std::byte> bytes) {
  const auto head = detail::read_block_head(bytes);
  if (!head) return head.error();
  return detail::verify_layers(*head);
}

/// The same for a file. Errors: `io` besides; all name the file.
[[nodiscard]] inline result<void> verify_block_file(const std::filesystem::path& file) {
  const auto mapped = mapped_file::open(file);
  if (!mapped) return mapped.error();
  if (auto whole = verify_block(mapped->bytes()); !whole) return detail::naming(file, whole.error());
  return {};
}

/// When the layers of a restored block are compared with their checksums.
enum class verify_when : std::uint8_t {
  before_use,  ///< before it is handed out
  by_layer     ///< by whoever reads it first (kv_block::layer_is_whole): nothing waits for pages that nobody reads
};

/// Bytes that may be a block, and who keeps them alive.
struct block_source {
  std::string source;  ///< what messages call it: a path, a key
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

struct read_block_options {
  verify_when verify = verify_when::before_use;
  std::string_view same_producer;  ///< not empty: refuse blocks of another library version or instruction set than this
  std::optional<executor_ref> workers = {};  ///< who compares layers before use, in parallel; else the calling thread
  std::function<void()> on_damage = {};  ///< with `by_layer`: called once for each damaged layer, from any thread
};

/// Makes a block of its file's bytes, in place where they lie on a 64-byte boundary. Header, token ids, shape and realm
/// are checked in any case. Errors: as `verify_block`; and `bad_format` for a whole block of other tokens, another
/// model, rotary configuration, codec, shape, element type or refused producer. Never undefined behaviour.
/// Complexity: linear in the bytes if layers are verified, else in the tokens.
[[nodiscard]] inline result<block_handle> read_block(const block_source& from, const block_realm& realm,
                                                     const kv_shape& shape, const block_key& key,
                                                     std::span<const token> ids, read_block_options options = {}) {
  auto head = detail::read_block_head(from.bytes);
  if (!head) return detail::naming(from.source, head.error());
  const auto differs = [&](std::string_view name, std::string_view expected, const std::string& found) {
    return fail(errc::bad_format, from.source, ": ", name, ": expected ", expected, ", found ", found.substr(0, 64));
  };
  const auto wanted = detail::block_metadata(realm, key, shape, ids.size());  // outlives the loop over it
  for (const auto& [name, value] : wanted.items()) {
    const auto& expected = value.get_ref<const std::string&>();
    if (const std::string found = head->field(name); found != expected) return differs(name, expected, found);
  }
  if (std::memcmp(head->ids, ids.data(), ids.size_bytes()) != 0)
    return fail(errc::bad_format, from.source, ": tensor tokens: expected other ids: two lists share a key");
  if (!options.same_producer.empty()) {
    if (const std::string made = head->field("library"); made != version_string)
      return differs("library", version_string, made);
    if (const std::string made = head->field("isa"); made != options.same_producer)
      return differs("isa", options.same_producer, made);
  }
  if (options.verify == verify_when::before_use)
    if (auto whole = detail::verify_layers(*head, options.workers); !whole)
      return detail::naming(from.source, whole.error());

  kv_block::parts parts{.charge = {},
                        .key = key,
                        .shape = shape,
                        .payload = {},
                        .tokens = {},
                        .token_count = ids.size(),
                        .encode_ns = 0,
                        .check = nullptr};
  const std::string ns = head->field("encode_ns");
  std::from_chars(ns.data(), ns.data() + ns.size(), parts.encode_ns);
  std::shared_ptr<const void> keeper = from.owner;
  if (reinterpret_cast<std::uintptr_t>(head->payload) % alignment != 0) {
    // A mapping begins on a page; a system without mappings has read the file to wherever its allocator had room.
    const std::size_t bytes = kv_block::memory_bytes(shape, ids.size());
    const auto copy = std::make_shared<aligned_buffer<>>(bytes);
    std::memcpy(copy->data(), head->payload, bytes);
    head->payload = copy->data();
    keeper = copy;
  }
  const auto* const tokens = reinterpret_cast<const token*>(head->payload + shape.payload_bytes(ids.size()));
  parts.payload = std::shared_ptr<const std::byte>(keeper, head->payload);
  parts.tokens = std::shared_ptr<const token>(keeper, tokens);
  if (options.verify == verify_when::by_layer)
    parts.check = std::make_shared<detail::lazy_layers>(
        detail::lazy_layers::plan{head->payload, shape.layer_bytes(ids.size()), std::move(head->layers), detail::xxh3},
        from.source, std::move(options.on_damage));
  return block_handle(std::make_shared<kv_block>(std::move(parts)));
}

/// The same for a mapped file; the mapping lives as long as the handle. Errors: `io` besides. Never undefined
/// behaviour, as long as nobody shortens the file meanwhile.
[[nodiscard]] inline result<block_handle> read_block_file(const std::filesystem::path& file, const block_realm& realm,
                                                          const kv_shape& shape, std::span<const token> ids) {
  auto mapped = mapped_file::open(file);
  if (!mapped) return std::move(mapped).error();
  const auto owner = std::make_shared<const mapped_file>(*std::move(mapped));
  return read_block({file.string(), owner, owner->bytes()}, realm, shape, key_of(realm, ids), ids);
}

}  // namespace blockattn::inline v0
