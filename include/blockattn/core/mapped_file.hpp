// SPDX-License-Identifier: MIT
/// A file as read-only bytes: mapped where the system can, read into memory elsewhere or on request.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "config.hpp"
#include "result.hpp"

#if (defined(__unix__) || defined(__APPLE__)) && __has_include(<sys/mman.h>)
#define BLOCKATTN_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#else
#define BLOCKATTN_HAS_MMAP 0
#endif

namespace blockattn::inline v0 {

/// Owns the bytes of one file. Move only; moving keeps the address. Const members are safe from several threads.
///
/// A mapping shows the file, not a copy of it: if another process truncates the file meanwhile, reading the lost pages
/// raises a signal (SIGBUS). Replace files by renaming, or use `read`, which copies.
class mapped_file {
 public:
  mapped_file() noexcept = default;

  /// Maps the whole file, read-only and private. Where the system cannot map, the same as `read`.
  /// Errors: `io` names the file and the reason.
  [[nodiscard]] static result<mapped_file> open(const std::filesystem::path& path) {
#if BLOCKATTN_HAS_MMAP
    const descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.number < 0) return refused(path, "opening", errno);
    struct ::stat status {};
    if (::fstat(file.number, &status) != 0) return refused(path, "asking for the size of", errno);
    if (!S_ISREG(status.st_mode)) return fail(errc::io, path.string(), ": expected a regular file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    if (size > SIZE_MAX / 2)
      return fail(errc::io, path.string(), ": expected a file that fits into the address space, found ", size,
                  " bytes");
    mapped_file out;
    out.mapped_ = true;
    if (size == 0) return out;  // no system maps nothing
    void* at = ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_PRIVATE, file.number, 0);
    if (at == MAP_FAILED) return refused(path, "mapping", errno);
    out.view_ = {static_cast<const std::byte*>(at), static_cast<std::size_t>(size)};
    return out;  // the mapping outlives the descriptor
#else
    return read(path);
#endif
  }

  /// Reads the whole file into memory. Grows with what is read, never by a stated size, so it takes pipes too.
  /// Errors: `io` names the file.
  [[nodiscard]] static result<mapped_file> read(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return fail(errc::io, path.string(), ": cannot be opened for reading");
    mapped_file out;
    std::vector<char> part(1_MiB);
    while (in.read(part.data(), static_cast<std::streamsize>(part.size())) || in.gcount() > 0) {
      const auto* first = reinterpret_cast<const std::byte*>(part.data());
      out.owned_.insert(out.owned_.end(), first, first + in.gcount());
    }
    // A folder opens on some systems and fails on the first read.
    if (in.bad() || !in.eof()) return fail(errc::io, path.string(), ": reading failed");
    out.view_ = out.owned_;
    return out;
  }

  mapped_file(mapped_file&& other) noexcept
      : owned_(std::move(other.owned_)),
        view_(std::exchange(other.view_, {})),
        mapped_(std::exchange(other.mapped_, false)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    mapped_file moved(std::move(other));
    std::swap(owned_, moved.owned_);
    std::swap(view_, moved.view_);
    std::swap(mapped_, moved.mapped_);
    return *this;
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() {
#if BLOCKATTN_HAS_MMAP
    if (mapped_ && !view_.empty()) ::munmap(const_cast<std::byte*>(view_.data()), view_.size());
#endif
  }

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return view_; }
  [[nodiscard]] std::size_t size() const noexcept { return view_.size(); }
  /// Whether the bytes are a mapping, whose pages `drop` can give back.
  [[nodiscard]] bool is_mapped() const noexcept { return mapped_; }

  /// Says that these bytes will hardly be read again: their pages leave the process. They may still be read; the system
  /// then fetches them from the file. A range that reaches past the end is cut; nothing happens to a file in memory.
  void drop([[maybe_unused]] std::size_t offset, [[maybe_unused]] std::size_t length) const noexcept {
#if BLOCKATTN_HAS_MMAP
    if (!mapped_ || offset >= view_.size()) return;
    length = length < view_.size() - offset ? length : view_.size() - offset;
    const long page = ::sysconf(_SC_PAGESIZE);
    if (page <= 0 || length == 0) return;
    // Rounded outwards: a neighbour on the same page is fetched again, which costs less than keeping pages that nobody
    // drops because each belongs to two.
    const std::size_t first = offset / static_cast<std::size_t>(page) * static_cast<std::size_t>(page);
    auto* at = const_cast<std::byte*>(view_.data()) + first;
    (void)::madvise(at, offset + length - first, MADV_DONTNEED);  // a hint; nothing depends on it
#endif
  }

 private:
#if BLOCKATTN_HAS_MMAP
  struct descriptor {
    int number;
    explicit descriptor(int n) noexcept : number(n) {}
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() {
      if (number >= 0) ::close(number);
    }
  };
  static failure refused(const std::filesystem::path& path, const char* what, int reason) {
    // The generic category's text is that of strerror, but safe from several threads.
    return fail(errc::io, path.string(), ": ", what, " it failed: ", std::generic_category().message(reason));
  }
#endif

  std::vector<std::byte> owned_;
  std::span<const std::byte> view_;
  bool mapped_ = false;
};

}  // namespace blockattn::inline v0
