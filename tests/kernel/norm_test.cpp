// SPDX-License-Identifier: MIT
// RMSNorm, the gate and rotations against double.
#include "blockattn/kernel/norm.hpp"

#include <cmath>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "blockattn/kernel/activation.hpp"
#include "blockattn/kernel/pack.hpp"
#include "blockattn/kernel/rope.hpp"

namespace ba = blockattn;
using blockattn_test::random_numbers;

namespace {

std::vector<float> random_floats(std::size_t n, std::uint64_t seed, double size = 2.0) {
  random_numbers random(seed);
  std::vector<float> out(n);
  for (float& x : out) x = static_cast<float>(random.symmetric(size));
  return out;
}

constexpr double eps = 0x1.0p-24;

}  // namespace

TEST_CASE("rms_norm keeps its bound at every length, also in place", "[norm]") {
  for (std::size_t n = 1; n <= 100; ++n) {
    const auto x = random_floats(n, n), w = random_floats(n, n + 1000);
    std::vector<float> y(n), in_place = x;
    ba::rms_norm(x.data(), n, w.data(), 1e-5f, y.data());
    ba::rms_norm(in_place.data(), n, w.data(), 1e-5f, in_place.data());
    CHECK(y == in_place);
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(v) * static_cast<double>(v);
    const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + static_cast<double>(1e-5f));
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = static_cast<double>(x[i]) * scale * static_cast<double>(w[i]);
      CHECK(std::abs(static_cast<double>(y[i]) - expected) <=
            (static_cast<double>(n) / 16 + 6) * 2 * eps * std::abs(expected) + 1e-40);
    }
  }
}

TEST_CASE("add and swiglu at every length", "[norm]") {
  for (std::size_t n = 0; n <= 70; ++n) {
    const auto x = random_floats(n, n, 20), y = random_floats(n, n + 1);
    auto sum = x;
    ba::add(sum.data(), y.data(), n);
    std::vector<float> gated(n);
    ba::swiglu(x.data(), y.data(), n, gated.data());
    for (std::size_t i = 0; i < n; ++i) {
      CHECK(sum[i] == x[i] + y[i]);
      const double g = static_cast<double>(x[i]), expected = g / (1 + std::exp(-g)) * static_cast<double>(y[i]);
      CHECK(static_cast<double>(gated[i]) == Approx(expected).epsilon(1e-6).margin(1e-12));
    }
  }
}

TEST_CASE("an element of the gate has the same bits at any offset", "[norm]") {
  const auto gate = random_floats(64, 1, 10), up = random_floats(64, 2);
  std::vector<float> whole(64), part(64);
  ba::swiglu(gate.data(), up.data(), 64, whole.data());
  for (std::size_t from = 0; from < 64; ++from) {
    ba::swiglu(gate.data() + from, up.data() + from, 64 - from, part.data());
    CHECK(std::equal(whole.begin() + static_cast<std::ptrdiff_t>(from), whole.end(), part.begin()));
  }
}

TEST_CASE("rotations: group law, inverse, distance, partial, both layouts", "[rope]") {
  for (const std::uint32_t head_dim : {2u, 8u, 16u, 24u, 64u, 80u, 128u, 256u}) {
    for (const auto layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
      for (const std::uint32_t rotary : {head_dim, std::max(2u, head_dim / 4 * 2)}) {
        ba::rope_config config;
        config.rotary_dim = rotary;
        config.layout = layout;
        const auto rope = ba::make_frequencies(config).value();
        std::vector<float> table(2 * rope.pairs());
        const std::size_t heads = 3, width = heads * head_dim;
        const auto original = random_floats(2 * width, head_dim);
        const auto rows = [&](std::vector<float>& x) { return ba::matrix_view<float>(x.data(), 2, width); };
        const auto near = [&](const std::vector<float>& a, const std::vector<float>& b) {
          double most = 0;
          for (std::size_t i = 0; i < a.size(); ++i)
            most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
          return most < 4e-6;
        };
        // R(a) R(b) = R(a + b), also by moving what was rotated; R(-a) R(a) = 1.
        auto twice = original, once = original;
        const std::int64_t at[] = {7, 130000}, sum[] = {7 + 1000, 130000 + 1000}, back[] = {-7 - 1000, -130000 - 1000};
        ba::rotate(rows(twice), heads, at, rope, table);
        ba::move(rows(twice), heads, 1000, rope, table);
        ba::rotate(rows(once), heads, sum, rope, table);
        CHECK(near(twice, once));
        ba::rotate(rows(once), heads, back, rope, table);
        CHECK(near(once, original));
        // Dims beyond rotary_dim do not turn.
        for (std::size_t h = 0; h < heads; ++h)
          for (std::size_t d = rotary; d < head_dim; ++d) CHECK(twice[h * head_dim + d] == original[h * head_dim + d]);
      }
    }
  }
}

