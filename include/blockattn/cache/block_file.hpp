// SPDX-License-Identifier: MIT
/// A block as a file that any safetensors reader opens: one tensor of keys and one of values for each layer, in the
/// panels of tensor/kv_panels.hpp, the token ids, and metadata that says who made it.
///
///     layers.N.keys     (kv_heads, tiles, ceil(head_dim/lane), 16, lane)       F32 or BF16, keys at local positions
///     layers.N.values   (kv_heads, tiles*16/lane, round_up(head_dim,16), lane)
///     tokens            (round_up(n, 16))                                      I32, padded with -1
///
/// The header is padded so that data begins on a 64-byte boundary, and every tensor's size is a multiple of 64: a
/// mapped file is read by the attention kernel in place. XXH3-64 checksums cover the header (with its own field
/// zeroed), the token ids and each layer. A file is written under a temporary name, flushed, renamed, and its folder
/// flushed; it is never changed in place. Component `blockattn::store` (xxHash, nlohmann-json).
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../core/mapped_file.hpp"
#include "../core/result.hpp"
#include "../version.hpp"
#include "block.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

inline constexpr std::uint32_t block_file_version = 1;

namespace detail {

inline std::string hex64(std::uint64_t x) { return hash128{0, x}.hex().substr(16); }
inline std::uint64_t xxh3(std::span<const std::byte> bytes) noexcept { return XXH3_64bits(bytes.data(), bytes.size()); }

// Everything that a file must say to be the block of these tokens, but for the checksums.
inline nlohmann::ordered_json block_metadata(const block_realm& realm, const block_key& key, const kv_shape& shape,
                                             std::size_t tokens) {
  return {{"format", "blockattn-block"},
          {"format_version", std::to_string(block_file_version)},
          {"layout_version", std::to_string(kv_layout_version)},
          {"key", key.value.hex()},
          {"model", realm.model.hex()},
          {"rope", realm.rope.hex()},
          {"codec", std::to_string(realm.codec)},
          {"element", std::string(to_string(shape.type))},
          {"layers", std::to_string(shape.layers)},
          {"kv_heads", std::to_string(shape.kv_heads)},
          {"head_dim", std::to_string(shape.head_dim)},
          {"tokens", std::to_string(tokens)}};
}

inline nlohmann::ordered_json block_tensors(const kv_shape& s, std::size_t tokens, std::size_t& data_bytes) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  const std::size_t tiles = kv_shape::tiles(tokens), lane = s.lane();
  const char* const type = s.type == dtype::f32 ? "F32" : "BF16";
  std::size_t at = 0;
  const auto add = [&](const std::string& name, const char* dtype_name, std::vector<std::size_t> shape,
                       std::size_t bytes) {
    out[name] = {{"dtype", dtype_name}, {"shape", std::move(shape)}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  };
  for (std::uint32_t l = 0; l < s.layers; ++l) {
    const std::string layer = "layers." + std::to_string(l);
    add(layer + ".keys", type, {s.kv_heads, tiles, ceil_div(s.head_dim, lane), panel_width, lane},
        s.kv_heads * s.key_panel(tokens) * s.element_bytes());
    add(layer + ".values", type, {s.kv_heads, tiles * panel_width / lane, round_up(s.head_dim, 16), lane},
        s.kv_heads * s.value_panel(tokens) * s.element_bytes());
  }
  add("tokens", "I32", {round_up(tokens, 16)}, round_up(tokens, 16) * sizeof(token));
  data_bytes = at;
  return out;
}

// Writes all bytes of a range to a descriptor.
inline bool write_all(int descriptor, const void* data, std::size_t n) noexcept {
  const auto* at = static_cast<const char*>(data);
  while (n != 0) {
    const ssize_t wrote = ::write(descriptor, at, n);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    at += wrote;
    n -= static_cast<std::size_t>(wrote);
  }
  return true;
}

}  // namespace detail

/// The header of the file of a block, as bytes: its length in 8, JSON, spaces up to a multiple of 64.
[[nodiscard]] inline std::string block_file_header(const block_realm& realm, const kv_block& block,
                                                   std::string_view isa, std::uint64_t tokens_checksum) {
  std::size_t data_bytes = 0;
  auto tensors = detail::block_tensors(block.shape(), block.tokens().size(), data_bytes);
  auto metadata = detail::block_metadata(realm, block.key(), block.shape(), block.tokens().size());
  metadata["library"] = version_string;
  metadata["isa"] = isa;
  metadata["encode_ns"] = std::to_string(block.encode_ns());
  metadata["xxh3_tokens"] = detail::hex64(tokens_checksum);
  std::string layers;
  const std::size_t layer_bytes = block.shape().layer_bytes(block.tokens().size());
  for (std::uint32_t l = 0; l < block.shape().layers; ++l)
    layers += detail::hex64(detail::xxh3({block.layer(l), layer_bytes}));
  metadata["xxh3_layers"] = layers;
  const std::string zero(16, '0');
  metadata["xxh3_header"] = zero;
  nlohmann::ordered_json header = {{"__metadata__", std::move(metadata)}};
  header.update(tensors);
  std::string text = header.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace);
  text.resize(round_up(text.size() + 8, alignment) - 8, ' ');
  const std::uint64_t length = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += text;
  const std::string field = "\"xxh3_header\":\"";
  const std::size_t at = out.find(field) + field.size();
  out.replace(at, 16, detail::hex64(detail::xxh3(std::as_bytes(std::span<const char>(out)))));
  return out;
}

