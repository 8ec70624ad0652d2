// SPDX-License-Identifier: MIT
#pragma once

#include <blockattn/io/byte_source.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "catch.hpp"

namespace blockattn_test {

/// Reads `bytes`, which must live on, as a program's own file would be read; reading past their end fails the test.
inline blockattn::read_function reader_of(const std::vector<std::byte>& bytes) {
  return [&bytes](std::uint64_t offset, std::span<std::byte> out) -> blockattn::result<void> {
    if (offset > bytes.size() || out.size() > bytes.size() - offset) FAIL("read past the end");
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
}

}  // namespace blockattn_test
