// SPDX-License-Identifier: MIT
/// The header of a block's file (cache/block_file.hpp): what it says, how it is written and how it is believed.
/// Component `blockattn::store` (xxHash, nlohmann-json).
#pragma once

#include <atomic>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/executor.hpp"
#include "../core/json_text.hpp"
#include "../core/result.hpp"
#include "../version.hpp"
#include "block.hpp"
#include "checksum.hpp"
#include "key.hpp"

namespace blockattn::inline v0 {

inline constexpr std::uint32_t block_file_version = 1;
/// What fills the token ids up to a multiple of 16; no token is called that.
inline constexpr token block_file_padding = -1;

namespace detail {

// What stands before the header's own checksum, which is computed with zeros in its place.
inline constexpr std::string_view metadata_field = "{\"__metadata__\":", header_field = "\"xxh3_header\":\"";

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

// The tensors of a file as the members of its header's object, in the text that `dump` would give them. Text, because a
// reader builds it for every block.
inline std::string block_tensors(const kv_shape& s, std::size_t tokens, std::size_t& data_bytes) {
  std::string out;
  out.reserve((s.type == dtype::i8 ? 400 : 200) * (std::size_t{s.layers} + 1));
  const auto number = [&](std::size_t n) {
    char digits[20];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
  };
  const auto list = [&](std::initializer_list<std::size_t> values) {
    char before = '[';
    for (const std::size_t v : values) {
      out += std::exchange(before, ',');
      number(v);
    }
    out += ']';
  };
  std::size_t at = 0;
  const auto add = [&](auto&& name, std::string_view dtype_name, std::initializer_list<std::size_t> shape,
                       std::size_t bytes) {
    out += out.empty() ? "\"" : ",\"";
    name();
    out.append("\":{\"dtype\":\"").append(dtype_name).append("\",\"shape\":");
    list(shape);
    out += ",\"data_offsets\":";
    list({at, at + bytes});
    out += '}';
    at += bytes;
  };
  const std::size_t tiles = kv_shape::tiles(tokens), lane = s.lane();
  const std::string_view type = s.type == dtype::f32 ? "F32" : s.type == dtype::i8 ? "I8" : "BF16";
  for (std::uint32_t l = 0; l < s.layers; ++l) {
    const auto of_layer = [&](std::string_view what) {
      return [&, what] {
        out += "layers.";
        number(l);
        out += what;
      };
    };
    add(of_layer(".keys"), type, {s.kv_heads, tiles, ceil_div(s.head_dim, lane), panel_width, lane},
        s.kv_heads * s.key_panel(tokens) * s.element_bytes());
    add(of_layer(".values"), type, {s.kv_heads, tiles * panel_width / lane, round_up(s.head_dim, 16), lane},
        s.kv_heads * s.value_panel(tokens) * s.element_bytes());
    if (s.type != dtype::i8) continue;
    for (const char* name : {".key_scales", ".value_scales"})
      add(of_layer(name), "F32", {s.kv_heads, tiles, panel_width}, s.kv_heads * s.scales(tokens) * sizeof(float));
  }
  add([&] { out += "tokens"; }, "I32", {round_up(tokens, 16)}, round_up(tokens, 16) * sizeof(token));
  data_bytes = at;
  return out;
}

}  // namespace detail

/// The header of the file of a block, as bytes: its length in 8, JSON, spaces up to a multiple of 64.
[[nodiscard]] inline std::string block_file_header(const block_realm& realm, const kv_block& block,
                                                   std::string_view isa, std::uint64_t tokens_checksum) {
  std::size_t data_bytes = 0;
  const std::string tensors = detail::block_tensors(block.shape(), block.tokens().size(), data_bytes);
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
  std::string text(detail::metadata_field);
  text += metadata.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "," + tensors + "}";
  text.resize(round_up(text.size() + 8, alignment) - 8, ' ');
  const std::uint64_t length = text.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  out += text;
  const std::size_t at = out.find(detail::header_field) + detail::header_field.size();
  out.replace(at, 16, detail::hex64(detail::xxh3(std::as_bytes(std::span<const char>(out)))));
  return out;
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

// Whether a header's text is `{"__metadata__":` object `,` tensors `}` with the very letters that a block of this shape
// gets here: then the shape is read, and the metadata are all that must be parsed, a tenth of the time of all.
inline bool read_as_written(whole_block& out, std::string_view text, std::size_t room, std::size_t& data_bytes) {
  const std::size_t end = text.find("},\"layers.0.keys\":"), last = text.find_last_not_of(' ');
  if (!text.starts_with(metadata_field) || end == text.npos || last <= end) return false;
  const std::string_view object = text.substr(metadata_field.size(), end + 1 - metadata_field.size());
  out.metadata = nlohmann::json::parse(object.begin(), object.end(), nullptr, false);
  if (!out.metadata.is_object() || !read_block_shape(out, room)) return false;
  const std::string tensors = block_tensors(out.shape, out.tokens, data_bytes);
  return room == data_bytes && text.substr(end + 1, last - end) == "," + tensors + "}";
}
// The same for a header that orders or spaces its text in another way. Errors name what differs.
inline result<void> read_as_json(whole_block& out, const nlohmann::json& header, std::size_t room,
                                 std::size_t& data_bytes) {
  if (auto done = read_block_shape(out, room); !done) return done;
  const auto tensors = nlohmann::json::parse("{" + block_tensors(out.shape, out.tokens, data_bytes) + "}", nullptr, false);
  if (room != data_bytes)
    return fail(errc::bad_format, "expected ", data_bytes, " bytes of data, found ", room);
  if (header.size() != tensors.size() + 1)
    return fail(errc::bad_format, "expected ", tensors.size(), " tensors, found ", header.size() - 1);
  for (const auto& [name, described] : tensors.items()) {
    const auto it = header.find(name);
    if (it == header.end() || *it != described)
      return fail(errc::bad_format, "tensor ", name, ": expected another shape or place");
  }
  return {};
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
  const std::string_view text = std::string_view(own).substr(8);
  const std::size_t room = bytes.size() - header_bytes;
  std::size_t data_bytes = 0;
  nlohmann::json header;  // null if it is in the writer's own letters
  if (!read_as_written(out, text, room, data_bytes)) {
    header = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!header.is_object() || !header.contains("__metadata__") || !header["__metadata__"].is_object())
      return bad("expected a JSON object with __metadata__ as header");
    out.metadata = header["__metadata__"];
  }
  for (const auto& [name, expected] : {std::pair<const char*, std::string>{"format", "blockattn-block"},
                                       {"format_version", std::to_string(block_file_version)},
                                       {"layout_version", std::to_string(kv_layout_version)}})
    if (const std::string found = out.field(name); found != expected)
      // Another version is somebody's good file: tools leave it where it is.
      return fail(name == std::string_view("format") ? errc::bad_format : errc::unsupported, name, ": expected ",
                  expected, ", found ", found.substr(0, 64));

  if (!header.is_null())
    if (auto same = read_as_json(out, header, room, data_bytes); !same) return std::move(same).error();

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
// With workers, layers are compared in parallel; the error names the first damaged one either way.
inline result<void> verify_layers(const whole_block& block, std::optional<executor_ref> workers = {}) {
  std::atomic<std::size_t> damaged{block.layers.size()};
  const auto compare = [&](std::size_t, std::size_t l) {
    std::size_t first = damaged.load(std::memory_order_relaxed);
    if (l >= first || layer_is_whole(block, l)) return;
    while (l < first && !damaged.compare_exchange_weak(first, l, std::memory_order_relaxed)) {
    }
  };
  inline_executor alone;
  workers.value_or(alone).for_each(block.layers.size(), compare);
  if (const std::size_t l = damaged.load(std::memory_order_relaxed); l != block.layers.size())
    return fail(errc::bad_format, "layer ", l, ": the bytes are damaged");
  return {};
}

}  // namespace detail

}  // namespace blockattn::inline v0
