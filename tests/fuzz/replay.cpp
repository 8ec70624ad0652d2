// SPDX-License-Identifier: MIT
// Replays a corpus without libFuzzer: every file of the folders given, every truncation of the small ones, and copies
// with single bytes changed. The same inputs in every run.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using bytes = std::vector<std::uint8_t>;

std::size_t ran = 0;

void run(const bytes& input) {
  // A heap block of exactly the input's size, so that the address sanitizer sees a read past its end.
  const bytes exact(input.begin(), input.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
  ++ran;
}

void run_damaged(const bytes& input) {
  constexpr std::size_t few = 4096;
  // All prefixes of a small file; of a large one, all prefixes of its head and some of the rest.
  for (std::size_t n = 0; n < std::min(input.size(), few); ++n)
    run(bytes(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(n)));
  for (std::size_t n = few; n < input.size(); n += input.size() / 64 + 1)
    run(bytes(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(n)));

  std::uint64_t state = 0x9e3779b97f4a7c15u;
  const auto next = [&state] {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
  };
  // Headers decide most: half of the changes fall into the first bytes.
  for (int i = 0; i < 2000 && !input.empty(); ++i) {
    bytes copy = input;
    const std::size_t range = i % 2 == 0 ? std::min<std::size_t>(copy.size(), 512) : copy.size();
    for (std::uint64_t changes = 1 + next() % 4; changes > 0; --changes) {
      constexpr std::uint8_t extremes[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
      const std::size_t at = next() % range;
      copy[at] = next() % 2 == 0 ? extremes[next() % 5] : static_cast<std::uint8_t>(next());
    }
    run(copy);
  }
}

}  // namespace

int main(int argc, char** argv) {
  run({});
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      std::fprintf(stderr, "no corpus folder %s\n", argv[i]);
      return 1;
    }
    for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
      if (entry.is_regular_file()) files.push_back(entry.path());
  }
  if (files.empty()) {
    std::fprintf(stderr, "the corpus is empty: nothing was tested\n");
    return 1;
  }
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    const bytes input{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    run(input);
    run_damaged(input);
  }
  std::printf("%zu inputs from %zu files\n", ran, files.size());
  return 0;
}
