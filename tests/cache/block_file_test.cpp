// SPDX-License-Identifier: MIT
// Blocks as files: the same bits come back, and whatever else lies under the name is refused.
#include <blockattn/cache/block_file.hpp>
#include <blockattn/cache/encoder.hpp>
#include <nlohmann/json.hpp>

#include "../support/data.hpp"
#include "../support/random_model.hpp"
#include "../support/strings.hpp"
#include "../support/temporary_folder.hpp"
#include "block_bytes.hpp"
#include "fake_encoder.hpp"

namespace ba = blockattn;
using blockattn_test::contains;
using blockattn_test::fake_encoder;
using blockattn_test::header_text;
using blockattn_test::temporary_folder;
using blockattn_test::with_header;
using file_bytes = std::vector<std::byte>;
using nlohmann::json;

namespace {

std::vector<ba::token> some_tokens(std::size_t n) { return blockattn_test::random_numbers(n).tokens(n, 32000); }

file_bytes bytes_of(const std::filesystem::path& file) {
  const std::string text = blockattn_test::read_text(file);
  file_bytes out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

/// A written block: its encoder, ids, path and bytes.
struct written {
  explicit written(ba::kv_shape shape = {2, 1, 8, ba::dtype::f32}, std::size_t tokens = 5)
      : encoder(shape), ids(some_tokens(tokens)), block(ba::encode_block(encoder, ids).value()) {
    path = folder / "block.safetensors";
    REQUIRE(ba::write_block_file(path, encoder.realm(), *block, "test").has_value());
    bytes = bytes_of(path);
  }
  [[nodiscard]] ba::result<ba::block_handle> read(const std::filesystem::path& file) const {
    return ba::read_block_file(file, encoder.realm(), encoder.shape(), ids);
  }

  temporary_folder folder;
  fake_encoder encoder;
  std::vector<ba::token> ids;
  ba::block_handle block;
  std::string path;
  file_bytes bytes;
};

/// A copy in memory of exactly its size, so that the address sanitizer sees a read past its end.
ba::result<void> verify(const file_bytes& bytes) {
  const file_bytes exact(bytes.begin(), bytes.end());
  return ba::verify_block(exact);
}

std::string refusal(const file_bytes& bytes, ba::errc code = ba::errc::bad_format) {
  const auto whole = verify(bytes);
  REQUIRE_FALSE(whole.has_value());
  CHECK(whole.error().code == code);
  CHECK(whole.error().message.size() < 400);
  return whole.error().message;
}

}  // namespace

TEST_CASE("block_file: the same bits come back, mapped and aligned") {
  for (const ba::dtype type : {ba::dtype::f32, ba::dtype::bf16, ba::dtype::i8}) {
    for (const std::uint32_t head_dim : {2u, 8u, 24u, 64u}) {
      for (const std::size_t n : {1u, 15u, 16u, 17u, 100u}) {
        INFO(ba::to_string(type) << ", head size " << head_dim << ", " << n << " tokens");
        const written w({3, 2, head_dim, type}, n);
        const auto restored = w.read(w.path);
        REQUIRE(restored);
        const ba::kv_block& b = **restored;
        CHECK(b.key() == w.block->key());
        CHECK(b.shape() == w.block->shape());
        CHECK(std::ranges::equal(b.tokens(), w.ids));
        CHECK(blockattn_test::has_fake_payload(b));
        CHECK(reinterpret_cast<std::uintptr_t>(b.payload().data()) % ba::alignment == 0);
        CHECK(b.encode_ns() == w.block->encode_ns());
        CHECK(b.counted_by() == nullptr);
        CHECK(verify(w.bytes));
        CHECK(ba::verify_block_file(w.path));
      }
    }
  }
}

TEST_CASE("block_file: a block outlives its file, and a file is replaced whole") {
  written w;
  const auto first = w.read(w.path).value();
  REQUIRE(ba::write_block_file(w.path, w.encoder.realm(), *w.block, "test").has_value());
  const auto second = w.read(w.path).value();
  std::filesystem::remove(w.path);
  CHECK(blockattn_test::has_fake_payload(*first));
  CHECK(blockattn_test::has_fake_payload(*second));
  // Neither write left anything but the file.
  CHECK(std::filesystem::is_empty(w.folder.path()));
  const auto missing = w.read(w.path);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == ba::errc::io);
}

