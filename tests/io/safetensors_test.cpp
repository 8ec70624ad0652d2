// SPDX-License-Identifier: MIT
// Safetensors files: what is read, from where, and what is refused by which words.
#include <blockattn/io/safetensors.hpp>
#include <blockattn/io/safetensors_index.hpp>

#include "../support/allocation_watch.hpp"
#include "../support/byte_reader.hpp"
#include "../support/data.hpp"
#include "../support/safetensors_writer.hpp"
#include "../support/temporary_file.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

// Both ways refuse with the same words, and cost no more than a small multiple of the file.
std::string refused(const byte_vector& bytes, ba::errc code = ba::errc::bad_format) {
  largest_allocation = 0;
  const auto file = ba::safetensors_file::from_memory(bytes);
  const auto called = ba::safetensors_file::from_callback(bytes.size(), reader_of(bytes));
  CHECK(largest_allocation.load() <= 16 * bytes.size() + 200'000);
  REQUIRE_FALSE(file.has_value());
  REQUIRE_FALSE(called.has_value());
  CHECK(file.error().code == code);
  CHECK(file.error().message.rfind("memory: ", 0) == 0);
  CHECK(called.error().message == "callback: " + file.error().message.substr(8));
  return file.error().message.substr(8);
}
std::string refused(std::string_view header, std::size_t data = 0, ba::errc code = ba::errc::bad_format) {
  return refused(safetensors_bytes(header, byte_vector(data)), code);
}

}  // namespace

TEST_CASE("safetensors: tensors and metadata, from file, memory and callback") {
  safetensors_writer w;
  w.metadata("format", "pt").metadata("a \"quoted\" key", "\xC3\xA9");
  w.floats("b", {2, 3}, {1, 2, 3, 4, 5, 6});
  w.tensor("a", "BF16", {2}, {std::byte{0x80}, std::byte{0x3f}, std::byte{0}, std::byte{0x40}});
  w.tensor("one", "F64", {}, byte_vector(8, std::byte{1}));
  w.tensor("none", "I64", {0, 7}, {});
  w.tensor("flags", "BOOL", {3}, byte_vector(3));
  const byte_vector bytes = w.build();
  const temporary_file path(bytes);
  std::vector<ba::safetensors_file> all;
  all.push_back(ba::safetensors_file::from_memory(bytes).value());
  all.push_back(ba::safetensors_file::open(path.path()).value());
  all.push_back(ba::safetensors_file::from_callback(bytes.size(), reader_of(bytes)).value());
  for (const auto& file : all) {
    INFO(file.name());
    CHECK(file.metadata().size() == 2);
    CHECK(file.metadata().at("a \"quoted\" key") == "\xC3\xA9");
    std::vector<std::string> names;
    for (const auto& t : file.tensors()) names.push_back(t.name);
    CHECK(names == std::vector<std::string>{"a", "b", "flags", "none", "one"});
    const auto* b = file.find_tensor("b");
    REQUIRE(b != nullptr);
    CHECK(b->format == "F32");
    CHECK(b->shape == std::vector<std::uint64_t>{2, 3});
    const auto data = file.load(*b).value();
    CHECK(std::memcmp(data.bytes().data(), bytes_of({1, 2, 3, 4, 5, 6}).data(), 24) == 0);
    CHECK(file.load(*file.find_tensor("one")).value().bytes().front() == std::byte{1});
    CHECK(file.load(*file.find_tensor("none")).value().bytes().empty());
    CHECK(file.find_tensor("c") == nullptr);
    file.release(*b);
    CHECK(file.load(*b).value().bytes()[4] == data.bytes()[4]);
  }
  CHECK(ba::safetensors_file::from_memory(safetensors_bytes("{}", {})).value().tensors().empty());
  CHECK(ba::safetensors_file::from_memory(safetensors_bytes("{}      ", {})).has_value());  // writers pad with spaces
  const auto none = ba::safetensors_file::open(path.path().string() + ".none");
  REQUIRE_FALSE(none.has_value());
  CHECK(none.error().code == ba::errc::io);
}

