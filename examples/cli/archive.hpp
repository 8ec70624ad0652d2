// SPDX-License-Identifier: MIT
/// Many files in one: the tar format of POSIX (ustar), regular files only, as any tar program reads and writes it.
#pragma once

#include <blockattn/core/result.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cli {

namespace tar {
constexpr std::size_t unit = 512;
struct field {
  std::size_t at, size;
};
constexpr field name{0, 100}, mode{100, 8}, size{124, 12}, modified{136, 12}, checksum{148, 8}, type{156, 1},
    magic{257, 6}, version{263, 2};

// The sum of a header's bytes, its own field taken for spaces.
inline std::uint64_t sum_of(std::span<const char> header) noexcept {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < unit; ++i)
    sum += i - checksum.at < checksum.size ? std::uint64_t{' '} : static_cast<unsigned char>(header[i]);
  return sum;
}
// Octal digits, with spaces before and a space or zero byte behind. False for anything else.
inline bool read_octal(std::span<const char> header, field f, std::uint64_t& out) noexcept {
  std::string_view text(header.data() + f.at, f.size);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  const std::size_t digits = std::min(text.find_first_not_of("01234567"), text.size());
  if (digits == 0 || (digits < text.size() && text[digits] != ' ' && text[digits] != '\0')) return false;
  out = 0;
  for (std::size_t i = 0; i < digits; ++i) out = out * 8 + static_cast<std::uint64_t>(text[i] - '0');  // 36 bits at most
  return true;
}
inline void write_octal(std::span<char> header, field f, std::uint64_t value) noexcept {
  for (std::size_t i = f.size - 1; i-- > 0; value /= 8) header[f.at + i] = static_cast<char>('0' + value % 8);
}
}  // namespace tar

/// A file inside an archive; borrows its bytes.
struct archive_member {
  std::string name;  // without folders
  std::span<const std::byte> bytes;
};

/// The regular files of an archive, in order. Errors: `bad_format`, saying where. Never undefined behaviour.
[[nodiscard]] inline blockattn::result<std::vector<archive_member>> read_archive(std::span<const std::byte> all) {
  std::vector<archive_member> out;
  for (std::size_t at = 0;;) {
    const auto bad = [at](const auto&... pieces) {
      return blockattn::fail(blockattn::errc::bad_format, "archive: at byte ", at, ": ", pieces...);
    };
    if (all.size() - at < tar::unit) return bad("expected a header of 512 bytes, found ", all.size() - at);
    const std::span<const char> header(reinterpret_cast<const char*>(all.data() + at), tar::unit);
    if (header[0] == '\0') return out;  // what ends an archive
    std::uint64_t sum = 0, size = 0;
    if (std::memcmp(header.data() + tar::magic.at, "ustar", 5) != 0) return bad("expected a tar header (ustar)");
    if (!tar::read_octal(header, tar::checksum, sum) || sum != tar::sum_of(header)) return bad("the header is damaged");
    if (!tar::read_octal(header, tar::size, size)) return bad("expected a size in octal digits");
    at += tar::unit;
    if (size > all.size() - at) return bad("expected ", size, " bytes, found ", all.size() - at);
    const char type = header[tar::type.at];
    if (type == '0' || type == '\0') {
      std::string name(header.data(), ::strnlen(header.data(), tar::name.size));
      name.erase(0, name.rfind('/') + 1);  // npos + 1 is 0
      out.push_back({std::move(name), all.subspan(at, static_cast<std::size_t>(size))});
    }
    const std::size_t padded = (static_cast<std::size_t>(size) + tar::unit - 1) / tar::unit * tar::unit;
    at += std::min(padded, all.size() - at);
  }
}

/// Appends a file. The name has at most 99 bytes. Whether it worked is the stream's to say.
inline void write_member(std::ostream& to, std::string_view name, std::span<const std::byte> bytes) {
  std::array<char, tar::unit> header{};
  std::copy_n(name.data(), std::min(name.size(), tar::name.size - 1), header.data());
  tar::write_octal(header, tar::mode, 0644);
  tar::write_octal(header, {108, 8}, 0);  // owner
  tar::write_octal(header, {116, 8}, 0);  // group
  tar::write_octal(header, tar::size, bytes.size());
  tar::write_octal(header, tar::modified, 0);  // equal blocks make equal archives
  header[tar::type.at] = '0';
  std::memcpy(header.data() + tar::magic.at, "ustar", 6);
  std::memcpy(header.data() + tar::version.at, "00", 2);
  const std::uint64_t sum = tar::sum_of(header);
  tar::write_octal(header, {tar::checksum.at, 7}, sum);
  header[tar::checksum.at + 7] = ' ';
  to.write(header.data(), header.size());
  to.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  const std::array<char, tar::unit> zeros{};
  to.write(zeros.data(), static_cast<std::streamsize>((tar::unit - bytes.size() % tar::unit) % tar::unit));
}
inline void end_archive(std::ostream& to) {
  const std::array<char, 2 * tar::unit> zeros{};
  to.write(zeros.data(), zeros.size());
}

}  // namespace cli
