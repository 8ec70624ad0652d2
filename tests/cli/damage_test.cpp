// SPDX-License-Identifier: MIT
// Damaged model files through the program: inspect, generate and logits end with 1 and a one-line reason, or work.
// The readers' own tests try every byte; here it is the way from a file to an exit code.
#include "../io/llama2c_files.hpp"
#include "program.hpp"
#include "tiny_model.hpp"

using namespace blockattn_test;

namespace {

std::vector<arguments> commands(const std::string& model) {
  return {{"inspect", model, "--json", "--threads", "1"},
          {"generate", "--model", model, "--ids", "3,4,5", "--max-tokens", "3", "--json", "--threads", "1"},
          {"logits", "--model", model, "--ids", "3,4,5", "--blocks", "2,1", "--json", "--threads", "1"}};
}

void all_refuse(const std::string& model, std::size_t which) {
  const auto calls = commands(model);
  // Which command reads a file changes little: one of the three for each, in turn.
  check_refused(calls[which % calls.size()], 1);
}

// A run that may work or be refused; anything else is a crash, a hang or half an answer.
void works_or_refuses(const arguments& call) {
  const finished f = run(call);
  INFO(shown(call) << "\nstandard error: " << f.err.substr(0, 2000));
  if (f.code == 0) {
    CHECK(json::parse(f.out, nullptr, false).is_object());
    return;
  }
  CHECK(f.code == 1);
  CHECK(f.out.empty());
  CHECK(f.err.find('\n') == f.err.size() - 1);
}

byte_vector cut(const byte_vector& bytes, std::size_t n) {
  return {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)};
}

}  // namespace

TEST_CASE("cli: a truncated GGUF file is refused") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  gguf_writer w = small_gguf();
  const byte_vector whole = w.build();
  for (const arguments& call : commands(folder.file("whole.gguf", whole))) CHECK(run(call).code == 0);
  // Dense where the head is, then through the data up to the last byte.
  std::vector<std::size_t> lengths{0, 1, 3, 4, 8, 16, 23, 24, whole.size() - 1, whole.size() - 4, w.head_end()};
  for (std::size_t n = 25; n < w.head_end(); n += w.head_end() / 40 + 1) lengths.push_back(n);
  for (std::size_t n = w.head_end() + 1; n < whole.size(); n += whole.size() / 20 + 1) lengths.push_back(n);
  CHECK(lengths.size() > 60);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    INFO("cut to " << lengths[i] << " of " << whole.size());
    all_refuse(folder.file("cut.gguf", cut(whole, lengths[i])), i);
  }
}

TEST_CASE("cli: a truncated llama2.c file is refused") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  for (const int version : {0, 1}) {
    const byte_vector whole = llama2c_file({.version = version});
    for (const arguments& call : commands(folder.file("whole.bin", whole))) CHECK(run(call).code == 0);
    std::vector<std::size_t> lengths{0, 1, 27, 28, 29, 255, 256, 257, whole.size() - 1, whole.size() - 4};
    for (std::size_t n = 30; n < whole.size(); n += whole.size() / 24 + 1) lengths.push_back(n);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      INFO("version " << version << " cut to " << lengths[i] << " of " << whole.size());
      all_refuse(folder.file("cut.bin", cut(whole, lengths[i])), i);
    }
  }
}