/// Writes a block. `isa` names the instruction set whose bits it holds. Errors: `io`, with what the system said; then
/// no file of this name has appeared. Safe against other writers of the same file: the last one wins.
[[nodiscard]] inline result<void> write_block_file(const std::filesystem::path& file, const block_realm& realm,
                                                   const kv_block& block, std::string_view isa) {
  std::vector<token> ids(block.tokens().begin(), block.tokens().end());
  ids.resize(round_up(ids.size(), 16), -1);
  const std::string header =
      block_file_header(realm, block, isa, detail::xxh3(std::as_bytes(std::span<const token>(ids))));
  // Two writers never share a temporary file: the process, the thread's stack and the time are in its name.
  const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  const auto here = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(&header));
  std::filesystem::path temporary = file;
  temporary += "." + std::to_string(::getpid()) + "." + hasher().number(now).number(here).finish().hex() + ".tmp";
  const auto error = [&](const char* verb) {
    auto e = fail(errc::io, file.string(), ": cannot ", verb, ": ", std::strerror(errno));
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    return e;
  };
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (descriptor < 0) return error("create");
  const bool written = detail::write_all(descriptor, header.data(), header.size()) &&
                       detail::write_all(descriptor, block.payload().data(), block.payload().size()) &&
                       detail::write_all(descriptor, ids.data(), ids.size() * sizeof(token)) &&
                       ::fsync(descriptor) == 0;
  if (!written) {
    auto e = error("write");
    ::close(descriptor);
    return e;
  }
  if (::close(descriptor) != 0) return error("close");
  if (::rename(temporary.c_str(), file.c_str()) != 0) return error("rename");
  // The rename is a fact once the folder is flushed; a folder that cannot be opened for that is not an error of ours.
  if (const int folder = ::open(file.parent_path().empty() ? "." : file.parent_path().c_str(), O_RDONLY | O_CLOEXEC);
      folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  return {};
}

namespace detail {

// A file whose bytes are whole: header, tensors and checksums agree. Whose block it is, is another question.
struct whole_block_file {
  std::shared_ptr<mapped_file> owner;
  nlohmann::json metadata;  // all values are strings
  kv_shape shape;
  std::size_t tokens = 0;
  const std::byte* payload = nullptr;
  const token* ids = nullptr;

  [[nodiscard]] std::string field(const std::string& name) const {
    const auto it = metadata.find(name);
    return it != metadata.end() && it->is_string() ? it->get<std::string>() : std::string();
  }
};

inline result<whole_block_file> open_block_file(const std::filesystem::path& file) {
  auto mapped = mapped_file::open(file);
  if (!mapped) return std::move(mapped).error();
  whole_block_file out;
  out.owner = std::make_shared<mapped_file>(std::move(*mapped));
  const std::span<const std::byte> bytes = out.owner->bytes();
  const auto bad = [&](const auto&... pieces) { return fail(errc::bad_format, file.string(), ": ", pieces...); };

  if (bytes.size() < 8) return bad("expected a header, found ", bytes.size(), " bytes");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > bytes.size() - 8 || (length + 8) % alignment != 0)
    return bad("expected a header of at most ", bytes.size() - 8, " bytes, padded to 64, found ", length);
  // The header's own checksum comes first: what is parsed afterwards is what was written.
  std::string own(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(length) + 8);
  const std::string name = "\"xxh3_header\":\"";
  const std::size_t at = own.find(name);
  if (at == std::string::npos || at + name.size() + 16 > own.size()) return bad("expected a block with xxh3_header");
  const std::string stated = own.substr(at + name.size(), 16);
  own.replace(at + name.size(), 16, std::string(16, '0'));
  if (hex64(xxh3(std::as_bytes(std::span<const char>(own)))) != stated)
    return bad("xxh3_header: the header is damaged");
  const auto header = nlohmann::json::parse(own.begin() + 8, own.end(), nullptr, false);
  if (!header.is_object() || !header.contains("__metadata__") || !header["__metadata__"].is_object())
    return bad("expected a JSON object with __metadata__ as header");
  out.metadata = header["__metadata__"];

