// SPDX-License-Identifier: MIT
/// Tensors of any weights source as doubles. Written a second time here, from the definitions of the formats, so that
/// the readers' and kernels' decoding has something to be compared with.
#pragma once

#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "../core/result.hpp"
#include "../model/weights.hpp"
#include "matrix.hpp"

namespace blockattn::inline v0::reference {

namespace detail {

inline unsigned little_endian_u16(std::span<const std::byte> at) {
  return std::to_integer<unsigned>(at[0]) | std::to_integer<unsigned>(at[1]) << 8;
}

inline double decode_f32(std::span<const std::byte> at) {
  float x;
  std::memcpy(&x, at.data(), sizeof x);
  return static_cast<double>(x);
}

// sign, `exponent_bits` of exponent, `fraction_bits` of fraction: the definition of an IEEE format of 16 bits.
inline double decode_16(unsigned bits, int exponent_bits, int fraction_bits) {
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>((bits & 0x7fffu) >> fraction_bits);
  const int fraction = static_cast<int>(bits & ((1u << fraction_bits) - 1));
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

inline double decode_f16(std::span<const std::byte> at) { return decode_16(little_endian_u16(at), 5, 10); }
inline double decode_bf16(std::span<const std::byte> at) { return decode_16(little_endian_u16(at), 8, 7); }

}  // namespace detail

/// `count` elements as doubles. Q8_0 is 32 signed bytes behind one half-precision scale. Errors: `unsupported`.
[[nodiscard]] inline result<std::vector<double>> decode(dtype type, std::span<const std::byte> bytes,
                                                        std::size_t count) {
  std::vector<double> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    switch (type) {
      case dtype::f32: out[i] = detail::decode_f32(bytes.subspan(4 * i, 4)); break;
      case dtype::f16: out[i] = detail::decode_f16(bytes.subspan(2 * i, 2)); break;
      case dtype::bf16: out[i] = detail::decode_bf16(bytes.subspan(2 * i, 2)); break;
      case dtype::q8_0: {
        const auto block = bytes.subspan(i / 32 * 34, 34);
        out[i] = detail::decode_f16(block) * std::to_integer<std::int8_t>(block[2 + i % 32]);
        break;
      }
      default: return fail(errc::unsupported, "reference: element type ", to_string(type), " is not a weight type");
    }
  }
  return out;
}

/// A tensor of the source, which must have this shape. Errors: `bad_format` if it is missing, `shape_mismatch`,
/// `unsupported`, and what the source itself reports.
template <weights_source Source>
[[nodiscard]] result<matrix> read_matrix(const Source& source, const std::string& name, std::size_t rows,
                                         std::size_t cols) {
  const auto info = source.find(name);
  if (!info) return fail(errc::bad_format, "tensor ", name, " is missing");
  if (info->rows != rows || info->cols != cols)
    return fail(errc::shape_mismatch, "tensor ", name, ": expected ", rows, " x ", cols, ", found ", info->rows, " x ",
                info->cols);
  const auto raw = source.load(name);
  if (!raw) return raw.error();
  const std::size_t group = block_elements(info->type);
  const std::size_t expected = rows * cols / group * block_bytes(info->type);
  if (cols % group != 0 || raw->bytes().size() != expected)
    return fail(errc::shape_mismatch, "tensor ", name, ": expected ", expected, " bytes, found ", raw->bytes().size());
  auto values = decode(info->type, raw->bytes(), rows * cols);
  if (!values) return values.error();
  matrix out(rows, cols);
  std::memcpy(out.values().data(), values->data(), values->size() * sizeof(double));
  source.release(name);
  return out;
}

/// The same for a vector.
template <weights_source Source>
[[nodiscard]] result<std::vector<double>> read_vector(const Source& source, const std::string& name,
                                                      std::size_t count) {
  const auto row = read_matrix(source, name, 1, count);
  if (!row) return row.error();
  return std::vector<double>(row->values().begin(), row->values().end());
}

}  // namespace blockattn::inline v0::reference
