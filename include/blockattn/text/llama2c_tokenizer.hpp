// SPDX-License-Identifier: MIT
/// The tokenizer of a llama2.c model, from its `tokenizer.bin` or `tok<vocab>.bin`.
///
/// The format, little-endian: int32 length of the longest piece; then for each piece a float score, an int32 length and
/// that many bytes. Nothing says how many pieces there are: the model does. Ids 0, 1, 2 are unknown, begin and end;
/// bytes are pieces `<0xNN>`; spaces are plain spaces.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "../core/result.hpp"
#include "read_file.hpp"
#include "tokenizer.hpp"

namespace blockattn::inline v0 {

/// Reads exactly `pieces` pieces (0: as many as there are). A cut or overlong file is `bad_format` and names the piece.
/// A file for another number of pieces cannot be told from a damaged one.
[[nodiscard]] inline result<vocabulary> read_llama2c_vocabulary(std::span<const std::byte> bytes, std::size_t pieces) {
  std::size_t at = 0;
  const auto left = [&] { return bytes.size() - at; };
  const auto word = [&] {  // four bytes; the caller has checked that they are there
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
      value |= static_cast<std::uint32_t>(std::to_integer<unsigned>(bytes[at + i])) << (8 * i);
    at += 4;
    return value;
  };
  if (left() < 4)
    return fail(errc::bad_format, "llama2.c tokenizer: expected a header of 4 bytes, found ", bytes.size());
  (void)word();  // the longest piece: a hint for fixed buffers, which we do not have

  vocabulary v;
  v.model = vocabulary::kind::spm;
  while (pieces == 0 ? left() != 0 : v.pieces.size() < pieces) {
    const std::size_t id = v.pieces.size();
    if (id == max_pieces)
      return fail(errc::bad_format, "llama2.c tokenizer: expected at most ", max_pieces, " pieces, found more");
    if (left() < 8)
      return fail(errc::bad_format, "llama2.c tokenizer: piece ", id, ": expected score and length, found ", left(),
                  " bytes");
    const std::uint32_t score = word(), size = word();
    if (size > left())
      return fail(errc::bad_format, "llama2.c tokenizer: piece ", id, ": expected ", static_cast<std::int32_t>(size),
                  " bytes, found ", left());
    static_assert(sizeof(float) == sizeof(score));
    float value;
    std::memcpy(&value, &score, sizeof value);
    v.scores.push_back(value);
    v.pieces.emplace_back(reinterpret_cast<const char*>(bytes.data()) + at, size);
    at += size;
    const bool marker = id == 1 || id == 2;
    // The unknown piece is shown by name, as text like any other: so does run.c.
    v.types.push_back(static_cast<std::int32_t>(marker                                ? piece_type::control
                                                : byte_of_piece(v.pieces.back()) >= 0 ? piece_type::byte
                                                                                      : piece_type::normal));
  }
  if (left() != 0)
    return fail(errc::bad_format, "llama2.c tokenizer: expected ", pieces, " pieces, found ", left(),
                " more bytes after them; is it the tokenizer of another model?");
  if (v.pieces.size() < 3)
    return fail(errc::bad_format, "llama2.c tokenizer: expected at least 3 pieces, found ", v.pieces.size());
  v.unk = 0;
  v.bos = 1;
  v.eos = 2;
  v.stops = {1};  // these models begin the next story with a begin token
  v.add_bos = true;
  v.add_space_prefix = true;
  return v;
}

/// The tokenizer in `bytes`, for a model of `pieces` ids (0: any).
[[nodiscard]] inline result<tokenizer> read_llama2c_tokenizer(std::span<const std::byte> bytes,
                                                              std::size_t pieces = 0) {
  auto v = read_llama2c_vocabulary(bytes, pieces);
  if (!v) return std::move(v).error();
  return tokenizer::from_vocabulary(*std::move(v));
}

/// The same from a file. Errors name it.
[[nodiscard]] inline result<tokenizer> open_llama2c_tokenizer(const std::filesystem::path& file,
                                                              std::size_t pieces = 0) {
  const auto bytes = read_file(file);
  if (!bytes) return bytes.error();
  auto words = read_llama2c_tokenizer(std::as_bytes(std::span<const char>(*bytes)), pieces);
  if (!words) return fail(words.error().code, file.string(), ": ", words.error().message);
  return words;
}

}  // namespace blockattn::inline v0
