// SPDX-License-Identifier: MIT
// Rows of weights as files store them, of any type, and their panels.
#pragma once

#include <blockattn/core/memory.hpp>
#include <blockattn/kernel/pack.hpp>

#include <cstddef>
#include <cstring>
#include <random>
#include <vector>

namespace blockattn_test {

// Rows of a type from random bytes, which any codes are; `tame`: with halves of ordinary size.
struct stored_rows {
  blockattn::dtype type;
  std::size_t rows, cols, row_bytes;
  std::vector<std::byte> bytes;

  stored_rows(blockattn::dtype t, std::size_t n, std::size_t k, bool tame = true)
      : type(t), rows(n), cols(k), row_bytes(k / blockattn::block_elements(t) * blockattn::block_bytes(t)), bytes(n * row_bytes) {
    std::mt19937 gen(static_cast<unsigned>(n * 31 + k));
    for (std::byte& b : bytes) b = static_cast<std::byte>(gen());
    if (!tame) return;
    const std::size_t size = blockattn::block_bytes(type);
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      const std::size_t first = type == blockattn::dtype::q6_k ? 208 : 0;
      // 0x28 to 0x2b, of either sign: magnitudes from 1/32 to 1/16.
      const auto tame_half = [&](std::size_t i) { bytes[at + i + 1] = static_cast<std::byte>((gen() & 0x83) | 0x28); };
      tame_half(first);
      if (blockattn::is_quantized(type) && blockattn::has_offsets(type)) tame_half(2);
    }
  }
  [[nodiscard]] const std::byte* row(std::size_t i) const { return bytes.data() + i * row_bytes; }
};

// The same, repacked for the kernels as panels of a type.
struct packed_rows {
  blockattn::packed_matrix matrix;
  blockattn::aligned_buffer<> bytes;

  packed_rows(const stored_rows& rows, blockattn::dtype panels) : matrix{nullptr, panels, rows.rows, rows.cols}, bytes(matrix.bytes()) {
    std::memset(bytes.data(), 0xff, bytes.size());
    matrix.data = bytes.data();
    blockattn::inline_executor here;
    blockattn::pack_weights(here, matrix, bytes.data(), 0, rows.type, rows.bytes.data(), rows.rows);
  }
};

}  // namespace blockattn_test
