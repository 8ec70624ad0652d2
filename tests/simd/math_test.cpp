// SPDX-License-Identifier: MIT
// The exponential's stated values and bound, and what keeps lanes.
#include "blockattn/simd/math.hpp"

#include <cmath>

#include "../support/catch.hpp"

namespace ba = blockattn;

namespace {

float exp_of(float x) {
  alignas(64) float v[16];
  ba::store(v, ba::exp(ba::broadcast(x)));
  return v[0];
}

}  // namespace

TEST_CASE("exp is 1 at 0, 0 below the smallest normal float, and within its bound between", "[simd]") {
  CHECK(exp_of(0.0f) == 1.0f);
  CHECK(exp_of(-88.0f) == 0.0f);
  CHECK(exp_of(-1e30f) == 0.0f);
  double worst = 0;
  for (int i = 0; i <= 400000; ++i) {
    const float x = -87.3f + 175.0f * static_cast<float>(i) / 400000.0f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exp_of(x)) / exact - 1));
  }
  INFO("largest relative error " << worst);
  CHECK(worst < 3e-7);
}

TEST_CASE("keep_lanes keeps exactly the lanes of its range, for any bounds", "[simd]") {
  alignas(64) float in[16], out[16];
  for (int i = 0; i < 16; ++i) in[i] = static_cast<float>(i + 1);
  for (int first = -3; first <= 19; ++first)
    for (int last = -3; last <= 19; ++last) {
      ba::store(out, ba::keep_lanes(ba::load(in), -7.0f, first, last));
      for (int i = 0; i < 16; ++i) CHECK(out[i] == (i >= first && i < last ? in[i] : -7.0f));
    }
}

TEST_CASE("bf16 stores round as the scalar does, and loads widen exactly", "[simd]") {
  alignas(64) float in[16];
  ba::bf16 out[16];
  std::uint32_t bits = 1;
  for (int round = 0; round < 20000; ++round) {
    for (float& x : in) {
      bits = bits * 1664525u + 1013904223u;
      // Normal numbers: hardware conversions flush denormals.
      x = std::bit_cast<float>((bits & 0x807fffffu) | ((bits % 200u + 20u) << 23));
    }
    ba::store(out, ba::load(in));
    bool same = true;
    for (int i = 0; i < 16; ++i) same = same && out[i] == ba::to_bf16(in[i]);
    CHECK(same);
    alignas(64) float back[16];
    ba::store(back, ba::load(out));
    for (int i = 0; i < 16; ++i) same = same && back[i] == ba::widen(out[i]);
    CHECK(same);
  }
}

TEST_CASE("reductions", "[simd]") {
  alignas(64) float in[16];
  for (int i = 0; i < 16; ++i) in[i] = static_cast<float>((i * 7) % 16) - 4.0f;
  CHECK(ba::reduce_max(ba::load(in)) == 11.0f);
  CHECK(ba::reduce_add(ba::load(in)) == 56.0f);
}

TEST_CASE("the power of two for weights that are rounded to bf16 keeps its bound, and is exact at its ends", "[simd]") {
  const auto at = [](float x) {
    alignas(64) float out[16];
    ba::store(out, ba::exp2_for_bf16(ba::broadcast(x)));
    return out[15];
  };
  double worst = 0;
  for (int i = 0; i <= 126 * 512; ++i) {
    const float x = -static_cast<float>(i) / 512.0f;
    worst = std::max(worst, std::abs(static_cast<double>(at(x)) / std::exp2(static_cast<double>(x)) - 1));
  }
  INFO("relative error " << worst);
  CHECK(worst < 1.1e-4);
  CHECK(at(0.0f) == 1.0f);
  CHECK(at(-127.0f) == 0.0f);
  CHECK(at(-1e30f) == 0.0f);
  CHECK(at(-126.0f) == 0x1p-126f);
}

#if defined(__FMA__) || defined(__aarch64__)
TEST_CASE("the power of two has the bits of its definition, whichever instructions make it", "[simd]") {
  std::size_t other = 0;
  for (int i = 0; i <= 126 * 4096; ++i) {
    const float x = -static_cast<float>(i) / 4096.0f, n = std::nearbyint(x), r = x - n;
    const float p = std::fma(std::fma(std::fma(5.5009131e-2f, r, 2.4221146e-1f), r, 6.9328296e-1f), r, 1.0f);
    alignas(64) float out[16];
    ba::store(out, ba::exp2_for_bf16(ba::broadcast(x)));
    other += out[3] == std::ldexp(p, static_cast<int>(n)) ? 0u : 1u;
  }
  CHECK(other == 0);
}
#endif
