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
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "../core/json_text.hpp"
#include "../core/mapped_file.hpp"
#include "../core/memory.hpp"
#include "../core/result.hpp"
#include "../version.hpp"
#include "block.hpp"
#include "file_system.hpp"
#include "key.hpp"
#include "lazy_layers.hpp"

namespace blockattn::inline v0 {

inline constexpr std::uint32_t block_file_version = 1;
/// What fills the token ids up to a multiple of 16; no token is called that.
inline constexpr token block_file_padding = -1;

namespace detail {

// What stands before the header's own checksum, which is computed with zeros in its place.
inline constexpr std::string_view header_field = "\"xxh3_header\":\"";

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
  const char* const type = s.type == dtype::f32 ? "F32" : s.type == dtype::i8 ? "I8" : "BF16";
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
    if (s.type != dtype::i8) continue;
    for (const char* name : {".key_scales", ".value_scales"})
      add(layer + name, "F32", {s.kv_heads, tiles, panel_width}, s.kv_heads * s.scales(tokens) * sizeof(float));
  }
  add("tokens", "I32", {round_up(tokens, 16)}, round_up(tokens, 16) * sizeof(token));
  data_bytes = at;
  return out;
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
  const std::size_t at = out.find(detail::header_field) + detail::header_field.size();
  out.replace(at, 16, detail::hex64(detail::xxh3(std::as_bytes(std::span<const char>(out)))));
  return out;
}

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

namespace detail {

// Bytes whose header, tensors and ids are whole. Whose block it is, and whether its layers are whole, are other
// questions.
struct whole_block {
  nlohmann::json metadata;
  kv_shape shape;
  std::size_t tokens = 0;
  const std::byte* payload = nullptr;
  const std::byte* ids = nullptr;  // behind the payload
  std::vector<std::uint64_t> layers;  // their checksums

  /// Empty if there is no such text.
  [[nodiscard]] std::string field(const std::string& name) const {
    const auto it = metadata.find(name);
    return it != metadata.end() && it->is_string() ? it->get_ref<const std::string&>() : std::string();
  }
};

// Reads the shape and compares it with the `room` bytes behind the header, before anything is sized by it.
inline result<void> read_block_shape(whole_block& out, std::size_t room) {
  const std::string element = out.field("element");
  if (element != "f32" && element != "bf16" && element != "i8")
    return fail(errc::bad_format, "element: expected f32, bf16 or i8, found ", element.substr(0, 64));
  out.shape.type = element == "f32" ? dtype::f32 : element == "i8" ? dtype::i8 : dtype::bf16;
  struct bounded {
    const char* name;
    std::uint64_t most;
    std::uint64_t value = 0;
  } numbers[] = {{"layers", 4096}, {"kv_heads", 65536}, {"head_dim", 256}, {"tokens", room}};
  for (bounded& n : numbers) {
    const std::string text = out.field(n.name);
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n.value);
    if (code != std::errc() || end != text.data() + text.size() || n.value == 0 || n.value > n.most)
      return fail(errc::bad_format, n.name, ": expected 1 to ", n.most, ", found ", text.substr(0, 64));
  }
  out.shape.layers = static_cast<std::uint32_t>(numbers[0].value);
  out.shape.kv_heads = static_cast<std::uint32_t>(numbers[1].value);
  out.shape.head_dim = static_cast<std::uint32_t>(numbers[2].value);
  out.tokens = static_cast<std::size_t>(numbers[3].value);
  // With 2^12 layers, 2^16 heads, 2^8 dims and 2^48 tokens the product could pass 64 bits: it is compared in parts.
  const std::size_t per_tile = out.shape.payload_bytes(panel_width);  // below 2^48
  if (kv_shape::tiles(out.tokens) > room / per_tile)
    return fail(errc::bad_format, "expected more data for ", out.tokens, " tokens, found ", room, " bytes");
  return {};
}

// The text form of a checksum: 16 digits as hex64 writes them.
inline bool parse_hex64(std::string_view text, std::uint64_t& out) noexcept {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return text.size() == 16 && code == std::errc() && end == text.data() + text.size();
}

