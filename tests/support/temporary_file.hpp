// SPDX-License-Identifier: MIT
/// A file that is gone when its test ends.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <random>
#include <span>
#include <string>
#include <system_error>

#include "catch.hpp"

namespace blockattn_test {

class temporary_file {
 public:
  explicit temporary_file(std::span<const std::byte> bytes) {
    // Only the name is random: test programs run side by side.
    path_ = std::filesystem::temp_directory_path() /
            ("blockattn_test_" + std::to_string(std::random_device{}()) + std::to_string(std::random_device{}()));
    std::ofstream out(path_, std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(out.good());
  }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace blockattn_test