TEST_CASE("block_file: a write that fails leaves nothing") {
  const written w;
  const auto none = ba::write_block_file(w.folder / "no/such/folder", w.encoder.realm(), *w.block, "test");
  REQUIRE_FALSE(none);
  CHECK((none.error().code == ba::errc::io && contains(none.error().message, "cannot create")));
  // A folder stands where the file should: the rename fails, and the temporary file goes.
  std::filesystem::create_directories(w.folder / "taken/inside");
  const auto taken = ba::write_block_file(w.folder / "taken", w.encoder.realm(), *w.block, "test");
  REQUIRE_FALSE(taken);
  CHECK((taken.error().code == ba::errc::io && contains(taken.error().message, "cannot rename")));
  std::size_t entries = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(w.folder.path())) ++entries;
  CHECK(entries == 2);
  fake_encoder encoder;
  const std::vector<ba::token> nothing;
  const std::shared_ptr<std::byte> memory(new std::byte[64], std::default_delete<std::byte[]>());
  const auto empty = ba::make_block(ba::key_of(encoder.realm(), nothing), encoder.shape(), nothing, memory,
                                    std::allocator<std::byte>());
  const auto refused = ba::write_block_file(w.folder / "empty", encoder.realm(), *empty, "test");
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ba::errc::invalid_argument);
}

TEST_CASE("block_file: any safetensors reader finds the tensors") {
  const ba::kv_shape shape{2, 3, 24, ba::dtype::bf16};
  const written w(shape, 17);
  const json header = json::parse(header_text(w.bytes));
  std::uint64_t length = 0;
  std::memcpy(&length, w.bytes.data(), 8);
  const std::size_t data = 8 + static_cast<std::size_t>(length);
  CHECK(data % 64 == 0);
  std::size_t end = 0;
  for (const std::string name : {"layers.0.keys", "layers.0.values", "layers.1.keys", "layers.1.values", "tokens"}) {
    INFO(name);
    const json& tensor = header.at(name);
    const auto offsets = tensor.at("data_offsets").get<std::vector<std::size_t>>();
    CHECK((offsets[0] == end && offsets[0] % 64 == 0));  // end to end, in order, as the format demands
    end = offsets[1];
    std::size_t elements = 1;
    for (const json& d : tensor.at("shape")) elements *= d.get<std::size_t>();
    const std::size_t size = tensor.at("dtype") == "I32" ? 4 : tensor.at("dtype") == "BF16" ? 2 : 0;
    CHECK(elements * size == offsets[1] - offsets[0]);
  }
  CHECK(data + end == w.bytes.size());
  CHECK(std::memcmp(w.bytes.data() + data, w.block->payload().data(), w.block->payload_bytes()) == 0);
  // All values of the metadata are strings, as the format demands.
  for (const auto& [key, value] : header.at("__metadata__").items()) CHECK(value.is_string());
  CHECK(header["__metadata__"]["isa"] == "test");
  CHECK(header["__metadata__"]["tokens"] == "17");
}

TEST_CASE("block_file: int8 codes and their scales are tensors of their own, where the kernel reads them") {
  const ba::kv_shape shape{2, 3, 24, ba::dtype::i8};
  const written w(shape, 17);
  const json header = json::parse(header_text(w.bytes));
  std::uint64_t length = 0;
  std::memcpy(&length, w.bytes.data(), 8);
  CHECK(header["__metadata__"]["element"] == "i8");
  const auto at = [&](const std::string& name) {
    return header.at(name).at("data_offsets")[0].get<std::size_t>();
  };
  for (std::size_t l = 0; l < 2; ++l) {
    const std::string layer = "layers." + std::to_string(l);
    const std::size_t base = l * shape.layer_bytes(17);
    CHECK(header.at(layer + ".keys").at("dtype") == "I8");
    CHECK(header.at(layer + ".keys").at("shape") == json({3, 2, 6, 16, 4}));
    CHECK(header.at(layer + ".values").at("shape") == json({3, 8, 32, 4}));
    CHECK(at(layer + ".values") == base + shape.value_offset(0, 17));
    CHECK(header.at(layer + ".key_scales").at("dtype") == "F32");
    CHECK(header.at(layer + ".key_scales").at("shape") == json({3, 2, 16}));
    CHECK(at(layer + ".key_scales") == base + shape.key_scale_offset(0, 17));
    CHECK(at(layer + ".value_scales") == base + shape.value_scale_offset(0, 17));
    CHECK(at(layer + ".value_scales") % 64 == 0);
  }
}