inline result<whole_block> read_block_head(std::span<const std::byte> bytes) {
  whole_block out;
  const auto bad = [](const auto&... pieces) { return fail(errc::bad_format, pieces...); };
  if (bytes.size() < 8) return bad("expected a header, found ", bytes.size(), " bytes");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > bytes.size() - 8 || (length + 8) % alignment != 0)
    return bad("expected a header of at most ", bytes.size() - 8, " bytes, padded to 64, found ", length);
  const std::size_t header_bytes = 8 + static_cast<std::size_t>(length);

  // The header's own checksum comes first: what is parsed afterwards is what was written.
  std::string own(reinterpret_cast<const char*>(bytes.data()), header_bytes);
  const std::size_t at = own.find(header_field);
  if (at == std::string::npos || at + header_field.size() + 16 > own.size())
    return bad("expected a block, found a header without xxh3_header");
  const std::string stated = own.substr(at + header_field.size(), 16);
  own.replace(at + header_field.size(), 16, 16, '0');
  if (hex64(xxh3(std::as_bytes(std::span<const char>(own)))) != stated)
    return bad("xxh3_header: the header is damaged");
  if (auto plain = refuse_zero_bytes(std::string_view(own).substr(8)); !plain) return std::move(plain).error();
  const auto header = nlohmann::json::parse(own.begin() + 8, own.end(), nullptr, false);
  if (!header.is_object() || !header.contains("__metadata__") || !header["__metadata__"].is_object())
    return bad("expected a JSON object with __metadata__ as header");
  out.metadata = header["__metadata__"];
  for (const auto& [name, expected] : {std::pair<const char*, std::string>{"format", "blockattn-block"},
                                       {"format_version", std::to_string(block_file_version)},
                                       {"layout_version", std::to_string(kv_layout_version)}})
    if (const std::string found = out.field(name); found != expected)
      // Another version is somebody's good file: tools leave it where it is.
      return fail(name == std::string_view("format") ? errc::bad_format : errc::unsupported, name, ": expected ",
                  expected, ", found ", found.substr(0, 64));

  const std::size_t room = bytes.size() - header_bytes;
  if (auto done = read_block_shape(out, room); !done) return std::move(done).error();
  std::size_t data_bytes = 0;
  const auto tensors = block_tensors(out.shape, out.tokens, data_bytes);
  if (room != data_bytes) return bad("expected ", data_bytes, " bytes of data, found ", room);
  if (header.size() != tensors.size() + 1)
    return bad("expected ", tensors.size(), " tensors, found ", header.size() - 1);
  for (const auto& [name, described] : tensors.items()) {
    const auto it = header.find(name);
    if (it == header.end() || *it != nlohmann::json(described))
      return bad("tensor ", name, ": expected another shape or place");
  }

  out.payload = bytes.data() + header_bytes;
  const std::size_t payload_bytes = out.shape.payload_bytes(out.tokens);
  out.ids = out.payload + payload_bytes;
  if (hex64(xxh3({out.ids, data_bytes - payload_bytes})) != out.field("xxh3_tokens"))
    return bad("tensor tokens: the bytes are damaged");
  for (std::size_t i = 0; i < round_up(out.tokens, 16); ++i) {
    token id = 0;  // copied, since nothing says that these bytes are aligned
    std::memcpy(&id, out.ids + i * sizeof id, sizeof id);
    if ((id == block_file_padding) != (i >= out.tokens))
      return bad("tensor tokens: expected ", out.tokens, " ids and then padding, found ", id, " at ", i);
  }
  const std::string layers = out.field("xxh3_layers");
  out.layers.resize(layers.size() == std::size_t{16} * out.shape.layers ? out.shape.layers : 0);
  for (std::size_t l = 0; l < out.layers.size(); ++l)
    if (!parse_hex64(std::string_view(layers).substr(16 * l, 16), out.layers[l])) out.layers.clear();
  if (out.layers.empty()) return bad("xxh3_layers: expected one checksum for each layer");
  return out;
}

inline bool layer_is_whole(const whole_block& block, std::size_t l) noexcept {
  const std::size_t bytes = block.shape.layer_bytes(block.tokens);
  return xxh3({block.payload + l * bytes, bytes}) == block.layers[l];
}
inline result<void> verify_layers(const whole_block& block) {
  for (std::size_t l = 0; l < block.layers.size(); ++l)
    if (!layer_is_whole(block, l)) return fail(errc::bad_format, "layer ", l, ": the bytes are damaged");
  return {};
}

}  // namespace detail

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
    if (auto whole = detail::verify_layers(*head); !whole) return detail::naming(from.source, whole.error());

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