  for (const auto& [key, expected] : {std::pair<const char*, std::string>{"format", "blockattn-block"},
                                      {"format_version", std::to_string(block_file_version)},
                                      {"layout_version", std::to_string(kv_layout_version)}})
    if (out.field(key) != expected) return bad(key, ": expected ", expected, ", found ", out.field(key).substr(0, 64));
  const std::string element = out.field("element");
  if (element != "f32" && element != "bf16") return bad("element: expected f32 or bf16, found ", element.substr(0, 64));
  out.shape.type = element == "f32" ? dtype::f32 : dtype::bf16;
  struct bounded {
    const char* name;
    std::uint64_t most;
    std::uint64_t value = 0;
  } numbers[] = {{"layers", 4096}, {"kv_heads", 65536}, {"head_dim", 256}, {"tokens", bytes.size()}};
  for (bounded& n : numbers) {
    const std::string text = out.field(n.name);
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n.value);
    if (code != std::errc() || end != text.data() + text.size() || n.value == 0 || n.value > n.most)
      return bad(n.name, ": expected 1 to ", n.most, ", found ", text.substr(0, 64));
  }
  out.shape.layers = static_cast<std::uint32_t>(numbers[0].value);
  out.shape.kv_heads = static_cast<std::uint32_t>(numbers[1].value);
  out.shape.head_dim = static_cast<std::uint32_t>(numbers[2].value);
  out.tokens = static_cast<std::size_t>(numbers[3].value);

  // Below 2^12 layers, 2^16 heads, 2^8 dims and 2^48 tokens the product could pass 64 bits: compare in parts.
  const std::size_t room = bytes.size() - 8 - static_cast<std::size_t>(length);
  const std::size_t per_tile = out.shape.payload_bytes(panel_width);  // below 2^48
  if (kv_shape::tiles(out.tokens) > room / per_tile)
    return bad("expected more data for ", out.tokens, " tokens, found ", room, " bytes");
  std::size_t data_bytes = 0;
  const auto tensors = block_tensors(out.shape, out.tokens, data_bytes);
  if (room != data_bytes) return bad("expected ", data_bytes, " bytes of data, found ", room);
  for (const auto& [tensor, described] : tensors.items()) {
    const auto it = header.find(tensor);
    if (it == header.end() || *it != nlohmann::json(described))
      return bad("tensor ", tensor, ": expected another shape or place");
  }

  out.payload = bytes.data() + 8 + length;
  const std::size_t payload_bytes = out.shape.payload_bytes(out.tokens);
  out.ids = reinterpret_cast<const token*>(out.payload + payload_bytes);
  if (hex64(xxh3({out.payload + payload_bytes, data_bytes - payload_bytes})) != out.field("xxh3_tokens"))
    return bad("tensor tokens: the bytes are damaged");
  const std::string layers = out.field("xxh3_layers");
  if (layers.size() != std::size_t{16} * out.shape.layers)
    return bad("xxh3_layers: expected one checksum for each layer");
  for (std::uint32_t l = 0; l < out.shape.layers; ++l) {
    const std::size_t n = out.shape.layer_bytes(out.tokens);
    if (hex64(xxh3({out.payload + l * n, n})) != layers.substr(std::size_t{16} * l, 16))
      return bad("layer ", l, ": the bytes are damaged");
  }
  return out;
}

}  // namespace detail

/// Whether a file holds a whole block, of whatever model. Errors as `read_block_file`.
[[nodiscard]] inline result<void> verify_block_file(const std::filesystem::path& file) {
  const auto whole = detail::open_block_file(file);
  if (!whole) return whole.error();
  return {};
}

/// Maps the file of a block, checks everything and hands it out in place; the mapping lives as long as the handle.
/// Errors: `io`; `bad_format`, naming the field, what was expected and found. Never undefined behaviour, whatever the
/// bytes are, as long as nobody shortens the file meanwhile. Complexity: linear in the file, for the checksums.
[[nodiscard]] inline result<block_handle> read_block_file(const std::filesystem::path& file, const block_realm& realm,
                                                          const kv_shape& shape, std::span<const token> ids) {
  const auto whole = detail::open_block_file(file);
  if (!whole) return whole.error();
  const block_key key = key_of(realm, ids);
  for (const auto& [name, value] : detail::block_metadata(realm, key, shape, ids.size()).items()) {
    const auto& expected = value.get_ref<const std::string&>();
    if (const std::string found = whole->field(name); found != expected)
      return fail(errc::bad_format, file.string(), ": ", name, ": expected ", expected, ", found ",
                  found.substr(0, 64));
  }
  if (!std::equal(ids.begin(), ids.end(), whole->ids))
    return fail(errc::bad_format, file.string(), ": tensor tokens: expected other ids: two lists share a key");
  std::uint64_t encode_ns = 0;
  const std::string ns = whole->field("encode_ns");
  std::from_chars(ns.data(), ns.data() + ns.size(), encode_ns);
  return block_handle(std::make_shared<kv_block>(
      kv_block::parts{.charge = {},
                      .key = key,
                      .shape = shape,
                      .payload = std::shared_ptr<const std::byte>(whole->owner, whole->payload),
                      .tokens = std::shared_ptr<const token>(whole->owner, whole->ids),
                      .token_count = ids.size(),
                      .encode_ns = encode_ns}));
}

}  // namespace blockattn::inline v0
