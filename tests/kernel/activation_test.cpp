// SPDX-License-Identifier: MIT
// The gates of the feed-forward layer against their definitions in double, at every length of the tail.
#include <blockattn/kernel/activation.hpp>

#include <cmath>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"

namespace ba = blockattn;

namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}

}  // namespace

TEST_CASE("gates of the feed-forward layer", "[activation]") {
  blockattn_test::random_numbers random(1);
  std::vector<float> gate(1000), up(1000), y(1000);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    gate[i] = static_cast<float>(random.symmetric(i % 3 == 0 ? 20.0 : 3.0));
    up[i] = static_cast<float>(random.symmetric(2.0));
  }
  const auto check = [&](auto kernel, double (*f)(double)) {
    kernel(gate.data(), up.data(), gate.size(), y.data());
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double exact = f(static_cast<double>(gate[i])) * static_cast<double>(up[i]);
      // Relative to the gate's argument: where tanh is near -1, the exact value is a small difference.
      const double size = std::abs(static_cast<double>(gate[i]) * static_cast<double>(up[i]));
      INFO(gate[i]);
      CHECK(std::abs(static_cast<double>(y[i]) - exact) <= 4e-7 * size);
    }
    // The same bits at any offset and length, in place too.
    for (std::size_t n = 1; n < 40; ++n) {
      std::vector<float> part(gate.begin() + 7, gate.begin() + 7 + static_cast<std::ptrdiff_t>(n));
      kernel(part.data(), up.data() + 7, n, part.data());
      CHECK(std::memcmp(part.data(), y.data() + 7, n * sizeof(float)) == 0);
    }
  };
  SECTION("SwiGLU") { check([](auto... a) { ba::swiglu(a...); }, silu); }
  SECTION("GeGLU") {
    check([](auto... a) { ba::geglu(a...); }, gelu_tanh);
    const float extremes[] = {0.0f, 40.0f, -40.0f, 1e30f, -1e30f, 1e-30f};
    const float ones[] = {1, 1, 1, 1, 1, 1};
    float out[6];
    ba::geglu(extremes, ones, 6, out);
    CHECK(out[0] == 0);
    CHECK(out[1] == 40);
    CHECK(std::abs(out[2]) < 1e-30f);
    CHECK(out[3] == 1e30f);
    CHECK(std::abs(out[4]) < 1e-7f);
    CHECK(out[5] == 0.5e-30f);
  }
}
