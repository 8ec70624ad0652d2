// SPDX-License-Identifier: MIT
/// What a reader of JSON asks before it parses: nlohmann's parser takes a zero byte between two tokens for the end of the
/// text, so that whatever stands behind it would be accepted unread. Text of JSON has no such byte anywhere.
#pragma once

#include <cstddef>
#include <string_view>

#include "result.hpp"

namespace blockattn::inline v0::detail {

/// Errors: `bad_format` says where the first zero byte is. Linear.
[[nodiscard]] inline result<void> refuse_zero_bytes(std::string_view json) {
  const std::size_t zero = json.find('\0');
  if (zero == std::string_view::npos) return {};
  return fail(errc::bad_format, "expected JSON, found a zero byte at byte ", zero);
}

}  // namespace blockattn::inline v0::detail