TEST_CASE("block_file: every truncation is an error") {
  const written w;
  for (std::size_t n = 0; n < w.bytes.size(); ++n) {
    INFO("cut to " << n << " of " << w.bytes.size());
    const file_bytes cut(w.bytes.begin(), w.bytes.begin() + static_cast<std::ptrdiff_t>(n));
    refusal(cut);
    if (n % 97 == 0) {
      const auto read = w.read(w.folder.file("cut", cut));
      REQUIRE_FALSE(read);
      CHECK((read.error().code == ba::errc::bad_format && contains(read.error().message, "/cut: ")));
    }
  }
  file_bytes longer = w.bytes;
  longer.push_back(std::byte{0});
  CHECK(contains(refusal(longer), "bytes of data, found"));
}

TEST_CASE("block_file: every flipped bit is found") {
  const written w({2, 1, 8, ba::dtype::bf16}, 5);
  file_bytes bytes = w.bytes;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      bytes[at] ^= static_cast<std::byte>(1u << bit);
      if (verify(bytes)) FAIL("bit " << bit << " of byte " << at);
      bytes[at] ^= static_cast<std::byte>(1u << bit);
    }
  }
  CHECK(verify(bytes));
  // What is wrong is said: a layer, the ids, the header.
  const std::size_t data = bytes.size() - w.block->payload_bytes() - 64;
  const auto flipped = [&](std::size_t at) {
    file_bytes copy = w.bytes;
    copy[at] ^= std::byte{4};
    return refusal(copy);
  };
  CHECK(contains(flipped(data), "layer 0: the bytes are damaged"));
  CHECK(contains(flipped(data + w.block->payload_bytes() - 1), "layer 1: the bytes are damaged"));
  CHECK(contains(flipped(bytes.size() - 1), "tensor tokens: the bytes are damaged"));
  CHECK(contains(flipped(60), "the header is damaged"));
}

TEST_CASE("block_file: random damage to a larger file") {
  const written w({3, 2, 64, ba::dtype::f32}, 40);
  blockattn_test::random_numbers random(3);
  for (int i = 0; i < 300; ++i) {
    file_bytes bytes = w.bytes;
    const std::size_t from = random.below(bytes.size());
    const std::size_t n = 1 + random.below(std::min<std::size_t>(bytes.size() - from, 200));
    for (std::size_t k = 0; k < n; ++k) bytes[from + k] ^= static_cast<std::byte>(1 + random.below(255));
    CHECK_FALSE(verify(bytes).has_value());
  }
}

TEST_CASE("block_file: a whole block of something else is refused by name") {
  const written w;
  const auto says = [&](const ba::block_realm& realm, const ba::kv_shape& shape, const std::vector<ba::token>& ids,
                        const std::string& part) {
    const auto read = ba::read_block_file(w.path, realm, shape, ids);
    REQUIRE_FALSE(read);
    INFO(read.error().message);
    CHECK(read.error().code == ba::errc::bad_format);
    CHECK(contains(read.error().message, part));
    CHECK(contains(read.error().message, w.path));
  };
  const ba::block_realm realm = w.encoder.realm();
  const ba::kv_shape shape = w.encoder.shape();
  // The key covers all of these; it is compared first.
  ba::block_realm other = realm;
  other.model.low ^= 1;
  says(other, shape, w.ids, "key: expected");
  other = realm;
  other.rope.high ^= 1;
  says(other, shape, w.ids, "key: expected");
  other = realm;
  other.codec = 1;
  says(other, shape, w.ids, "key: expected");
  other = realm;
  other.salt = "tenant";
  says(other, shape, w.ids, "key: expected");
  other = realm;
  other.sinks = {1};
  says(other, shape, w.ids, "key: expected");
  std::vector<ba::token> ids = w.ids;
  ids[2] ^= 1;
  says(realm, shape, ids, "key: expected");
  ids = w.ids;
  ids.push_back(1);
  says(realm, shape, ids, "key: expected");
  says(realm, shape, {}, "key: expected");
  // The shape is no part of the key.
  for (ba::kv_shape s : {ba::kv_shape{3, 1, 8, ba::dtype::f32}, ba::kv_shape{2, 2, 8, ba::dtype::f32},
                         ba::kv_shape{2, 1, 16, ba::dtype::f32}, ba::kv_shape{2, 1, 8, ba::dtype::bf16}})
    says(realm, s, w.ids, ": expected ");

  // A file that claims our key and holds other fields: each is compared.
  for (const char* field : {"model", "rope", "codec"}) {
    json header = json::parse(header_text(w.bytes));
    header["__metadata__"][field] = "00000000000000000000000000000007";
    const auto forged = w.read(w.folder.file("forged", with_header(w.bytes, header.dump())));
    REQUIRE_FALSE(forged);
    CHECK(contains(forged.error().message, std::string(field) + ": expected "));
  }
  // Our key, our fields, other ids: two lists share a key, or somebody lies.
  file_bytes bytes = w.bytes;
  bytes[bytes.size() - 64] ^= std::byte{1};
  json header = json::parse(header_text(bytes));
  header["__metadata__"]["xxh3_tokens"] =
      ba::detail::hex64(ba::detail::xxh3(std::span<const std::byte>(bytes).last(64)));
  const auto collided = w.read(w.folder.file("collided", with_header(bytes, header.dump())));
  REQUIRE_FALSE(collided);
  CHECK(contains(collided.error().message, "two lists share a key"));
}

