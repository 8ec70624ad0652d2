// SPDX-License-Identifier: MIT
// Archives of blocks: whatever the bytes, members lie inside them or there is a typed error. With its sums mended, a
// changed header gets past them to the checks behind.
#include <cstdlib>

#include "../../examples/cli/archive.hpp"

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

void check(std::span<const std::byte> bytes) {
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  const auto members = cli::read_archive(exact);
  if (!members) {
    require(members.error().code == blockattn::errc::bad_format && !members.error().message.empty());
    return;
  }
  std::size_t sum = 0;
  for (const auto& m : *members) {
    sum += m.bytes.size() + cli::tar::unit;
    require(m.name.size() <= 100 && m.name.find('/') == std::string::npos);
    for (const std::byte b : m.bytes) sum += static_cast<std::size_t>(b) & 0;  // reads every byte
  }
  require(sum <= exact.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  std::vector<char> mended(reinterpret_cast<const char*>(data), reinterpret_cast<const char*>(data) + size);
  for (std::size_t at = 0; at + cli::tar::unit <= size; at += cli::tar::unit) {
    const std::span<char> header(mended.data() + at, cli::tar::unit);
    if (std::memcmp(header.data() + cli::tar::magic.at, "ustar", 5) == 0)
      cli::tar::write_octal(header, {cli::tar::checksum.at, 7}, cli::tar::sum_of(header));
  }
  check(std::as_bytes(std::span<const char>(mended)));
  return 0;
}
