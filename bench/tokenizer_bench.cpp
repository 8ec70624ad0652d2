// SPDX-License-Identifier: MIT
// Encoding on one core: MB of text a second, for each vocabulary under BLOCKATTN_TEST_DATA/tokenizers, on plain English
// (the paragraphs of data/passages) and on what strangers may send. Each result is checked first: known cases, and the
// text comes back. Without the data there is nothing to measure, and the program says so.
//
//     BLOCKATTN_TEST_DATA=... tokenizer_bench --benchmark_filter=english --benchmark_repetitions=5
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <nlohmann/json.hpp>

#include <blockattn/io/gguf.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/hf_tokenizer.hpp>
#include <blockattn/text/passages.hpp>

namespace ba = blockattn;
namespace fs = std::filesystem;

namespace {

std::string english(const fs::path& data) {
  const auto bytes = ba::read_file(data / "data/passages/musique-100.json");
  if (!bytes) return {};
  const auto json = nlohmann::json::parse(*bytes, nullptr, false);
  std::string out;
  for (const auto& question : json)
    for (const auto& paragraph : question["paragraphs"]) out += paragraph["paragraph_text"].get<std::string>() + "\n\n";
  return out;
}

std::string repeated(const std::string& part, std::size_t size) {
  std::string out;
  while (out.size() < size) out += part;
  return out;
}

std::string random_bytes(std::size_t size) {
  std::mt19937 random(1);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() & 0xFF);
  return out;
}

ba::result<ba::tokenizer> open(const fs::path& file) {
  if (file.extension() == ".json") return ba::open_hf_tokenizer(file);
  const auto gguf = ba::gguf_file::open(file);
  if (!gguf) return gguf.error();
  return ba::make_tokenizer(*gguf);
}

void run(benchmark::State& state, const ba::tokenizer& words, const std::string& text) {
  const auto expected = words.encode(text);
  if (text.empty() || expected.empty() || (words.lossless() && words.decode(expected) != text)) {
    state.SkipWithError("wrong result");
    return;
  }
  for (auto _ : state) {
    auto ids = words.encode(text);
    benchmark::DoNotOptimize(ids.data());
    if (ids.size() != expected.size()) state.SkipWithError("another result");
  }
  state.counters["MB/s"] = benchmark::Counter(1e-6 * static_cast<double>(text.size()) *
                                                  static_cast<double>(state.iterations()),
                                              benchmark::Counter::kIsRate);
  state.counters["bytes/token"] = static_cast<double>(text.size()) / static_cast<double>(expected.size());
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  const char* folder = std::getenv("BLOCKATTN_TEST_DATA");
  if (folder == nullptr) {
    std::fprintf(stderr, "nothing to measure: BLOCKATTN_TEST_DATA does not name the reference files\n");
    return 1;
  }
  const fs::path data = folder;
  constexpr std::size_t size = std::size_t{1} << 20;
  static const std::vector<std::pair<const char*, std::string>> texts = {
      {"english", english(data)},       {"one_word", repeated("word", size)}, {"spaces", std::string(size, ' ')},
      {"aaaa", std::string(size, 'a')}, {"random", random_bytes(size)},       {"marks", "e" + repeated("\xCC\x81", size)}};
  static std::vector<std::pair<std::string, ba::tokenizer>> all;
  for (const char* name : {"ggml-vocab-llama-spm.gguf", "ggml-vocab-gpt-2.gguf", "ggml-vocab-falcon.gguf",
                           "gpt2_tokenizer.json", "smollm-tokenizer.json"}) {
    auto words = open(data / "tokenizers" / name);
    if (!words) {
      std::fprintf(stderr, "%s\n", words.error().message.c_str());
      return 1;
    }
    all.emplace_back(name, *std::move(words));
  }
  for (const auto& [name, words] : all)
    for (const auto& [what, text] : texts) {
      const ba::tokenizer& w = words;
      const std::string& t = text;
      benchmark::RegisterBenchmark((name + "/" + what).c_str(), [&w, &t](benchmark::State& state) { run(state, w, t); })
          ->Unit(benchmark::kMillisecond);
    }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