TEST_CASE("half-split and interleaved agree after the permutation of dims", "[rope]") {
  ba::rope_config config;
  config.rotary_dim = 48;
  auto half = ba::make_frequencies(config).value();
  config.layout = ba::rope_layout::interleaved;
  const auto neighbours = ba::make_frequencies(config).value();
  const auto x = random_floats(48, 5);
  std::vector<float> a(48), b = x, table(48);
  for (std::size_t m = 0; m < 24; ++m) a[m] = x[2 * m], a[m + 24] = x[2 * m + 1];
  const std::int64_t at[] = {12345};
  ba::rotate(ba::matrix_view<float>(a.data(), 1, 48), 1, at, half, table);
  ba::rotate(ba::matrix_view<float>(b.data(), 1, 48), 1, at, neighbours, table);
  for (std::size_t m = 0; m < 24; ++m) {
    CHECK(a[m] == Approx(b[2 * m]).margin(1e-6));
    CHECK(a[m + 24] == Approx(b[2 * m + 1]).margin(1e-6));
  }
}

TEST_CASE("a turned key panel holds the keys turned", "[rope]") {
  for (const auto type : {ba::dtype::f32, ba::dtype::bf16}) {
    for (const std::uint32_t d : {2u, 6u, 8u, 24u, 64u}) {
      for (const auto layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
        const std::size_t tokens = 21;
        const ba::kv_shape shape{1, 1, d, type};
        ba::rope_config config;
        config.rotary_dim = d;
        config.layout = layout;
        const auto rope = ba::make_frequencies(config).value();
        auto keys = random_floats(tokens * d, d);
        std::vector<std::byte> memory(2 * shape.payload_bytes(tokens) + 64);
        const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
        std::byte* const panel = memory.data() + (ba::round_up(address, 64) - address);
        std::byte* const out = panel + shape.payload_bytes(tokens);
        ba::store_kv(shape, keys.data(), keys.data(), d, panel, tokens, 0, tokens);
        ba::zero_kv_padding(shape, panel, tokens, tokens);
        std::vector<float> table(2 * rope.pairs());
        rope.cos_sin(777, table.data());
        const auto turn = [&](auto element) {
          using T = decltype(element);
          const auto* stored = reinterpret_cast<const T*>(panel);
          auto* turned = reinterpret_cast<T*>(out);
          ba::turn_key_panel(stored, tokens, d, table.data(), rope.pairs(), layout, turned);
          for (std::size_t t = 0; t < tokens; ++t) {
            std::vector<float> key(d);
            for (std::size_t i = 0; i < d; ++i) key[i] = ba::widen(stored[shape.key_index(t, i)]);
            ba::turn_head(key.data(), table.data(), rope.pairs(), layout);
            for (std::size_t i = 0; i < d; ++i) {
              const float expected = ba::widen(ba::element_traits<T>::narrow(key[i]));
              CHECK(ba::widen(turned[shape.key_index(t, i)]) == Approx(expected).epsilon(1e-2).margin(1e-6));
            }
          }
        };
        if (type == ba::dtype::f32) {
          turn(float{});
        } else {
          turn(ba::bf16{});
        }
      }
    }
  }
}
