// SPDX-License-Identifier: MIT
#include <blockattn/cache/checksum.hpp>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "../support/catch.hpp"

namespace ba = blockattn;

// The bytes of long inputs are asked for out of order; what comes out is the hash that every other XXH3 makes.
TEST_CASE("checksum: XXH3-64 of every length around a piece and a chunk, on any boundary") {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(4 * 65536 + 5000);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() & 255u);
  const auto same = [&](std::size_t from, std::size_t size) {
    return ba::detail::xxh3(std::span(bytes).subspan(from, size)) == XXH3_64bits(bytes.data() + from, size);
  };
  for (std::size_t chunks = 0; chunks <= 4; ++chunks)
    for (const int more : {-1025, -1024, -1023, -65, -64, -1, 0, 1, 63, 64, 240, 1023, 1024, 1025, 4321}) {
      const std::int64_t size = static_cast<std::int64_t>(chunks * 65536) + more;
      if (size < 0) continue;
      CAPTURE(size);
      CHECK(same(0, static_cast<std::size_t>(size)));
      CHECK(same(13, static_cast<std::size_t>(size)));
    }
  // One bit anywhere changes it.
  const std::uint64_t whole = ba::detail::xxh3(bytes);
  for (int i = 0; i < 50; ++i) {
    std::byte& at = bytes[random() % bytes.size()];
    at ^= std::byte{4};
    CHECK(ba::detail::xxh3(bytes) != whole);
    at ^= std::byte{4};
  }
}

TEST_CASE("checksum: its text") {
  CHECK(ba::detail::hex64(0x0123456789abcdefu) == "0123456789abcdef");
  std::uint64_t back = 0;
  CHECK((ba::detail::parse_hex64("00000000000000ff", back) && back == 255));
  for (const char* text : {"", "ff", "00000000000000fg", "0x000000000000ff", "000000000000000ff", " 00000000000000f"})
    CHECK_FALSE(ba::detail::parse_hex64(text, back));
}
