// SPDX-License-Identifier: MIT
// What reading a vocabulary may take: a stated multiple of its file, also where the file was made to take more.
#include <blockattn/text/hf_tokenizer.hpp>
#include <blockattn/text/tiktoken.hpp>

#include "../support/catch.hpp"
#include "../support/strings.hpp"

#if defined(__GLIBC__)
#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

using blockattn_test::repeated;

namespace {

std::atomic<std::size_t> live{0}, peak{0};

void* counted(std::size_t bytes) {
  void* p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) return p;
  const std::size_t now = live.fetch_add(malloc_usable_size(p)) + malloc_usable_size(p);
  std::size_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
  return p;
}
void uncounted(void* p) noexcept {
  if (p != nullptr) live.fetch_sub(malloc_usable_size(p));
  std::free(p);
}

// The most that `work` held at once, beyond what there was before.
template <class Work>
std::size_t peak_of(const Work& work) {
  const std::size_t before = live.load();
  peak = before;
  work();
  return peak.load() - before;
}

}  // namespace

// Inlined, gcc takes the malloc and free in them for a mismatch with new and delete.
#define BLOCKATTN_TEST_APART __attribute__((noinline))

BLOCKATTN_TEST_APART void* operator new(std::size_t bytes) {
  void* p = counted(bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
BLOCKATTN_TEST_APART void* operator new[](std::size_t bytes) {
  void* p = counted(bytes);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
BLOCKATTN_TEST_APART void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return counted(bytes); }
BLOCKATTN_TEST_APART void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes);
}
BLOCKATTN_TEST_APART void operator delete(void* p) noexcept { uncounted(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p) noexcept { uncounted(p); }
BLOCKATTN_TEST_APART void operator delete(void* p, std::size_t) noexcept { uncounted(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p, std::size_t) noexcept { uncounted(p); }
BLOCKATTN_TEST_APART void operator delete(void* p, const std::nothrow_t&) noexcept { uncounted(p); }
BLOCKATTN_TEST_APART void operator delete[](void* p, const std::nothrow_t&) noexcept { uncounted(p); }

TEST_CASE("reading a tokenizer takes at most 100 times its file and 1 MiB", "[text][law]") {
  constexpr std::size_t size = 200'000;
  std::string vocab, sparse;
  for (int i = 0; vocab.size() < size; ++i)
    vocab += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":" + std::to_string(i);
  for (int i = 0; sparse.size() < size / 4; ++i)
    sparse += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":" + std::to_string(2 * i + 1000);
  const auto document = [](const std::string& pieces, const std::string& merges) {
    return "{\"model\":{\"type\":\"BPE\",\"vocab\":{" + pieces + "},\"merges\":[" + merges +
           "]},\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":null}";
  };
  std::string merges;
  for (int i = 1; merges.size() < size / 2; ++i)
    merges += std::string(i == 1 ? "" : ",") + "\"" + std::to_string(i % 10) + " " + std::to_string(i % 7) + "\"";
  struct {
    const char* what;
    std::string text;
  } const cases[] = {{"a vocabulary", document(vocab, "")},
                     {"ids with holes", document(sparse, "")},
                     {"merges", document(vocab, merges)},
                     {"the highest id a file may have", document("\"a\":1026", "")},
                     {"too high an id", document("\"a\":16000000", "")},
                     {"empty arrays", "[" + repeated("[],", size) + "[]]"},
                     {"empty objects", "[" + repeated("{},", size) + "{}]"},
                     {"numbers", "[" + repeated("1,", size) + "1]"},
                     {"a deep document", repeated("[", size)},
                     {"no JSON", repeated("x", size)}};
  for (const auto& c : cases) {
    const std::size_t most = peak_of([&] { (void)blockattn::read_hf_tokenizer({c.text, {}, {}}); });
    INFO(c.what << ": " << most << " bytes for " << c.text.size());
    CHECK(most <= 100 * c.text.size() + (std::size_t{1} << 20));
  }
}

TEST_CASE("reading tiktoken ranks takes at most 200 times their file and 1 MiB", "[text][law]") {
  std::string file, deep;
  const auto line = [](const std::string& base64, int rank) { return base64 + " " + std::to_string(rank) + "\n"; };
  const char* digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0; i < 4096 * 4; ++i)
    file += line({digits[i >> 12 & 63], digits[i >> 6 & 63], digits[i & 63], 'A'}, i);
  // Every cut of every piece is two pieces: the most merges a file can have.
  for (int i = 0; i < 85; ++i) deep += line(repeated("AAAA", static_cast<std::size_t>(4 * i + 4)), i);
  for (const std::string& text : {file, deep, line("QQ==", 1026)}) {
    const std::size_t most = peak_of([&] { (void)blockattn::read_tiktoken_tokenizer(text); });
    INFO(most << " bytes for " << text.size());
    CHECK(most <= 200 * text.size() + (std::size_t{1} << 20));
  }
}
#endif
