// SPDX-License-Identifier: MIT
/// Block files in memory: the bytes that `write_block_file` writes, and headers signed again after a change, so that a
/// lie gets past the checksum to the check that it is meant for.
#pragma once

#include <blockattn/cache/block_file.hpp>
#include <cstring>
#include <string>
#include <vector>

namespace blockattn_test {

namespace ba = blockattn;

/// The header's JSON, without its padding.
inline std::string header_text(const std::vector<std::byte>& file) {
  std::uint64_t length = 0;
  if (file.size() < 8) return {};
  std::memcpy(&length, file.data(), 8);
  if (length > file.size() - 8) return {};
  std::string text(reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(length));
  text.erase(text.find_last_not_of(' ') + 1);
  return text;
}

/// The same data under another header: padded and, if it has a field for that, signed.
inline std::vector<std::byte> with_header(const std::vector<std::byte>& file, std::string text) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const std::size_t data = 8 + static_cast<std::size_t>(length);
  text.resize(ba::round_up(text.size() + 8, ba::alignment) - 8, ' ');
  length = text.size();
  std::string head(8, '\0');
  std::memcpy(head.data(), &length, 8);
  head += text;
  const std::size_t at = head.find(ba::detail::header_field);
  if (at != std::string::npos && at + ba::detail::header_field.size() + 16 <= head.size()) {
    const std::size_t digits = at + ba::detail::header_field.size();
    head.replace(digits, 16, 16, '0');
    head.replace(digits, 16, ba::detail::hex64(ba::detail::xxh3(std::as_bytes(std::span<const char>(head)))));
  }
  std::vector<std::byte> out(head.size() + file.size() - data);
  std::memcpy(out.data(), head.data(), head.size());
  std::copy(file.begin() + static_cast<std::ptrdiff_t>(data), file.end(),
            out.begin() + static_cast<std::ptrdiff_t>(head.size()));
  return out;
}

}  // namespace blockattn_test