TEST_CASE("safetensors: what the format does not have is refused by name") {
  CHECK(refused(byte_vector(7)) == "header: expected a length of 8 bytes, found a file of 7");
  byte_vector bytes;
  put(bytes, ~std::uint64_t{0});
  CHECK(refused(bytes) == "header: expected at most 0 bytes, found a length of 18446744073709551615");
  CHECK(refused(std::string_view("{}\0,", 4)) == "header: expected JSON, found a zero byte at byte 2");
  const std::string tensor = R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  struct bad {
    std::string header;
    std::size_t data;
    std::string message;
  };
  const bad cases[] = {
      {"", 0, "header: expected valid JSON"},
      {"{" + tensor, 8, "header: expected valid JSON"},
      {"{" + tensor + "} x", 8, "header: expected valid JSON"},
      {"[]", 0, "header: expected an object, found a list"},
      {"7", 0, "header: expected an object, found 7"},
      {R"({"x":null})", 0, "header: x: expected an object, found null"},
      {R"({"x":[1]})", 0, "header: x: expected an object, found a list"},
      {R"({"x":{"dtype":"F32","shape":[2]}})", 8, "tensor x: expected dtype, shape and data_offsets, found no data_off"},
      {R"({"x":{}})", 0, "tensor x: expected dtype, shape and data_offsets, found no dtype"},
      {R"({"x":{"dtype":"F32","dtype":"F32"}})", 0, "found dtype again"},
      {R"({"x":{"dtype":"F32","color":"red"}})", 0, "tensor x: expected dtype, shape and data_offsets once each, found col"},
      {R"({"x":{"dtype":4}})", 0, "tensor x: dtype: expected text, found 4"},
      {R"({"x":{"dtype":"F32","shape":2}})", 0, "tensor x: shape: expected a list, found 2"},
      {R"({"x":{"dtype":"F32","shape":[-2]}})", 0, "tensor x: shape: expected integers, not negative, found -2"},
      {R"({"x":{"dtype":"F32","shape":[2.0]}})", 0, "tensor x: shape: expected integers, not negative, found 2.0"},
      {R"({"x":{"dtype":"F32","shape":[[2]]}})", 0, "tensor x: shape: expected integers, not negative, found a list"},
      {R"({"x":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1]}})", 0, "tensor x: expected at most 8 dims"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "tensor x: expected two data_offsets, found 1"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8, "data_offsets: expected two numbers, found 8"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "tensor x: expected data_offsets in order"},
      {"{" + tensor + "}", 7, "tensor x: expected data_offsets in order and within the 7 bytes of data, found 0 to 8"},
      {"{" + tensor + "}", 9, "data: expected 8 bytes in all, found 9"},
      {R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "expected 12 bytes for 3 elements of F32, found 8"},
      {R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8, "at most 2^59 elements"},
      {"{" + tensor + "," + tensor + "}", 8, "tensor x: expected to begin at 8, where the tensor before it ends, found 0"},
      {R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0,
       "tensor e: expected each tensor once, found it twice"},
      {"{" + tensor + R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", 8, "tensor y: expected to begin at 8"},
      {"{" + tensor + R"(,"y":{"dtype":"U8","shape":[4],"data_offsets":[9,13]}})", 13, "tensor y: expected to begin at 8"},
      {R"({"__metadata__":{"a":1}})", 0, "__metadata__: a: expected text, found 1"},
      {R"({"__metadata__":{"a":"b","a":"c"}})", 0, "__metadata__: expected each key once, found a twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "expected __metadata__ once"},
      {"{\"\xff\":{}}", 0, "header: expected valid JSON"},
      {R"({"x)" + std::string("\\u001b") + R"(":{}})", 0, "tensor x?: expected dtype"}};
  for (const bad& b : cases) {
    INFO(b.header);
    const std::string message = refused(b.header, b.data);
    INFO(message);
    CHECK(message.find(b.message) != std::string::npos);
  }
  CHECK(refused(R"({"x":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}})", 8, ba::errc::unsupported) ==
        "tensor x: expected a known dtype, found Q9");
  // Depth and length cost nothing.
  CHECK(refused(std::string(3'000'000, '[')) == "header: expected an object, found a list");
  CHECK(refused("{\"x\":" + std::string(3'000'000, '{')).find("header: expected valid JSON") == 0);
  CHECK(refused(R"({"x":{"shape":)" + std::string(3'000'000, '[')).find("tensor x: shape: expected") != std::string::npos);
  std::string many = "{";
  for (int i = 0; i < 20'000; ++i)
    many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[],"data_offsets":[0,1]})";
  CHECK(refused(many + "}", 1).find("expected to begin at 1") != std::string::npos);
}

TEST_CASE("safetensors: every truncation and every damaged byte of a small file is an error or a file") {
  safetensors_writer w;
  w.metadata("format", "pt").floats("b", {2, 3}, {1, 2, 3, 4, 5, 6}).floats("a", {1}, {7});
  const byte_vector whole = w.build();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const byte_vector cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_FALSE(ba::safetensors_file::from_memory(cut).has_value());
  }
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const int value : {0x00, 0x22, 0x7b, 0xff}) {
      byte_vector damaged = whole;
      damaged[i] = static_cast<std::byte>(value);
      const auto file = ba::safetensors_file::from_memory(damaged);
      if (!file) continue;
      for (const auto& t : file->tensors()) CHECK(file->load(t).value().bytes().size() == t.bytes);
    }
  }
}

