// SPDX-License-Identifier: MIT
// The head of GGUF files: metadata, tensors, the three kinds of source.
#include <blockattn/io/gguf.hpp>
#include <cmath>
#include <limits>

#include "../support/data.hpp"
#include "../support/gguf_writer.hpp"
#include "../support/temporary_file.hpp"

namespace ba = blockattn;
using blockattn_test::byte_vector;
using blockattn_test::gguf_writer;

namespace {

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

gguf_writer every_type() {
  gguf_writer w;
  w.u8("u8", 200).i8("i8", -100).u16("u16", 60000).i16("i16", -30000).u32("u32", 4000000000u).i32("i32", -2000000000);
  w.f32("f32", 0.5f).boolean("yes", true).boolean("no", false).text("text", "two words").text("empty", "");
  w.u64("u64", ~std::uint64_t{0}).i64("i64", std::numeric_limits<std::int64_t>::min()).f64("f64", 0.1);
  w.list<std::int32_t>("ints", 5, {-1, 0, 7}).list<float>("floats", 6, {0.5f, -2.0f, 1e30f});
  w.list<double>("doubles", 12, {0.5, 3.0}).list<double>("fine", 12, {0.1}).list<std::uint8_t>("bools", 7, {1, 0, 1});
  w.list<std::uint64_t>("huge", 10, {1, ~std::uint64_t{0}}).list<std::int32_t>("none", 5, {});
  w.texts("texts", {"", "a", "two words"});
  return w;
}

}  // namespace

TEST_CASE("gguf: metadata of every type") {
  const byte_vector bytes = every_type().build();
  const auto file = ba::gguf_file::from_memory(bytes).value();
  CHECK(file.version() == 3);
  CHECK(file.tensors().empty());
  CHECK(file.keys().size() == 22);
  CHECK(file.keys().front().name == "u8");
  CHECK(file.keys().back().name == "texts");
  CHECK(file.keys().back().type == ba::gguf_type::array);
  CHECK(file.keys().back().element == ba::gguf_type::string);
  CHECK(file.keys().back().count == 3);

  CHECK(file.find_u64("u8") == 200u);
  CHECK(file.find_i64("i8") == -100);
  CHECK(file.find_u64("u16") == 60000u);
  CHECK(file.find_i64("i16") == -30000);
  CHECK(file.find_u64("u32") == 4000000000u);
  CHECK(file.find_i64("i32") == -2000000000);
  CHECK(file.find_f64("f32") == 0.5);
  CHECK(file.find_bool("yes") == true);
  CHECK(file.find_bool("no") == false);
  CHECK(file.find_string("text") == "two words");
  CHECK(file.find_string("empty") == "");
  CHECK(file.find_u64("u64") == ~std::uint64_t{0});
  CHECK(file.find_i64("i64") == std::numeric_limits<std::int64_t>::min());
  CHECK(file.find_f64("f64") == 0.1);
  CHECK(file.find_ints("ints") == std::vector<std::int64_t>{-1, 0, 7});
  CHECK(file.find_floats("floats") == std::vector<float>{0.5f, -2.0f, 1e30f});
  CHECK(file.find_strings("texts") == std::vector<std::string_view>{"", "a", "two words"});
  CHECK(file.find_ints("none") == std::vector<std::int64_t>{});
  CHECK(file.find_ints("bools") == std::vector<std::int64_t>{1, 0, 1});
  CHECK(file.has("none"));
  CHECK_FALSE(file.has("non"));
  CHECK_FALSE(file.has(""));
}