TEST_CASE("block_file: headers that lie are refused before anything is sized by them") {
  const written w;
  const auto refused = [&](const std::function<void(json&)>& change, const std::string& part,
                           ba::errc code = ba::errc::bad_format) {
    json header = json::parse(header_text(w.bytes));
    change(header);
    const std::string why = refusal(with_header(w.bytes, header.dump()), code);
    INFO(why);
    CHECK(contains(why, part));
  };
  CHECK(verify(with_header(w.bytes, json::parse(header_text(w.bytes)).dump())));  // signed again, it is whole
  // A zero byte ends the text for the parser: what is behind it must not pass unread, signed or not.
  CHECK(contains(refusal(with_header(w.bytes, header_text(w.bytes) + std::string(1, '\0') + "}")), "found a zero byte"));
  const auto field = [&](const char* name, const json& value, const std::string& part,
                         ba::errc code = ba::errc::bad_format) {
    refused([&](json& h) { h["__metadata__"][name] = value; }, part, code);
  };
  field("format", "pt", "format: expected blockattn-block, found pt");
  field("format_version", "2", "format_version: expected 1, found 2", ba::errc::unsupported);
  field("layout_version", "9", "layout_version: expected", ba::errc::unsupported);
  field("element", "i16", "element: expected f32, bf16 or i8");
  field("element", "bf16", "bytes of data, found");
  for (const char* name : {"layers", "kv_heads", "head_dim", "tokens"}) {
    for (const json& value : {json("0"), json("-1"), json(""), json("1e3"), json(" 2"), json("18446744073709551616"),
                              json("99999999999"), json(2), json(nullptr), json::array({"2"})})
      field(name, value, std::string(name) + ": expected 1 to");
    refused([&](json& h) { h["__metadata__"].erase(name); }, std::string(name) + ": expected 1 to");
  }
  // As large as each may be on its own.
  refused(
      [](json& h) {
        h["__metadata__"]["layers"] = "4096";
        h["__metadata__"]["kv_heads"] = "65536";
        h["__metadata__"]["head_dim"] = "256";
      },
      "expected more data for 5 tokens");
  field("tokens", std::to_string(w.block->payload_bytes()), "expected more data");
  field("tokens", "17", "expected more data");
  // The same panels and tensors: the padding of the ids tells.
  field("tokens", "6", "tensor tokens: expected 6 ids and then padding, found -1 at 5");
  field("tokens", "4", "tensor tokens: expected 4 ids and then padding, found ");
  field("layers", "1", "bytes of data, found");
  field("head_dim", "7", "bytes of data, found");
  refused([](json& h) { h["__metadata__"]["layers"] = "1", h["__metadata__"]["kv_heads"] = "2"; },
          "expected 3 tensors, found 5");
  refused([](json& h) { h["layers.0.keys"]["data_offsets"][0] = 64; }, "tensor layers.0.keys");
  refused([](json& h) { h["layers.1.values"]["data_offsets"][1] = std::uint64_t{1} << 62; }, "tensor layers.1.values");
  refused([](json& h) { h["layers.0.keys"]["dtype"] = "F16"; }, "tensor layers.0.keys");
  refused([](json& h) { h["tokens"]["shape"] = json::array(); }, "tensor tokens");
  refused([](json& h) { h["tokens"] = 5; }, "tensor tokens");
  refused([](json& h) { h["more"] = h["tokens"]; }, "expected 5 tensors, found 6");
  refused([](json& h) { h.erase("tokens"); }, "expected 5 tensors, found 4");
  field("xxh3_layers", "00", "xxh3_layers: expected one checksum for each layer");
  field("xxh3_layers", std::string(32, '0'), "layer 0: the bytes are damaged");
  field("xxh3_tokens", std::string(16, '0'), "tensor tokens: the bytes are damaged");
  refused([](json& h) { h["__metadata__"] = json::array({h["__metadata__"]}); }, "__metadata__");

  // Headers that are no object, or no JSON, but signed.
  const std::string signature = std::string(ba::detail::header_field) + std::string(16, '0') + "\"";
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  const std::string texts[] = {"[{" + signature + "}]",
                               "{" + signature + "}",
                               "{" + signature,
                               "\xFF\xFE" + signature,
                               "{\"__metadata__\":{" + signature + "}} more",
                               std::string(200000, '[') + signature,
                               "{\"a\":" + deep + "," + signature + "}"};
  for (const std::string& text : texts)
    CHECK(contains(refusal(with_header(w.bytes, text)), "expected a JSON object with __metadata__"));
}

