// SPDX-License-Identifier: MIT
/// A folder that is gone when its test ends.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <system_error>

#include "catch.hpp"

namespace blockattn_test {

class temporary_folder {
 public:
  temporary_folder() {
    // Only the name is random: test programs run side by side.
    path_ = std::filesystem::temp_directory_path() /
            ("blockattn_test_" + std::to_string(std::random_device{}()) + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(path_);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string path() const { return path_.string(); }

  /// Writes a file and returns its path.
  template <class Bytes>
  std::string file(const std::string& name, const Bytes& bytes) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(std::data(bytes)), static_cast<std::streamsize>(std::size(bytes)));
    REQUIRE(out.good());
    return *this / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace blockattn_test