TEST_CASE("cli: huge counts, offsets, types and dims in a GGUF file are refused") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  struct damage {
    std::string field;
    std::size_t skip;
    std::uint64_t value;
    int bytes;
  };
  constexpr std::uint64_t most = ~std::uint64_t{0};
  const std::string q = "blk.0.attn_q.weight";
  const damage cases[] = {
      {"version", 0, 9, 4},
      {"tensor count", 0, most, 8},
      {"tensor count", 0, std::uint64_t{1} << 40, 8},
      {"key count", 0, most, 8},
      {"key count", 0, std::uint64_t{1} << 40, 8},
      {"general.architecture: name", 0, most, 8},
      {"general.architecture: type", 0, 99, 4},
      {"general.architecture", 0, std::uint64_t{1} << 62, 8},
      {"llama.context_length: type", 0, 9, 4},
      {"llama.embedding_length", 0, 0, 4},
      {"llama.embedding_length", 0, 0xFFFFFFFF, 4},
      {"llama.embedding_length", 0, 1u << 23, 4},
      {"llama.block_count", 0, 0, 4},
      {"llama.block_count", 0, 3, 4},
      {"llama.block_count", 0, 0x7FFFFFFF, 4},
      {"llama.feed_forward_length", 0, 0xFFFFFFF0, 4},
      {"llama.feed_forward_length", 0, 13, 4},
      {"llama.attention.head_count", 0, 0, 4},
      {"llama.attention.head_count", 0, 3, 4},
      {"llama.attention.head_count", 0, 65536, 4},
      {"llama.attention.head_count_kv", 0, 7, 4},
      {"llama.attention.layer_norm_rms_epsilon", 0, 0x7FC00000, 4},  // not a number
      {"llama.attention.layer_norm_rms_epsilon", 0, 0xBF800000, 4},  // -1
      {q + ": rank", 0, most, 4},
      {q + ": dims", 0, most, 8},
      {q + ": dims", 0, std::uint64_t{1} << 32, 8},
      {q + ": dims", 8, std::uint64_t{1} << 61, 8},
      {q + ": format", 0, 12, 4},
      {q + ": format", 0, 200, 4},
      {q + ": offset", 0, most - 31, 8},
      {q + ": offset", 0, std::uint64_t{1} << 40, 8},
      {"token_embd.weight: dims", 8, std::uint64_t{1} << 33, 8},
  };
  gguf_writer w = small_gguf();
  const byte_vector whole = w.build();
  for (const damage& d : cases) {
    byte_vector bytes = whole;
    if (d.bytes == 4)
      poke(bytes, w.at(d.field) + d.skip, static_cast<std::uint32_t>(d.value));
    else
      poke(bytes, w.at(d.field) + d.skip, d.value);
    INFO(d.field << " = " << d.value);
    const std::string file = folder.file("damaged.gguf", bytes);
    for (const arguments& call : commands(file)) check_refused(call, 1);
  }
}

TEST_CASE("cli: a damaged head of a llama2.c file is refused") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  std::size_t which = 0;
  for (const int version : {0, 1}) {
    const byte_vector whole = llama2c_file({.version = version});
    const std::size_t first = version == 0 ? 0 : 8;
    for (std::size_t field = 0; field < 7; ++field) {
      for (const std::uint32_t value : {0u, 0x7FFFFFFFu, 0x80000000u, 0xFFFFFFFFu, 1u << 23, 9u}) {
        byte_vector bytes = whole;
        poke(bytes, first + 4 * field, value);
        INFO("version " << version << ", field " << field << " = " << value);
        // Without tables of angles, version 1 keeps its size whatever the context length says.
        const std::string file = folder.file("damaged.bin", bytes);
        if (version == 1 && field == 6)
          works_or_refuses(commands(file)[which++ % 3]);
        else
          all_refuse(file, which++);
      }
    }
  }
}

TEST_CASE("cli: changed bytes never crash") {
  BLOCKATTN_REQUIRE_CLI();
  const temporary_folder folder;
  random_numbers random(20);
  gguf_writer w = small_gguf();
  const byte_vector whole[] = {w.build(), llama2c_file({.version = 0}), llama2c_file({.version = 1})};
  for (std::size_t i = 0; i < 60; ++i) {
    byte_vector bytes = whole[i % 3];
    // Heads decide most: two thirds of the changes fall there, the others become weights, perhaps NaN.
    const std::size_t range = i % 2 == 0 ? bytes.size() : (i % 3 == 0 ? w.head_end() : std::size_t{40});
    for (std::size_t changes = 1 + random.below(4); changes > 0; --changes)
      bytes[random.below(range)] = static_cast<std::byte>(random.below(256));
    INFO("change " << i);
    works_or_refuses(commands(folder.file(i % 3 == 0 ? "changed.gguf" : "changed.bin", bytes))[random.below(3)]);
  }
}
