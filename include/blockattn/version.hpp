// SPDX-License-Identifier: MIT
/// The version of the library. CMake reads the three numbers from this file.
#pragma once

#define BLOCKATTN_VERSION_MAJOR 0
#define BLOCKATTN_VERSION_MINOR 1
#define BLOCKATTN_VERSION_PATCH 0

namespace blockattn::inline v0 {

/// `"major.minor.patch"`, written into block files as a part of who produced them.
inline constexpr char version_string[] = "0.1.0";

}  // namespace blockattn::inline v0
