// SPDX-License-Identifier: MIT
/// Which product serves which weights. No SIMD here: a program that compiles kernels once asks it, too.
#pragma once

#include "../simd/isa.hpp"
#include "kernel_set.hpp"

namespace blockattn::inline v0 {
inline namespace BLOCKATTN_ISA {

/// So many rows are bound by reading the weights: whatever multiplies them reads each panel once, from end to end, and asks
/// for what it reads next in time.
inline constexpr std::size_t few_rows = 4;

/// What a product multiplies.
enum class product_kind : std::uint8_t {
  floats,  ///< rows as they are and weights as they decode
  pairs,   ///< bf16 weights and rows rounded to bf16, in vector registers
  tiles,   ///< the same in tile registers; other weights are decoded and rounded to bf16 (kernel/expand_pairs.hpp)
  codes    ///< the codes of the weights and rows rounded to 8-bit codes (kernel/code_rows.hpp)
};

/// What a product with weights of a type multiplies: the same for any number of rows, and throughout a process.
[[nodiscard]] inline product_kind product_of(dtype weights, compute_type compute) noexcept {
  const bool codes = is_quantized(weights);
  if (compute == compute_type::f32 || weights == dtype::f32) return product_kind::floats;
#if BLOCKATTN_HAS_AMX
  if ((weights == dtype::bf16 || compute == compute_type::many_rows) && amx_granted()) return product_kind::tiles;
#endif
  if (codes) return product_kind::codes;
  return weights == dtype::bf16 && has_bf16_dot ? product_kind::pairs : product_kind::floats;
}

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
