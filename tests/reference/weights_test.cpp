// SPDX-License-Identifier: MIT
// Reading weights as doubles: the element types, and refusals that name the tensor.
#include "blockattn/reference/weights.hpp"

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "../support/catch.hpp"
#include "../support/data.hpp"
#include "../support/random_model.hpp"
#include "blockattn/reference/transformer.hpp"

namespace ba = blockattn;
namespace ref = blockattn::reference;
using blockattn_test::random_model;
using blockattn_test::small_config;

TEST_CASE("weights that do not fit are refused by name", "[reference][weights]") {
  const auto config = small_config();
  const random_model weights(config);
  auto other = config;
  other.ffn = 41;
  CHECK(ref::transformer::from(weights.source(), other).error().message ==
        "tensor model.layers.0.mlp.gate_proj.weight: expected 41 x 24, found 40 x 24");
  other = config;
  other.qk_norm = true;
  CHECK(ref::transformer::from(weights.source(), other).error().message ==
        "tensor model.layers.0.self_attn.q_norm.weight is missing");
  other = config;
  other.kv_heads = 3;
  CHECK(ref::transformer::from(weights.source(), other).error().code == ba::errc::invalid_argument);
}

TEST_CASE("the element types of weights", "[reference][weights]") {
  const auto bytes_of = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const float floats[] = {1.5f, -0.1f};
  CHECK(ref::decode(ba::dtype::f32, bytes_of(floats), 2).value() ==
        std::vector<double>{1.5, static_cast<double>(-0.1f)});

  // All 65536 patterns of both 16-bit types, against the library's widening.
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const std::uint8_t raw[] = {static_cast<std::uint8_t>(bits & 255), static_cast<std::uint8_t>(bits >> 8)};
    const double half = ref::decode(ba::dtype::f16, bytes_of(raw), 1).value()[0];
    const double brain = ref::decode(ba::dtype::bf16, bytes_of(raw), 1).value()[0];
    const auto same = [](double a, float b) {
      return std::isnan(a) ? std::isnan(b) : a == static_cast<double>(b) && std::signbit(a) == std::signbit(b);
    };
    if (!same(half, ba::widen(ba::f16{static_cast<std::uint16_t>(bits)}))) FAIL_CHECK("f16 " << bits);
    if (!same(brain, ba::widen(ba::bf16{static_cast<std::uint16_t>(bits)}))) FAIL_CHECK("bf16 " << bits);
  }

  std::vector<std::uint8_t> q8(68, 0);  // two groups: scales 0.5 and -2
  q8[0] = 0x00, q8[1] = 0x38, q8[2] = 127, q8[33] = 0x80;
  q8[34] = 0x00, q8[35] = 0xc0, q8[36] = 3;
  const auto decoded = ref::decode(ba::dtype::q8_0, bytes_of(q8), 64).value();
  CHECK(decoded[0] == 63.5);
  CHECK(decoded[31] == -64.0);
  CHECK(decoded[32] == -6.0);
  CHECK(decoded[33] == 0.0);
  CHECK(ref::decode(ba::dtype::i32, bytes_of(q8), 1).error().code == ba::errc::unsupported);
}

TEST_CASE("the quantised types decode to the floats that gguf-py decodes them to", "[reference][weights]") {
  BLOCKATTN_REQUIRE_DATA(folder);
  for (const auto& [name, type] : {std::pair{"Q4_0", ba::dtype::q4_0}, {"Q4_1", ba::dtype::q4_1},
                                   {"Q5_0", ba::dtype::q5_0}, {"Q5_1", ba::dtype::q5_1}, {"Q8_0", ba::dtype::q8_0},
                                   {"Q4_K", ba::dtype::q4_k}, {"Q5_K", ba::dtype::q5_k}, {"Q6_K", ba::dtype::q6_k}}) {
    INFO(name);
    const auto bytes = blockattn_test::read_text(folder / "golden/quants" / (std::string(name) + ".bytes"));
    const auto expected = blockattn_test::read_floats(folder / "golden/quants" / (std::string(name) + ".f32"));
    REQUIRE(bytes.size() == 16 * ba::block_bytes(type));
    REQUIRE(expected.size() == 16 * ba::block_elements(type));
    const auto decoded = ref::decode(type, std::as_bytes(std::span(bytes)), expected.size()).value();
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (static_cast<float>(decoded[i]) != expected[i]) FAIL_CHECK(i << ": " << decoded[i] << ", " << expected[i]);
  }
}