// A header in the writer's own letters is compared as text: what is refused as JSON must not pass as text.
TEST_CASE("block_file: headers that are nearly the writer's own") {
  const written w;
  const std::string own = header_text(w.bytes);
  const auto replaced = [&](const std::string& what, const std::string& with) {
    std::string text = own;
    const std::size_t at = text.find(what);
    REQUIRE(at != text.npos);
    return with_header(w.bytes, text.replace(at, what.size(), with));
  };
  CHECK(verify(with_header(w.bytes, own)));
  CHECK(verify(replaced("},\"layers.0.keys\":{", "} ,\n\"layers.0.keys\": {")));  // spaced in another way
  CHECK(verify(with_header(w.bytes, own + "\n\t ")));
  for (const char* more : {"]", "}", "x", " x", ",", "\"", "{}"})
    CHECK(contains(refusal(with_header(w.bytes, own + more)), "expected a JSON object"));
  for (const char* end : {"", "]", "x", "\""})
    CHECK(contains(refusal(with_header(w.bytes, own.substr(0, own.size() - 1) + end)), "expected a JSON object"));
  CHECK(contains(refusal(replaced("\"layers.1.keys\"", "\"layers.1.kexs\"")), "tensor layers.1.keys"));
  CHECK(contains(refusal(replaced("\"data_offsets\":[0,", "\"data_offsets\":[64,")), "tensor layers.0.keys"));
  CHECK(contains(refusal(replaced("{\"format\"", "{\"a\":\"},\"layers.0.keys\":{\",\"format\"")),
                 "expected a JSON object"));
  // Said twice, the last counts, wherever it stands.
  const std::string other = "},\"__metadata__\":{\"format\":\"pt\"}}";
  CHECK(contains(refusal(with_header(w.bytes, own.substr(0, own.size() - 2) + other)), "format: expected"));
}

TEST_CASE("block_file: foreign files and false lengths") {
  const written w;
  const std::string foreign = "{\"weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  CHECK(contains(refusal(with_header(w.bytes, foreign)), "without xxh3_header"));
  CHECK(contains(refusal({}), "expected a header, found 0 bytes"));
  CHECK(contains(refusal(file_bytes(7)), "expected a header, found 7 bytes"));
  CHECK(contains(refusal(file_bytes(4096)), "padded to 64, found 0"));
  for (const std::uint64_t length :
       {std::uint64_t{0}, std::uint64_t{1}, (std::uint64_t{2} << 30) - 8, std::uint64_t{1} << 40, (std::uint64_t{1} << 40) - 8, ~std::uint64_t{0},
        ~std::uint64_t{0} - 7, ~std::uint64_t{0} - 8, std::uint64_t{w.bytes.size()},
        std::uint64_t{w.bytes.size() - 7}}) {
    file_bytes bytes = w.bytes;
    std::memcpy(bytes.data(), &length, 8);
    INFO(length);
    CHECK(contains(refusal(bytes), "expected a header of at most"));
  }
  // The length of the whole file: the header would swallow the data.
  file_bytes bytes = w.bytes;
  const std::uint64_t length = bytes.size() - 8;
  std::memcpy(bytes.data(), &length, 8);
  CHECK(contains(refusal(bytes), "the header is damaged"));
  CHECK(ba::verify_block_file(w.folder.path()).error().code == ba::errc::io);
}
