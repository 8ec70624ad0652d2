// SPDX-License-Identifier: MIT
/// What watched_new.hpp sees, for the other files of the same test program.
#pragma once

#include <atomic>
#include <cstddef>

namespace blockattn_test {

/// The largest single allocation since it was last set to zero.
inline std::atomic<std::size_t> largest_allocation{0};

}  // namespace blockattn_test
