// SPDX-License-Identifier: MIT
/// GPT-2's alphabet of printable letters for bytes, in which byte-level vocabularies spell their pieces.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "utf8.hpp"

namespace blockattn::inline v0 {

/// GPT-2's byte alphabet: printable Latin-1 stands for itself, the 68 other bytes for U+0100 and up, in order. A piece
/// is then printable text without spaces, whatever bytes it holds.
[[nodiscard]] constexpr std::array<char32_t, 256> make_byte_alphabet() noexcept {
  std::array<char32_t, 256> out{};
  char32_t next = 0x100;
  for (std::uint32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
    out[b] = printable ? static_cast<char32_t>(b) : next++;
  }
  return out;
}
inline constexpr std::array<char32_t, 256> byte_alphabet = make_byte_alphabet();

/// The bytes that a byte-level piece spells. A character outside the alphabet stands for itself, as in added tokens.
[[nodiscard]] inline std::string bytes_of_piece(std::string_view piece) {
  // The alphabet reaches U+0143; this is its inverse, -1 where no byte is meant.
  static constexpr auto inverse = [] {
    std::array<std::int16_t, 0x144> table{};
    for (auto& entry : table) entry = -1;
    for (std::size_t b = 0; b < 256; ++b) table[byte_alphabet[b]] = static_cast<std::int16_t>(b);
    return table;
  }();
  std::string out;
  for (std::size_t at = 0; at < piece.size();) {
    const utf8_step step = next_utf8(piece.substr(at));
    if (step.state == utf8_step::kind::valid && step.code < inverse.size() && inverse[step.code] >= 0) {
      out.push_back(static_cast<char>(inverse[step.code]));
    } else {
      out.append(piece.substr(at, step.bytes));
    }
    at += step.bytes;
  }
  return out;
}

}  // namespace blockattn::inline v0
