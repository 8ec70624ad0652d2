// SPDX-License-Identifier: MIT
// int8 keys and values in their panels: where each code lies, how it is rounded, padding, appends, what is not finite.
#include "blockattn/kernel/pack.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "../support/catch.hpp"
#include "blockattn/core/memory.hpp"

using namespace blockattn;

namespace {

struct layer {
  kv_shape shape;
  std::size_t room;
  aligned_buffer<> bytes;
  layer(std::uint32_t kv_heads, std::uint32_t head_dim, std::size_t tokens, int fill)
      : shape{1, kv_heads, head_dim, dtype::i8}, room(tokens), bytes(shape.layer_bytes(tokens)) {
    std::memset(bytes.data(), fill, bytes.size());
  }
  [[nodiscard]] int key(std::size_t h, std::size_t t, std::size_t i) const {
    return static_cast<std::int8_t>(bytes.data()[shape.key_offset(h, room) + shape.key_index(t, i)]);
  }
  [[nodiscard]] int value(std::size_t h, std::size_t t, std::size_t i) const {
    return static_cast<std::int8_t>(bytes.data()[shape.value_offset(h, room) + shape.value_index(t, i)]);
  }
  [[nodiscard]] float scale(std::size_t offset, std::size_t t) const {
    float x;
    std::memcpy(&x, bytes.data() + offset + t * sizeof x, sizeof x);
    return x;
  }
};

std::vector<float> random_rows(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw;
  std::vector<float> out(n);
  for (float& x : out) x = draw(random) * static_cast<float>(1 + random() % 7);
  return out;
}

}  // namespace

TEST_CASE("bytes of int8 panels", "[pack][int8]") {
  // Per token and head: codes of keys to 4 dims and of values to 16, and two floats.
  const kv_shape shape{2, 8, 64, dtype::i8};
  CHECK(shape.payload_bytes(16) / 16 == 2 * 8 * (64 + 64 + 8));
  const kv_shape odd{1, 3, 6, dtype::i8};
  CHECK(odd.layer_bytes(17) == 3 * 32 * (8 + 16 + 8));
  for (const std::uint32_t d : {2u, 6u, 64u, 80u, 130u, 256u}) {
    const kv_shape s{1, 3, d, dtype::i8};
    for (const std::size_t m : {1u, 16u, 33u}) {
      CHECK(s.layer_bytes(m) % 64 == 0);
      for (std::size_t h = 0; h < 3; ++h) {
        CHECK(s.key_offset(h, m) % 64 == 0);
        CHECK(s.value_offset(h, m) % 64 == 0);
        CHECK(s.key_scale_offset(h, m) % 64 == 0);
        CHECK(s.value_scale_offset(h, m) % 64 == 0);
      }
      CHECK(s.value_scale_offset(3, m) == s.layer_bytes(m));
    }
  }
}

TEST_CASE("a code is the nearest, its scale a 127th of the row's largest", "[pack][int8]") {
  for (const std::uint32_t d : {2u, 6u, 16u, 50u, 64u, 130u, 256u}) {
    constexpr std::size_t heads = 3, tokens = 37;
    layer to(heads, d, tokens, 0x55);
    const std::size_t row = heads * d;
    const auto k = random_rows(tokens * row, d), v = random_rows(tokens * row, d + 1);
    store_kv(to.shape, k.data(), v.data(), row, to.bytes.data(), to.room, 0, tokens);
    zero_kv_padding(to.shape, to.bytes.data(), to.room, tokens);
    for (std::size_t h = 0; h < heads; ++h) {
      for (std::size_t t = 0; t < 48; ++t) {
        const float ks = to.scale(to.shape.key_scale_offset(h, to.room), t);
        const float vs = to.scale(to.shape.value_scale_offset(h, to.room), t);
        if (t >= tokens) {
          REQUIRE(ks == 0.0f);
          REQUIRE(vs == 0.0f);
        }
        float top = 0;
        for (std::size_t i = 0; i < round_up(d, std::size_t{16}); ++i) {
          const bool is_padding = t >= tokens || i >= d;
          if (is_padding) {
            if (i < round_up(d, std::size_t{4})) REQUIRE(to.key(h, t, i) == 0);
            REQUIRE(to.value(h, t, i) == 0);
            continue;
          }
          const double x = k[t * row + h * d + i], y = v[t * row + h * d + i];
          top = std::max(top, std::abs(k[t * row + h * d + i]));
          // Half a scale, and the rounding of the product that finds the code.
          REQUIRE(std::abs(to.key(h, t, i) * double{ks} - x) <= 0.5001 * ks);
          REQUIRE(std::abs(to.value(h, t, i) * double{vs} - y) <= 0.5001 * vs);
          REQUIRE(std::abs(to.key(h, t, i)) <= 127);
        }
        if (t < tokens) REQUIRE(ks == top / 127.0f);
      }
    }
  }
}

TEST_CASE("ties go to even codes", "[pack][int8]") {
  const float row[16] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 3.0f};
  std::int8_t codes[16];
  CHECK(quantize_row(row, 16, codes) == 1.0f);
  const int expected[] = {127, 0, 2, 2, 0, -2, -2, 126, -126, 3};
  for (std::size_t i = 0; i < 10; ++i) CHECK(codes[i] == expected[i]);
}

TEST_CASE("appending token by token, at any slot of a lane, gives the bytes of one call", "[pack][int8]") {
  constexpr std::size_t heads = 2, d = 20, tokens = 45, row = heads * d;
  const auto k = random_rows(tokens * row, 5), v = random_rows(tokens * row, 6);
  layer whole(heads, d, 64, 0), parts(heads, d, 64, 0);
  store_kv(whole.shape, k.data(), v.data(), row, whole.bytes.data(), 64, 3, tokens);
  for (std::size_t t = 0, n = 1; t < tokens; t += n, n = n % 5 + 1) {
    n = std::min(n, tokens - t);
    store_kv(parts.shape, k.data() + t * row, v.data() + t * row, row, parts.bytes.data(), 64, 3 + t, n);
  }
  CHECK(std::memcmp(whole.bytes.data(), parts.bytes.data(), whole.bytes.size()) == 0);
}

TEST_CASE("rows of zeros, of tiny and of huge numbers, and what is not finite", "[pack][int8]") {
  std::int8_t codes[16];
  std::vector<float> row(16, 0.0f);
  CHECK(quantize_row(row.data(), 16, codes) == 0.0f);
  row[3] = 1e-40f;
  CHECK(quantize_row(row.data(), 16, codes) == 0.0f);
  CHECK(codes[3] == 0);
  row[3] = -3e38f;
  row[4] = 1.5e38f;
  CHECK(quantize_row(row.data(), 16, codes) == 3e38f / 127.0f);
  CHECK(codes[3] == -127);
  CHECK((codes[4] == 63 || codes[4] == 64));
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    row[5] = bad;
    const float scale = quantize_row(row.data(), 16, codes);
    CHECK(scale != scale);
    for (const std::int8_t c : codes) CHECK(c == 0);
  }
}
