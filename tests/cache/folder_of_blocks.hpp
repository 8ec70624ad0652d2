// SPDX-License-Identifier: MIT
/// A folder of small blocks whose bytes are known, and what a test wants to know of it.
#pragma once

#include <blockattn/cache/directory_storage.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "fake_encoder.hpp"

namespace blockattn_test {

namespace ba = blockattn;

/// Small blocks, told apart by a number.
struct small_blocks {
  fake_encoder encoder{{2, 1, 4, ba::dtype::f32}};

  static std::vector<ba::token> ids(std::size_t i, std::size_t n = 5) {
    return tokens_from(static_cast<ba::token>(100 * i), n);
  }
  [[nodiscard]] ba::block_key key(std::size_t i) const { return ba::key_of(encoder.realm(), ids(i)); }
  [[nodiscard]] ba::block_handle block(std::size_t i) { return ba::encode_block(encoder, ids(i)).value(); }
  template <class Tier>
  ba::result<void> save(Tier& to, std::size_t i) {
    return to.save(encoder.realm(), block(i));
  }
  template <class Tier>
  ba::result<ba::block_handle> load(Tier& from, std::size_t i) {
    return from.load(encoder.realm(), encoder.shape(), key(i), ids(i));
  }
  /// Whether a load gives the right bytes.
  template <class Tier>
  bool has(Tier& from, std::size_t i) {
    const auto found = load(from, i);
    return found && *found != nullptr && has_fake_payload(**found) && (*found)->key() == key(i);
  }
  /// Bytes of one file; all of them are equally long.
  [[nodiscard]] std::uint64_t file_bytes() {
    return ba::block_file_image::of(encoder.realm(), *block(0), "test").value().size();
  }
};

/// All files that a budget counts, and how many.
struct folder_sum {
  std::uint64_t bytes = 0;
  std::size_t blocks = 0;
  std::size_t temporaries = 0;
};
inline folder_sum sum_of(const std::filesystem::path& folder) {
  folder_sum out;
  const auto entries = ba::native_file_system().scan(folder).value();
  for (const auto& entry : entries) {
    const bool temporary = ba::is_temporary_name(entry.name);
    if (!temporary && !ba::block_key_of_name(entry.name)) continue;
    ++(temporary ? out.temporaries : out.blocks);
    out.bytes += entry.bytes;
  }
  return out;
}

/// Changes one byte of a file, in place.
inline void spoil(const std::filesystem::path& file, std::size_t at) {
  std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
  f.seekg(static_cast<std::streamoff>(at));
  const int was = f.get();
  f.seekp(static_cast<std::streamoff>(at));
  f.put(static_cast<char>(was ^ 0x40));
}

}  // namespace blockattn_test
