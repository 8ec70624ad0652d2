// SPDX-License-Identifier: MIT
/// What tests ask of texts, and how they make long ones.
#pragma once

#include <cstddef>
#include <string>

namespace blockattn_test {

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// `part` again and again, to `size` bytes or a little more.
inline std::string repeated(const std::string& part, std::size_t size) {
  std::string out;
  while (out.size() < size) out += part;
  return out;
}

}  // namespace blockattn_test