TEST_CASE("safetensors index: files and tensors, and what is refused") {
  const auto index = ba::read_safetensors_index(
      R"({"metadata":{"total_size":8,"more":[1,{"a":null}]},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}})");
  REQUIRE(index.has_value());
  CHECK(index->files == std::vector<std::string>{"b.safetensors", "a.safetensors"});
  CHECK(index->tensors.at("y") == 1);
  CHECK(index->tensors.at("z") == 0);
  const std::pair<std::string, const char*> cases[] = {
      {"", "expected valid JSON"},
      {"[]", "expected an object, found a list"},
      {"3", "expected an object, found a number"},
      {"{}", "weight_map: expected the files of a model, found none"},
      {R"({"weight_map":{}})", "weight_map: expected the files of a model, found none"},
      {R"({"weight_map":[]})", "weight_map"},
      {R"({"weight_map":"x"})", "weight_map: expected an object, found text"},
      {R"({"weight_map":{"x":7}})", "tensor x: expected the name of a file, found a number"},
      {R"({"weight_map":{"x":{}}})", "tensor x: expected the name of a file, found an object"},
      {R"({"weight_map":{"x":["a"]}})", "tensor x: expected the name of a file, found a list"},
      {R"({"weight_map":{"x":"a","x":"a"}})", "weight_map: expected each tensor once"},
      {R"({"weight_map":{"x":"a"},"weight_map":{"y":"a"}})", "expected weight_map once, found it twice"},
      {R"({"weight_map":{"x":"../a"}})", "tensor x: expected the name of a file in the same folder, found ../a"},
      {R"({"weight_map":{"x":"/etc/a"}})", "in the same folder"},
      {R"({"weight_map":{"x":"c:\\a"}})", "in the same folder"},
      {R"({"weight_map":{"x":".."}})", "in the same folder"},
      {R"({"weight_map":{"x":""}})", "in the same folder"},
      {R"({"weight_map":{"x":"a\u0000b"}})", "in the same folder"},
      {R"({"weight_map":{"x":"a"}})" + std::string(1, '\0') + "{", "expected JSON, found a zero byte at byte 24"},
      {R"({"metadata":)" + std::string(1'000'000, '['), "expected at most 16 levels of JSON, found more"},
      {R"({"weight_map":{"x":"a"})", "expected valid JSON"}};
  for (const auto& [text, says] : cases) {
    INFO(text.substr(0, 100));
    largest_allocation = 0;
    const auto refusal = ba::read_safetensors_index(text);
    CHECK(largest_allocation.load() <= 16 * text.size() + 100'000);
    REQUIRE_FALSE(refusal.has_value());
    INFO(refusal.error().message);
    CHECK(refusal.error().code == ba::errc::bad_format);
    CHECK(refusal.error().message.find(says) != std::string::npos);
  }
}