TEST_CASE("gguf: numbers convert where that is exact, and only there") {
  gguf_writer w;
  w.f32("seven", 7.0f).f32("half", 0.5f).f32("minus", -1.0f).f64("big", 0x1p64).f64("below", 0x1p63).f32("far", 1e30f);
  w.u64("odd", (std::uint64_t{1} << 53) + 1).u64("max", ~std::uint64_t{0}).i32("negative", -3);
  w.f32("nan", std::nanf("")).f64("infinity", HUGE_VAL).boolean("yes", true).text("text", "7");
  w.list<double>("doubles", 12, {0.5, 3.0}).list<double>("fine", 12, {0.5, 0.1}).list<std::int32_t>("ints", 5, {1, 2});
  w.list<double>("wide", 12, {1e300}).list<std::uint64_t>("huge", 10, {~std::uint64_t{0}});
  w.list<float>("whole", 6, {1.0f, -2.0f}).list<float>("parts", 6, {1.0f, 0.5f}).texts("texts", {"1"});
  const byte_vector bytes = w.build();
  const auto file = ba::gguf_file::from_memory(bytes).value();

  CHECK(file.find_u64("seven") == 7u);
  CHECK(file.find_i64("minus") == -1);
  CHECK(file.find_f64("negative") == -3.0);
  CHECK(file.find_u64("below") == std::uint64_t{1} << 63);
  for (const char* key :
       {"half", "minus", "negative", "big", "nan", "infinity", "far", "yes", "text", "ints", "absent"}) {
    INFO(key);
    CHECK_FALSE(file.find_u64(key));
  }
  CHECK_FALSE(file.find_i64("below"));
  CHECK_FALSE(file.find_i64("max"));
  CHECK_FALSE(file.find_f64("odd"));
  CHECK_FALSE(file.find_f64("max"));
  CHECK_FALSE(file.find_f64("yes"));
  CHECK(std::isnan(*file.find_f64("nan")));
  CHECK(file.find_f64("infinity") == HUGE_VAL);
  CHECK_FALSE(file.find_bool("seven"));
  CHECK_FALSE(file.find_string("seven"));
  CHECK_FALSE(file.find_string("texts"));
  CHECK_FALSE(file.find_strings("text"));
  CHECK_FALSE(file.find_strings("ints"));

  CHECK(file.find_floats("doubles") == std::vector<float>{0.5f, 3.0f});
  CHECK(file.find_floats("ints") == std::vector<float>{1.0f, 2.0f});
  CHECK(file.find_ints("whole") == std::vector<std::int64_t>{1, -2});
  for (const char* key : {"fine", "wide", "huge", "texts", "seven", "absent"}) {
    INFO(key);
    CHECK_FALSE(file.find_floats(key));
  }
  for (const char* key : {"parts", "huge", "fine", "texts", "seven", "absent"}) {
    INFO(key);
    CHECK_FALSE(file.find_ints(key));
  }
}

TEST_CASE("gguf: the same file from memory, from a file and through a function") {
  gguf_writer w = blockattn_test::small_gguf();
  w.texts("tokenizer.ggml.tokens",
          std::vector<std::string>(3000, "a piece of some length, to fill more than one part"));
  w.version = GENERATE(2u, 3u);
  w.alignment = GENERATE(std::uint64_t{32}, std::uint64_t{1}, std::uint64_t{4096});
  if (w.alignment != 32) w.u32("general.alignment", static_cast<std::uint32_t>(w.alignment));
  const byte_vector bytes = w.build();
  const blockattn_test::temporary_file path(bytes);
  const auto function = [&](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    REQUIRE(offset + out.size() <= bytes.size());
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };

  std::vector<ba::gguf_file> files;
  files.push_back(ba::gguf_file::from_memory(bytes).value());
  files.push_back(ba::gguf_file::open(path.path()).value());
  files.push_back(ba::gguf_file::from_callback(bytes.size(), function).value());
  for (const auto& file : files) {
    INFO(file.name());
    CHECK(file.version() == w.version);
    CHECK(file.alignment() == w.alignment);
    CHECK(file.find_u64("llama.block_count") == 2u);
    CHECK(file.find_strings("tokenizer.ggml.tokens")->size() == 3000);
    CHECK(file.find_strings("tokenizer.ggml.tokens")->back().substr(0, 7) == "a piece");
    REQUIRE(file.tensors().size() == 20);
    for (const auto& tensor : file.tensors()) {
      CHECK(file.find_tensor(tensor.name) == &tensor);
      CHECK(tensor.offset == w.at(tensor.name));
      CHECK(tensor.offset % w.alignment == 0);
      const auto data = file.load(tensor).value();
      REQUIRE(data.bytes().size() == tensor.bytes);
      CHECK(std::memcmp(data.bytes().data(), bytes.data() + tensor.offset, data.bytes().size()) == 0);
      file.release(tensor);
      // What was released can still be read.
      CHECK(text_of(file.load(tensor).value().bytes()) == text_of(data.bytes()));
    }
    const auto* down = file.find_tensor("blk.1.ffn_down.weight");
    REQUIRE(down != nullptr);
    CHECK(down->columns() == 12);
    CHECK(down->rows() == 8);
    CHECK(file.find_tensor("blk.1.ffn_down") == nullptr);
  }
}

