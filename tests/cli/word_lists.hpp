// SPDX-License-Identifier: MIT
/// What the solvers of worlds and of stories share: looking a word up in a list, and a digest of generated text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

namespace blockattn_test {

template <class List>
bool among(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

/// FNV-1a.
inline std::uint64_t digest(const std::string& text) {
  std::uint64_t h = 1469598103934665603u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return h;
}

}  // namespace blockattn_test
