// SPDX-License-Identifier: MIT
// Block files: whatever the bytes, they are whole or refused. Signed again, a changed header gets past its checksum to
// the checks behind it.
#include <cstdlib>

#include "../cache/block_bytes.hpp"

namespace ba = blockattn;

namespace {

void require(bool ok) {
  if (!ok) std::abort();
}

void check(std::span<const std::byte> bytes) {
  // A heap block of exactly this size, on whatever boundary: nothing may be read past it, or as if it were aligned.
  const std::vector<std::byte> exact(bytes.begin(), bytes.end());
  const auto whole = ba::verify_block(exact);
  require(whole || ((whole.error().code == ba::errc::bad_format || whole.error().code == ba::errc::unsupported) &&
                    !whole.error().message.empty()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  const std::vector<std::byte> copy(bytes.begin(), bytes.end());
  if (const std::string text = blockattn_test::header_text(copy); !text.empty())
    check(blockattn_test::with_header(copy, text));
  return 0;
}