TEST_CASE("gguf: strings outlive a move of the file") {
  const byte_vector bytes = gguf_writer().text("key", "value").build();
  const auto function = [&](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
  auto first = ba::gguf_file::from_callback(bytes.size(), function).value();
  const std::string_view value = *first.find_string("key");
  const ba::gguf_file second = std::move(first);
  CHECK(value.data() == second.find_string("key")->data());
  CHECK(value == "value");
}

TEST_CASE("gguf: a function is asked for the head and for what is loaded, no more") {
  gguf_writer w = blockattn_test::small_gguf();
  w.tensor("bulk", {1u << 22}, 24, byte_vector(1u << 22, std::byte{7}));
  const byte_vector bytes = w.build();
  std::uint64_t read = 0;
  const auto function = [&](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    read += out.size();
    return {};
  };
  const auto file = ba::gguf_file::from_callback(bytes.size(), function).value();
  CHECK(read <= 65536);
  read = 0;
  CHECK(file.load(*file.find_tensor("output_norm.weight")).value().bytes().size() == 32);
  CHECK(read == 32);
}

TEST_CASE("gguf: a function that fails is passed on, with what was being read") {
  const byte_vector bytes = blockattn_test::small_gguf().build();
  std::size_t allowed = 0;
  const auto function = [&](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    if (allowed-- == 0) return ba::fail(ba::errc::cancelled, "the network went away");
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
  const auto none = ba::gguf_file::from_callback(bytes.size(), function);
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ba::errc::cancelled);
  CHECK(none.error().message == "callback: header: the network went away");
  allowed = 1;
  const auto file = ba::gguf_file::from_callback(bytes.size(), function).value();
  allowed = 0;
  const auto data = file.load(*file.find_tensor("output_norm.weight"));
  REQUIRE_FALSE(data);
  CHECK(data.error().code == ba::errc::cancelled);
  CHECK(data.error().message == "callback: tensor output_norm.weight: the network went away");
}

TEST_CASE("gguf: formats") {
  CHECK(ba::gguf_format_name(8) == "Q8_0");
  CHECK(ba::gguf_format_name(12) == "Q4_K");
  CHECK(ba::gguf_format_name(57) == "type 57");
  CHECK(ba::gguf_weight_type(0) == ba::dtype::f32);
  CHECK(ba::gguf_weight_type(1) == ba::dtype::f16);
  CHECK(ba::gguf_weight_type(8) == ba::dtype::q8_0);
  CHECK(ba::gguf_weight_type(30) == ba::dtype::bf16);
  CHECK(ba::gguf_weight_type(12) == ba::dtype::q4_k);
  CHECK_FALSE(ba::gguf_weight_type(10));  // Q2_K
  // Both tables must agree on the sizes of what kernels read.
  for (const ba::gguf_format& f : ba::gguf_formats) {
    const auto type = ba::gguf_weight_type(f.id);
    if (!type) continue;
    CHECK(f.elements == ba::block_elements(*type));
    CHECK(f.bytes == ba::block_bytes(*type));
  }
  // A format of the future: the file opens, its tensor cannot be loaded.
  const byte_vector bytes = gguf_writer().text("a", "b").tensor("t", {32}, 57, byte_vector(64)).build();
  const auto file = ba::gguf_file::from_memory(bytes).value();
  const auto data = file.load(file.tensors()[0]);
  REQUIRE_FALSE(data);
  CHECK(data.error().code == ba::errc::unsupported);
  CHECK(data.error().message == "memory: tensor t: expected a known format, found type 57");
}

TEST_CASE("gguf: block sizes of formats are those of the reference files", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto base = folder / "golden/quants";
  std::size_t checked = 0;
  for (const ba::gguf_format& f : ba::gguf_formats) {
    const auto raw = base / (std::string(f.name) + ".bytes");
    if (!std::filesystem::exists(raw)) continue;
    INFO(f.name);
    CHECK(std::filesystem::file_size(raw) == 16 * f.bytes);
    CHECK(std::filesystem::file_size(base / (std::string(f.name) + ".f32")) == 16 * 4 * f.elements);
    ++checked;
  }
  CHECK(checked == 8);
}

TEST_CASE("gguf: vocabulary files without tensors", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const auto file = ba::gguf_file::open(folder / "tokenizers/ggml-vocab-llama-spm.gguf").value();
  CHECK(file.tensors().empty());
  CHECK(file.find_strings("tokenizer.ggml.tokens")->size() == 32000);
  CHECK(file.find_floats("tokenizer.ggml.scores")->size() == 32000);
  CHECK(file.find_ints("tokenizer.ggml.token_type")->size() == 32000);
  CHECK(file.find_bool("tokenizer.ggml.add_bos_token") == true);
  CHECK(file.find_string("tokenizer.ggml.model") == "llama");
}
