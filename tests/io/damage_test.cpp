// SPDX-License-Identifier: MIT
// Damaged and hostile model files: a typed error that says what is wrong; no crash, and no allocation that a false
// number in the file could choose.
#include <blockattn/io/gguf_weights.hpp>
#include <blockattn/io/llama2c.hpp>
#include <limits>
#include <variant>

#include "../support/byte_reader.hpp"
#include "../support/gguf_writer.hpp"
#include "../support/random_model.hpp"
#include "../support/watched_new.hpp"
#include "llama2c_files.hpp"

namespace ba = blockattn;
using blockattn_test::byte_vector;
using blockattn_test::gguf_writer;
using blockattn_test::poke;
using blockattn_test::reader_of;

namespace {

constexpr std::uint64_t all_ones = ~std::uint64_t{0};

// Opens both ways, reads everything there is, and checks what holds for any bytes.
template <class Weights>
bool survives(const byte_vector& bytes) {
  blockattn_test::largest_allocation = 0;
  const auto direct = Weights::from_memory(bytes);
  const auto called = Weights::from_callback(bytes.size(), reader_of(bytes));
  // Twice the file for parts that double, a few words for each of its bytes at most in lists, and slack.
  CHECK(blockattn_test::largest_allocation.load() <= 16 * bytes.size() + 200'000);
  CHECK(direct.has_value() == called.has_value());
  if (!direct || !called) {
    if (!direct && !called) {
      CHECK(direct.error().code == called.error().code);
      const auto text = [](const ba::failure& e) { return e.message.substr(e.message.find(':')); };
      CHECK((text(direct.error()) == text(called.error()) && direct.error().message.size() < 1000 &&
             direct.error().message.find('\n') == std::string::npos));
    }
    return false;
  }
  bool same = ba::validate(direct->config()).has_value() && direct->config() == called->config();
  std::size_t sum = 0;
  for (const std::string_view name : direct->names()) {
    const ba::tensor_info info = direct->find(name).value();
    const auto a = direct->load(name).value();
    const auto b = called->load(name).value();
    same = same && a.bytes().size() == info.bytes && b.bytes().size() == info.bytes &&
           info.bytes == info.rows * info.cols / ba::block_elements(info.type) * ba::block_bytes(info.type) &&
           std::memcmp(a.bytes().data(), b.bytes().data(), info.bytes) == 0;
    sum += info.bytes;
  }
  CHECK(same);
  CHECK(sum <= bytes.size());  // no byte is two tensors'
  return true;
}

template <class Weights>
ba::failure error_of(const byte_vector& bytes) {
  CHECK_FALSE(survives<Weights>(bytes));
  const auto w = Weights::from_memory(bytes);
  REQUIRE_FALSE(w.has_value());
  return w.error();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("damage: every truncation of a GGUF file is an error") {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    gguf_writer w = blockattn_test::small_gguf(architecture);
    w.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a"}).list<float>("scores", 6, {0, 1, 2, 3});
    const byte_vector whole = w.build();
    CHECK(survives<ba::gguf_weights>(whole));
    for (std::size_t n = 0; n < whole.size(); ++n) {
      INFO(architecture << " cut to " << n << " of " << whole.size());
      const byte_vector cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
      const ba::failure e = error_of<ba::gguf_weights>(cut);
      CHECK((e.code == ba::errc::bad_format && contains(e.message, "expected") && contains(e.message, "found")));
    }
  }
}

TEST_CASE("damage: every truncation of a llama2.c file is an error, and so is a longer file") {
  for (const int version : {0, 1}) {
    for (const bool tied : {true, false}) {
      byte_vector whole = blockattn_test::llama2c_file({.version = version, .tied = tied});
      CHECK(survives<ba::llama2c_weights>(whole));
      for (std::size_t n = 0; n < whole.size(); ++n) {
        INFO("version " << version << " cut to " << n << " of " << whole.size());
        const byte_vector cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
        const ba::failure e = error_of<ba::llama2c_weights>(cut);
        CHECK((e.code == ba::errc::bad_format && contains(e.message, "expected") && contains(e.message, "found")));
      }
      whole.push_back(std::byte{0});
      CHECK(contains(error_of<ba::llama2c_weights>(whole).message, "expected a file of"));
    }
  }
}

TEST_CASE("damage: single fields of a GGUF file") {
  struct damage {
    std::string field;
    std::size_t skip;  // bytes behind the beginning of the field
    std::variant<std::uint32_t, std::uint64_t> value;
    ba::errc code;
    std::string says;
  };
  using u = std::uint32_t;
  using ul = std::uint64_t;
  const std::string q = "blk.0.attn_q.weight";
  const damage cases[] = {
      {"version", 0, u{1}, ba::errc::unsupported, "header: expected version 2 or 3, found 1"},
      {"version", 0, u{4}, ba::errc::unsupported, "header: expected version 2 or 3, found 4"},
      {"version", 0, u{3} << 24, ba::errc::unsupported, "header: expected a little-endian file"},
      {"tensor count", 0, all_ones, ba::errc::bad_format, "tensors in the"},
      {"tensor count", 0, ul{100000}, ba::errc::bad_format, "found a count of 100000"},
      {"tensor count", 0, ul{21}, ba::errc::bad_format, "tensor 20: expected"},
      {"key count", 0, all_ones, ba::errc::bad_format, "found a count of 18446744073709551615"},
      {"key count", 0, ul{1} << 40, ba::errc::bad_format, "header: expected at most"},
      {"general.architecture: name", 0, all_ones, ba::errc::bad_format, "key 0: expected a string of at most"},
      {"general.architecture: name", 0, ul{0}, ba::errc::bad_format, "key 0: expected a name of 1 to 65535 bytes"},
      {"general.architecture: name", 8, u{0x0a0a0a0a}, ba::errc::bad_format, "key 0: expected a name of printable"},
      {"general.architecture: type", 0, u{13}, ba::errc::bad_format, "expected a value type of 0 to 12, found 13"},
      {"general.architecture: type", 0, u{0xffffffff}, ba::errc::bad_format, "key general.architecture: expected a"},
      {"general.architecture", 0, all_ones, ba::errc::bad_format, "key general.architecture: expected a string"},
      {"general.architecture", 0, ul{1} << 63, ba::errc::bad_format, "found a length of 9223372036854775808"},
      {"llama.block_count: type", 0, u{9}, ba::errc::bad_format, "found a length of"},
      {"list", 0, u{9}, ba::errc::unsupported, "key list: expected a list of numbers or strings, found a list of"},
      {"list", 0, u{99}, ba::errc::bad_format, "key list: expected a value type"},
      {"list", 4, all_ones, ba::errc::bad_format, "values of type i32, found a count of 18446744073709551615"},
      {"list", 4, ul{1} << 62, ba::errc::bad_format, "key list: expected at most"},
      {"texts", 4, all_ones, ba::errc::bad_format, "values of type string, found a count of"},
      {"texts", 4, ul{1} << 61, ba::errc::bad_format, "key texts: expected at most"},
      {"texts", 12, all_ones, ba::errc::bad_format, "key texts: expected a string of at most"},
      {"flag", 0, u{2}, ba::errc::bad_format, "key flag: expected a bool of 0 or 1, found 2"},
      {"general.alignment", 0, u{0}, ba::errc::bad_format, "key general.alignment: expected a power of two, found 0"},
      {"general.alignment", 0, u{33}, ba::errc::bad_format, "key general.alignment: expected a power of two, found 33"},
      {"general.alignment", 0, u{1} << 31, ba::errc::bad_format, "expected a power of two, found 2147483648"},
      {"general.alignment", 0, u{1} << 20, ba::errc::bad_format, "found 0 bytes of data in all"},
      {"general.alignment", 0, u{64}, ba::errc::bad_format, "expected an offset that is a multiple of 64, found"},
      {"general.alignment: type", 0, u{6}, ba::errc::bad_format, "key general.alignment: expected a power of two"},
      {q + ": name", 0, ul{256}, ba::errc::bad_format, "tensor 2: expected a name of 1 to 255 bytes"},
      {q + ": name", 0, all_ones, ba::errc::bad_format, "tensor 2: expected a string of at most"},
      {q + ": name", 8 + 15, u{0x746867}, ba::errc::bad_format, "expected a name of printable"},
      {q + ": rank", 0, u{0}, ba::errc::bad_format, "tensor " + q + ": expected 1 to 4 dims, found 0"},
      {q + ": rank", 0, u{5}, ba::errc::bad_format, "expected 1 to 4 dims, found 5"},
      {q + ": rank", 0, all_ones >> 32, ba::errc::bad_format, "expected 1 to 4 dims"},
      {q + ": dims", 0, ul{0}, ba::errc::bad_format, "found dim 0 = 0"},
      {q + ": dims", 8, ul{0}, ba::errc::bad_format, "found dim 1 = 0"},
      {q + ": dims", 8, ul{1} << 61, ba::errc::bad_format, "found dim 1 = 2305843009213693952"},
      {q + ": dims", 0, ul{1} << 59, ba::errc::bad_format, "after a product of 576460752303423488"},
      {q + ": dims", 0, (ul{1} << 32) + 1, ba::errc::bad_format, "bytes of data in all"},
      {q + ": dims", 8, ul{1} << 40, ba::errc::bad_format, "bytes of data in all"},
      {q + ": dims", 8, ul{9}, ba::errc::bad_format, "found them shared with tensor " + q},
      {q + ": format", 0, u{8}, ba::errc::bad_format, "expected rows of a multiple of 32 elements for Q8_0, found 8"},
      {q + ": format", 0, u{12}, ba::errc::bad_format, "expected rows of a multiple of 256 elements for Q4_K"},
      {q + ": format", 0, u{24}, ba::errc::unsupported, "Q5_K or Q6_K, found I8"},
      {q + ": format", 0, u{77}, ba::errc::unsupported, "Q5_K or Q6_K, found type 77"},
      {q + ": offset", 0, ul{8}, ba::errc::bad_format, "expected an offset that is a multiple of 32, found 8"},
      {q + ": offset", 0, ul{0}, ba::errc::bad_format, "expected bytes of its own, found them shared with tensor"},
      {q + ": offset", 0, all_ones - 31, ba::errc::bad_format, "tensor " + q + ": expected 256 bytes at offset"},
      {q + ": offset", 0, ul{1} << 40, ba::errc::bad_format, "bytes of data in all"},
  };
  gguf_writer w = blockattn_test::small_gguf();
  w.list<std::int32_t>("list", 5, {1, 2, 3}).texts("texts", {"one", "two"}).u32("general.alignment", 32);
  w.boolean("flag", true).text("padding", std::string(64, 'x'));
  const byte_vector whole = w.build();
  REQUIRE(survives<ba::gguf_weights>(whole));
  for (const damage& d : cases) {
    byte_vector bytes = whole;
    std::visit([&](auto value) { poke(bytes, w.at(d.field) + d.skip, value); }, d.value);
    const ba::failure e = error_of<ba::gguf_weights>(bytes);
    INFO(d.field << ": " << e.message);
    CHECK(e.code == d.code);
    CHECK(contains(e.message, d.says));
  }

  byte_vector bytes = whole;
  bytes[0] = std::byte{'g'};
  CHECK(error_of<ba::gguf_weights>(bytes).message == "memory: header: expected the magic bytes GGUF, found \"gGUF\"");
  // A name that is there twice, as a key and as a tensor.
  bytes = whole;
  poke(bytes, w.at("llama.embedding_length: name"), std::uint64_t{20});
  std::memcpy(bytes.data() + w.at("llama.embedding_length: name") + 8, "llama.context_length", 20);
  CHECK_FALSE(survives<ba::gguf_weights>(bytes));  // the bytes after it no longer fit
  bytes = whole;
  bytes[w.at("blk.1.attn_q.weight: name") + 8 + 4] = std::byte{'0'};
  CHECK(contains(error_of<ba::gguf_weights>(bytes).message, "tensor blk.0.attn_q.weight: expected each tensor once"));
  bytes = whole;
  std::memcpy(bytes.data() + w.at("flag: name") + 8, "list", 4);
  CHECK(contains(error_of<ba::gguf_weights>(bytes).message, "key list: expected each key once, found it twice"));
}

TEST_CASE("damage: single fields of a llama2.c file") {
  struct damage {
    int version;
    std::size_t at;  // of the seven numbers
    std::int32_t value;
    ba::errc code;
    std::string says;
  };
  constexpr std::int32_t least = std::numeric_limits<std::int32_t>::min(),
                         most = std::numeric_limits<std::int32_t>::max();
  std::vector<damage> cases;
  const char* names[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"};
  for (const int version : {0, 1}) {
    for (std::size_t i = 0; i < 7; ++i) {
      for (const std::int32_t value : {0, -1, least, most, 1 << 24, 65536, 4096, 3}) {
        if (i == 6 && version == 1 && value > 0) continue;  // says nothing about the rest of the file
        const std::string name = names[i];
        cases.push_back({version, i, value, ba::errc::bad_format, ""});
        if (value <= 0 && i != 5) cases.back().says = "header: " + name + ": expected";
      }
    }
  }
  for (const damage& d : cases) {
    byte_vector bytes = blockattn_test::llama2c_file({.version = d.version});
    poke(bytes, (d.version == 0 ? 0u : 8u) + 4 * d.at, d.value);
    const ba::failure e = error_of<ba::llama2c_weights>(bytes);
    INFO("version " << d.version << ", " << names[d.at] << " = " << d.value << ": " << e.message);
    CHECK((e.code == d.code || e.code == ba::errc::unsupported));
    CHECK((contains(e.message, "expected") || contains(e.message, "must be")));
    CHECK(contains(e.message, d.says));
  }
  byte_vector bytes = blockattn_test::llama2c_file({.version = 1});
  poke(bytes, 4, std::int32_t{2});
  CHECK(error_of<ba::llama2c_weights>(bytes).code == ba::errc::unsupported);
  poke(bytes, 4, std::int32_t{-7});
  CHECK(contains(error_of<ba::llama2c_weights>(bytes).message, "expected version 1 (float weights), found -7"));
  poke(bytes, 4, std::int32_t{1});
  bytes[36] = std::byte{2};
  CHECK(contains(error_of<ba::llama2c_weights>(bytes).message, "shared_classifier: expected 0 or 1, found 2"));
  bytes = blockattn_test::llama2c_file({.version = 0, .tied = true});
  poke(bytes, 20, std::int32_t{-10});
  CHECK(contains(error_of<ba::llama2c_weights>(bytes).message, "tensor lm_head.weight: expected 320 bytes"));
  bytes = blockattn_test::llama2c_file({.version = 1});
  poke(bytes, 8 + 20, std::int32_t{-10});
  CHECK(contains(error_of<ba::llama2c_weights>(bytes).message, "vocab_size: expected 1 to"));
}

TEST_CASE("damage: random changes") {
  // Some changes are harmless; most must be noticed, or the changes never reached a field.
  blockattn_test::random_numbers random(7);
  std::size_t refused = 0, tried = 0;
  const auto change = [&](byte_vector bytes, std::size_t head, auto run) {
    for (std::size_t changes = 1 + random.below(3); changes > 0; --changes) {
      const std::size_t at = random.below(head);
      const std::byte extremes[] = {std::byte{0}, std::byte{1}, std::byte{0x7f}, std::byte{0x80}, std::byte{0xff}};
      const auto value = random.below(2) == 0 ? extremes[random.below(5)] : static_cast<std::byte>(random.below(256));
      // Wide fields are hit as a whole now and then.
      const std::size_t width = random.below(4) == 0 ? 8 : 1;
      for (std::size_t i = 0; i < width && at + i < head; ++i) bytes[at + i] = value;
    }
    if (!run(bytes)) ++refused;
    ++tried;
  };
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    gguf_writer w = blockattn_test::small_gguf(architecture);
    w.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a"}).list<float>("scores", 6, {0, 1, 2, 3});
    const byte_vector whole = w.build();
    for (int i = 0; i < 2000; ++i) change(whole, w.head_end(), survives<ba::gguf_weights>);
  }
  for (const int version : {0, 1})
    for (int i = 0; i < 2000; ++i)
      change(blockattn_test::llama2c_file({.version = version}), version == 0 ? 28 : 40, survives<ba::llama2c_weights>);
  CHECK(refused > tried / 2);
}

TEST_CASE("damage: a function that claims more bytes than anyone has") {
  gguf_writer w;
  w.text("key", "value");
  byte_vector bytes = w.build();
  poke(bytes, w.at("key"), std::uint64_t{1} << 50);
  const auto read = [&](std::uint64_t offset, std::span<std::byte> out) -> ba::result<void> {
    if (offset + out.size() > (1u << 20)) return ba::fail(ba::errc::io, "past the end");
    std::fill(out.begin(), out.end(), std::byte{0});
    if (offset < bytes.size())
      std::memcpy(out.data(), bytes.data() + offset, std::min<std::size_t>(out.size(), bytes.size() - offset));
    return {};
  };
  blockattn_test::largest_allocation = 0;
  auto file = ba::gguf_file::from_callback(std::uint64_t{1} << 60, read);
  REQUIRE_FALSE(file);
  CHECK(contains(file.error().message, "callback: key key: expected a head of at most"));
  poke(bytes, w.at("key"), std::uint64_t{1} << 29);
  file = ba::gguf_file::from_callback(std::uint64_t{1} << 60, read);
  REQUIRE_FALSE(file);
  CHECK(file.error().code == ba::errc::io);
  CHECK(file.error().message == "callback: key key: past the end");
  CHECK(blockattn_test::largest_allocation.load() <= 4u << 20);
}
