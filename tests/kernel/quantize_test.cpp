// SPDX-License-Identifier: MIT
#include <blockattn/kernel/quantize.hpp>
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../support/data.hpp"

namespace ba = blockattn;

namespace {

template <class T>
std::vector<float> decode(ba::dtype type, const std::vector<T>& stored, std::size_t n) {
  // One byte off any alignment: rows lie where a file has them.
  std::vector<std::byte> bytes(stored.size() * sizeof(T) + 1);
  if (!stored.empty()) std::memcpy(bytes.data() + 1, stored.data(), stored.size() * sizeof(T));
  std::vector<float> out(n + 1, 42.0f);
  ba::decode_row(type, bytes.data() + 1, n, out.data());
  CHECK(out.back() == 42.0f);  // nothing beyond n
  out.pop_back();
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace

TEST_CASE("decode_row: float types are widened exactly, at any length and address") {
  for (const std::size_t n : {0u, 1u, 7u, 8u, 33u, 100u}) {
    std::vector<float> f32(n), from_f16(n), from_bf16(n);
    std::vector<ba::f16> f16(n);
    std::vector<ba::bf16> bf16(n);
    for (std::size_t i = 0; i < n; ++i) {
      f32[i] = static_cast<float>(i) * 0.37f - 5.0f;
      f16[i] = ba::to_f16(f32[i]);
      bf16[i] = ba::to_bf16(f32[i]);
      from_f16[i] = ba::widen(f16[i]);
      from_bf16[i] = ba::widen(bf16[i]);
    }
    CHECK(same_bits(decode(ba::dtype::f32, f32, n), f32));
    CHECK(same_bits(decode(ba::dtype::f16, f16, n), from_f16));
    CHECK(same_bits(decode(ba::dtype::bf16, bf16, n), from_bf16));
  }
}

TEST_CASE("decode_row: q8_0 is scale times code") {
  std::vector<std::uint8_t> row;
  std::vector<float> expected;
  for (const float scale : {1.0f, -0.5f, 0.0f, 6.103515625e-05f, 1.0f / 1024}) {
    const ba::f16 stored = ba::to_f16(scale);
    row.push_back(static_cast<std::uint8_t>(stored.bits & 0xff));
    row.push_back(static_cast<std::uint8_t>(stored.bits >> 8));
    for (int k = 0; k < 32; ++k) {
      const int code = k == 0 ? -128 : k == 31 ? 127 : 5 * k - 70;
      row.push_back(static_cast<std::uint8_t>(code));
      expected.push_back(scale * static_cast<float>(code));
    }
  }
  CHECK(same_bits(decode(ba::dtype::q8_0, row, expected.size()), expected));
}

namespace {

struct stored_type {
  ba::dtype type;
  const char* file;  // of the reference decoder
};
constexpr stored_type quantized[] = {{ba::dtype::q8_0, "Q8_0"}, {ba::dtype::q4_0, "Q4_0"}, {ba::dtype::q4_1, "Q4_1"},
                                     {ba::dtype::q5_0, "Q5_0"}, {ba::dtype::q5_1, "Q5_1"}, {ba::dtype::q4_k, "Q4_K"},
                                     {ba::dtype::q5_k, "Q5_K"}, {ba::dtype::q6_k, "Q6_K"}};

// One element of one block, in double, by the format's description: where its bits lie, and no more.
double element(ba::dtype type, const std::uint8_t* b, unsigned i) {
  const auto half = [&](unsigned at) {
    return static_cast<double>(ba::widen(ba::f16{static_cast<std::uint16_t>(b[at] | b[at + 1] << 8)}));
  };
  // Bits [first, first + n) of the bytes at `at`, the lowest of a byte first.
  const auto bits = [&](unsigned at, unsigned first, unsigned n) {
    unsigned value = 0;
    for (unsigned k = 0; k < n; ++k) value |= (b[at + (first + k) / 8] >> (first + k) % 8 & 1u) << k;
    return value;
  };
  const unsigned nibble = i % 16 * 8 + i / 16 * 4;  // of a block of 32
  switch (type) {
    case ba::dtype::q8_0: return half(0) * static_cast<std::int8_t>(b[2 + i]);
    case ba::dtype::q4_0: return half(0) * (static_cast<int>(bits(2, nibble, 4)) - 8);
    case ba::dtype::q4_1: return half(0) * bits(4, nibble, 4) + half(2);
    case ba::dtype::q5_0: return half(0) * (static_cast<int>(bits(6, nibble, 4) + 16 * bits(2, i, 1)) - 16);
    case ba::dtype::q5_1: return half(0) * (bits(8, nibble, 4) + 16 * bits(4, i, 1)) + half(2);
    case ba::dtype::q4_k:
    case ba::dtype::q5_k: {
      const unsigned g = i / 32, low = g % 4;
      const unsigned scale = g < 4 ? bits(4, 8 * g, 6) : bits(12, 8 * low, 4) + 16 * bits(4, 8 * low + 6, 2);
      const unsigned least = g < 4 ? bits(8, 8 * g, 6) : bits(12, 8 * low + 4, 4) + 16 * bits(8, 8 * low + 6, 2);
      const bool fifth = type == ba::dtype::q5_k;
      unsigned code = bits(fifth ? 48 : 16, (i / 64 * 32 + i % 32) * 8 + i / 32 % 2 * 4, 4);
      if (fifth) code += 16 * bits(16, i % 32 * 8 + g, 1);
      return half(0) * scale * code - half(2) * least;
    }
    case ba::dtype::q6_k: {
      const unsigned lower = bits(i / 128 * 64, i % 64 * 8 + i % 128 / 64 * 4, 4);
      const unsigned upper = bits(128 + i / 128 * 32, i % 32 * 8 + i % 128 / 32 * 2, 2);
      return half(208) * static_cast<std::int8_t>(b[192 + i / 16]) * (static_cast<int>(lower + 16 * upper) - 32);
    }
    default: return std::nan("");
  }
}

// Where a block's halves lie: the scale, and a minimum if it has one.
std::vector<std::size_t> halves(ba::dtype type) {
  if (type == ba::dtype::q6_k) return {208};
  return ba::has_offsets(type) ? std::vector<std::size_t>{0, 2} : std::vector<std::size_t>{0};
}

// Compares all elements of blocks in a row; NaN equals NaN.
std::size_t differences(ba::dtype type, const std::vector<std::uint8_t>& bytes) {
  const std::size_t elements = ba::block_elements(type), size = ba::block_bytes(type), n = bytes.size() / size * elements;
  const auto out = decode(type, bytes, n);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto expected = static_cast<float>(element(type, bytes.data() + i / elements * size, static_cast<unsigned>(i % elements)));
    wrong += std::isnan(expected) ? !std::isnan(out[i]) : !(out[i] == expected);
  }
  return wrong;
}

}  // namespace

TEST_CASE("decode_row: quantised types equal the reference decoder to the bit", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  for (const stored_type& q : quantized) {
    INFO(q.file);
    const std::string raw = blockattn_test::read_text(folder / "golden/quants" / (q.file + std::string(".bytes")));
    const auto expected = blockattn_test::read_floats(folder / "golden/quants" / (q.file + std::string(".f32")));
    REQUIRE(raw.size() == 16 * ba::block_bytes(q.type));
    REQUIRE(expected.size() == 16 * ba::block_elements(q.type));
    CHECK(same_bits(decode(q.type, std::vector<char>(raw.begin(), raw.end()), expected.size()), expected));
  }
}

TEST_CASE("decode_row: every bit of a quantised block is read where its format has it") {
  std::mt19937 random(5);
  for (const stored_type& q : quantized) {
    INFO(q.file);
    const std::size_t size = ba::block_bytes(q.type);
    // Any bytes are a block: so nearly all have infinite, NaN, huge or subnormal scales among them.
    std::vector<std::uint8_t> blocks(200 * size);
    for (std::uint8_t& b : blocks) b = static_cast<std::uint8_t>(random());
    CHECK(differences(q.type, blocks) == 0);
    // Each single bit set, beside scales of one; then each cleared.
    for (const int filled : {0, 255})
      for (std::size_t bit = 0; bit < 8 * size; ++bit) {
        std::vector<std::uint8_t> block(size, static_cast<std::uint8_t>(filled));
        for (const std::size_t at : halves(q.type)) block[at] = 0x00, block[at + 1] = 0x3c;
        block[bit / 8] = static_cast<std::uint8_t>(block[bit / 8] ^ 1u << bit % 8);
        CHECK(differences(q.type, block) == 0);
      }
  }
}

TEST_CASE("decode_row: extreme scale fields give zeros, infinities and NaNs in their block only") {
  for (const stored_type& q : quantized) {
    INFO(q.file);
    const std::size_t size = ba::block_bytes(q.type), elements = ba::block_elements(q.type);
    for (const unsigned field : {0x0000u, 0x8000u, 0x0001u, 0x7bffu, 0x7c00u, 0xfc00u, 0x7e00u, 0x7c01u}) {
      // Two ordinary blocks with one between them whose halves are all `field`, of the largest or smallest codes.
      for (const std::uint8_t codes : {std::uint8_t{0xff}, std::uint8_t{0}}) {
        std::vector<std::uint8_t> row(3 * size, 0x11);
        std::fill(row.begin() + static_cast<std::ptrdiff_t>(size), row.begin() + static_cast<std::ptrdiff_t>(2 * size), codes);
        for (const std::size_t at : halves(q.type))
          for (std::size_t block = 0; block < 3; ++block) {
            const unsigned half = block == 1 ? field : 0x2c00u;
            row[block * size + at] = static_cast<std::uint8_t>(half & 0xff);
            row[block * size + at + 1] = static_cast<std::uint8_t>(half >> 8);
          }
        CHECK(differences(q.type, row) == 0);
        const auto out = decode(q.type, row, 3 * elements);
        bool finite = true, zero = true;
        for (std::size_t i = 0; i < elements; ++i) {
          finite = finite && std::isfinite(out[i]) && std::isfinite(out[2 * elements + i]);
          zero = zero && out[elements + i] == 0.0f;
        }
        CHECK(finite);
        if ((field & 0x7fffu) == 0) CHECK(zero);
      }
    }
  }
}
