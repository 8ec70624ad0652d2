// SPDX-License-Identifier: MIT
/// The arithmetic of matrix products in training, and their factors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace blockattn::inline v0 {

/// What the factors of a product are, of the linear layers, the head and attention. Sums, weights, gradients, moments and
/// everything between products are floats in both.
/// - `f32`: floats, as they lie.
/// - `bf16`: each factor (weights, activations, gradients, softmax weights) is rounded to bf16, to nearest, ties to even, as
///   it is packed for the product; products of two bf16 are exact in float, and sums are float. Numbers below 2^-126 in size
///   may count as zero. Runs on tile registers (simd/amx.hpp), else on products of bf16 pairs (AVX-512 BF16, NEON), else in
///   float arithmetic on the rounded numbers, which gains nothing but the same meaning.
/// Results do not depend on the number of workers in either; the instruction sets sum in different orders.
enum class product_type : std::uint8_t { f32, bf16 };

[[nodiscard]] constexpr std::string_view to_string(product_type t) noexcept { return t == product_type::bf16 ? "bf16" : "f32"; }

/// A factor as it lies: element (i, j) is `data[i * stride + j]`, or `data[j * stride + i]` if transposed.
template <class T>
struct factor {
  const T* data = nullptr;
  std::size_t stride = 0;
  bool transposed = false;
};

}  // namespace blockattn::inline v0
