// SPDX-License-Identifier: MIT
/// A whole small file as a string: tokenizers and passages, which are read once and then parsed.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "../core/result.hpp"

namespace blockattn::inline v0 {

/// The bytes of `file`. Grows with what is read, never by a stated size. Error `io` names the file.
[[nodiscard]] inline result<std::string> read_file(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(errc::io, file.string(), ": cannot be opened for reading");
  std::string bytes;
  char part[1 << 14];
  while (in.read(part, sizeof part) || in.gcount() > 0) bytes.append(part, static_cast<std::size_t>(in.gcount()));
  // A folder opens on some systems and fails on the first read.
  if (in.bad() || !in.eof()) return fail(errc::io, file.string(), ": reading failed");
  return bytes;
}

}  // namespace blockattn::inline v0
