// SPDX-License-Identifier: MIT
#include <blockattn/core/mapped_file.hpp>
#include <cstring>
#include <fstream>
#include <type_traits>

#include "../support/temporary_file.hpp"

namespace ba = blockattn;

namespace {

std::vector<std::byte> pattern(std::size_t n) {
  std::vector<std::byte> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::byte>(i * 7 + i / 251);
  return out;
}

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

TEST_CASE("mapped_file: shows a file of any size, mapped or read") {
  for (const std::size_t n : {0u, 1u, 4095u, 4096u, 4097u, 1u << 20, (2u << 20) + 3}) {
    INFO(n);
    const auto bytes = pattern(n);
    const blockattn_test::temporary_file file(bytes);
    const auto mapped = ba::mapped_file::open(file.path()).value();
    const auto read = ba::mapped_file::read(file.path()).value();
    CHECK(equal(mapped.bytes(), bytes));
    CHECK(equal(read.bytes(), bytes));
    CHECK(mapped.size() == n);
    CHECK(read.size() == n);
    CHECK_FALSE(read.is_mapped());
#if BLOCKATTN_HAS_MMAP
    CHECK(mapped.is_mapped());
#endif
  }
}

TEST_CASE("mapped_file: what is dropped can be read again") {
  const auto bytes = pattern(100'000);
  const blockattn_test::temporary_file file(bytes);
  for (const auto& opened : {ba::mapped_file::open(file.path()), ba::mapped_file::read(file.path())}) {
    const ba::mapped_file& f = opened.value();
    for (const std::size_t offset : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{99'999},
                                     std::size_t{100'000}, ~std::size_t{0}}) {
      for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{70'000}, ~std::size_t{0}}) {
        f.drop(offset, length);
        CHECK(equal(f.bytes(), bytes));
      }
    }
  }
  ba::mapped_file().drop(0, 1);
}

#if defined(__linux__)
TEST_CASE("mapped_file: dropped pages leave the process") {
  // Pages of files that are mapped and resident, from the kernel's own count (the third number of statm).
  const auto resident_file_pages = [] {
    std::ifstream statm("/proc/self/statm");
    std::size_t all = 0, resident = 0, of_files = 0;
    statm >> all >> resident >> of_files;
    REQUIRE(statm.good());
    return of_files;
  };
  constexpr std::size_t pages = 4096, page = 4096;
  const blockattn_test::temporary_file path(pattern(pages * page));
  const auto file = ba::mapped_file::open(path.path()).value();
  unsigned sum = 0;
  const auto touch = [&] {
    for (std::size_t i = 0; i < file.size(); i += page) sum += std::to_integer<unsigned>(file.bytes()[i]);
  };
  touch();
  const std::size_t before = resident_file_pages();
  REQUIRE(before >= pages);
  file.drop(0, file.size());
  CHECK(resident_file_pages() <= before - pages + 64);
  const unsigned once = sum;
  touch();
  CHECK(sum == 2 * once);
}
#endif

TEST_CASE("mapped_file: is moved, not copied") {
  CHECK_FALSE(std::is_copy_constructible_v<ba::mapped_file>);
  CHECK(std::is_nothrow_move_constructible_v<ba::mapped_file>);
  const auto bytes = pattern(5000);
  const blockattn_test::temporary_file file(bytes);
  for (const bool map : {true, false}) {
    auto first = map ? ba::mapped_file::open(file.path()).value() : ba::mapped_file::read(file.path()).value();
    const std::byte* at = first.bytes().data();
    ba::mapped_file second(std::move(first));
    CHECK(second.bytes().data() == at);
    CHECK(first.bytes().empty());
    first = ba::mapped_file::open(file.path()).value();
    first = std::move(second);
    CHECK(first.bytes().data() == at);
    CHECK(equal(first.bytes(), bytes));
    CHECK(second.bytes().empty());
    ba::mapped_file& self = first;
    first = std::move(self);
    CHECK(equal(first.bytes(), bytes));
  }
}

TEST_CASE("mapped_file: errors name the file") {
  // The second is a folder.
  for (const auto& path : {std::filesystem::path("/nonexistent/file"), std::filesystem::temp_directory_path()}) {
    const auto mapped = ba::mapped_file::open(path);
    REQUIRE_FALSE(mapped.has_value());
    CHECK(mapped.error().code == ba::errc::io);
    CHECK(mapped.error().message.find(path.string()) == 0);
    const auto read = ba::mapped_file::read(path);
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().code == ba::errc::io);
    CHECK(read.error().message.find(path.string()) == 0);
  }
}
