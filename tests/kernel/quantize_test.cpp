// SPDX-License-Identifier: MIT
#include <blockattn/kernel/quantize.hpp>
#include <cmath>
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

TEST_CASE("decode_row: q8_0 equals the reference decoder to the bit", "[golden]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  const std::string raw = blockattn_test::read_text(folder / "golden/quants/Q8_0.bytes");
  const auto expected = blockattn_test::read_floats(folder / "golden/quants/Q8_0.f32");
  REQUIRE(raw.size() == 16 * 34);
  REQUIRE(expected.size() == 16 * 32);
  CHECK(same_bits(decode(ba::dtype::q8_0, std::vector<char>(raw.begin(), raw.end()), expected.size()), expected));
}
