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

// Eight bits of a block, as a number.
inline unsigned byte_at(std::span<const std::byte> block, std::size_t i) { return std::to_integer<unsigned>(block[i]); }

// Element i of a block of 32 codes behind a half-precision scale and, in the types called _1, a minimum: four bits each,
// the first half of the block in the lower nibbles, and for the types called 5 a fifth bit in a word of 32 before them.
inline double decode_32(dtype type, std::span<const std::byte> block, std::size_t i) {
  const bool five = type == dtype::q5_0 || type == dtype::q5_1;
  const bool minimum = type == dtype::q4_1 || type == dtype::q5_1;
  const std::size_t bits = minimum ? 4 : 2, nibbles = bits + (five ? 4 : 0);
  const unsigned pair = byte_at(block, nibbles + i % 16);
  double code = i < 16 ? pair % 16 : pair / 16;
  if (five && (byte_at(block, bits + i / 8) >> (i % 8)) % 2 == 1) code += 16;
  const double scale = decode_f16(block);
  if (minimum) return scale * code + decode_f16(block.subspan(2));
  return scale * (code - (five ? 16 : 8));
}

// Element i of a block of 256 in eight groups of 32, each with a scale and a minimum of six bits. Groups 0 to 3 have them
// in the low bits of bytes 0 to 3 and 4 to 7; of groups 4 to 7 the low nibbles are in bytes 8 to 11 (scale, minimum),
// and their upper two bits are the spare ones of the first eight bytes.
inline double decode_k(dtype type, std::span<const std::byte> block, std::size_t i) {
  const std::size_t group = i / 32, g = group % 4;
  const auto six = block.subspan(4, 12);
  unsigned scale = byte_at(six, g) % 64, minimum = byte_at(six, 4 + g) % 64;
  if (group >= 4) {
    scale = byte_at(six, 8 + g) % 16 + 16 * (byte_at(six, g) / 64);
    minimum = byte_at(six, 8 + g) / 16 + 16 * (byte_at(six, 4 + g) / 64);
  }
  // Two groups share 32 bytes of nibbles.
  const unsigned pair = byte_at(block, (type == dtype::q5_k ? 48 : 16) + group / 2 * 32 + i % 32);
  double code = group % 2 == 0 ? pair % 16 : pair / 16;
  if (type == dtype::q5_k && (byte_at(block, 16 + i % 32) >> group) % 2 == 1) code += 16;
  return decode_f16(block) * scale * code - decode_f16(block.subspan(2)) * minimum;
}

// Element i of a block of 256 codes of six bits less 32, with signed scales for every 16. Each half of the block is four
// quarters of 32: their low nibbles share 64 bytes, their upper two bits 32 bytes.
inline double decode_q6_k(std::span<const std::byte> block, std::size_t i) {
  const std::size_t half = i / 128, quarter = i % 128 / 32, at = i % 32;
  const unsigned pair = byte_at(block, 64 * half + 32 * (quarter % 2) + at);
  const unsigned low = quarter < 2 ? pair % 16 : pair / 16;
  const unsigned high = (byte_at(block, 128 + 32 * half + at) >> (2 * quarter)) % 4;
  const double scale = std::to_integer<std::int8_t>(block[192 + i / 16]);
  return decode_f16(block.subspan(208)) * scale * (static_cast<double>(low + 16 * high) - 32);
}

}  // namespace detail

/// `count` elements as doubles, each from the definition of its format alone. Q8_0 is 32 signed bytes behind one
/// half-precision scale. Errors: `unsupported`.
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
      case dtype::q4_0:
      case dtype::q4_1:
      case dtype::q5_0:
      case dtype::q5_1:
        out[i] = detail::decode_32(type, bytes.subspan(i / 32 * block_bytes(type), block_bytes(type)), i % 32);
        break;
      case dtype::q4_k:
      case dtype::q5_k: out[i] = detail::decode_k(type, bytes.subspan(i / 256 * block_bytes(type)), i % 256); break;
      case dtype::q6_k: out[i] = detail::decode_q6_k(bytes.subspan(i / 256 * 210, 210), i % 256); break;
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
