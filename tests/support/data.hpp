// SPDX-License-Identifier: MIT
/// Where outside reference files live: the folder named by BLOCKATTN_TEST_DATA. Tests that need it report themselves
/// skipped without it.
#pragma once

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "catch.hpp"

namespace blockattn_test {

/// The folder, or an empty path.
inline std::filesystem::path data_folder() {
  const char* folder = std::getenv("BLOCKATTN_TEST_DATA");
  return folder == nullptr ? std::filesystem::path() : std::filesystem::path(folder);
}

inline std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  INFO("reading " << file.string());
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::vector<float> read_floats(const std::filesystem::path& file) {
  const std::string bytes = read_text(file);
  REQUIRE(bytes.size() % sizeof(float) == 0);
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace blockattn_test

/// First statement of a test that reads outside reference files: defines `folder`, or says that the test is skipped.
#define BLOCKATTN_REQUIRE_DATA(folder)                                        \
  const std::filesystem::path folder = blockattn_test::data_folder();         \
  if (folder.empty()) {                                                       \
    WARN("skipped: BLOCKATTN_TEST_DATA does not name the reference files");   \
    return;                                                                   \
  }
