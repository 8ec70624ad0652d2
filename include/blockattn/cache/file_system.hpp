// SPDX-License-Identifier: MIT
/// What a folder of blocks asks of a file system, as a policy: tests put one in its place that records what is written
/// and flushed, or that fails.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/mapped_file.hpp"
#include "../core/result.hpp"

namespace blockattn::inline v0 {

/// A regular file of a folder.
struct folder_entry {
  std::string name;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;  // of the system's clock; only the order matters
};

/// A new file, open for writing; closed when it dies.
/// - `write(bytes)`: appends, and says how many were taken, which may be fewer than given. Errors: `io`.
/// - `flush()`: returns once what was written would survive a loss of power. Errors: `io`.
template <class F>
concept output_file = std::movable<F> && requires(F& file, std::span<const std::byte> bytes) {
  { file.write(bytes) } -> std::same_as<result<std::size_t>>;
  { file.flush() } -> std::same_as<result<void>>;
};

/// The file system under a folder of blocks. All calls come from several threads; all errors are `io` and name the path.
/// - `create(path, bytes)`: a file that was not there, `bytes` long at once, so that whoever adds up the folder sees
///   what is coming. While it is open, `being_written(path)` is true in every process.
/// - `map(path)`: the bytes of a file; nothing if there is no such file.
/// - `rename(from, to)`: at once for everybody, whether or not there was a `to`.
/// - `remove(path)`: success if there was nothing. Mappings of the file stay valid.
/// - `scan(folder)`: its regular files, in any order.
/// - `flush_folder(folder)`: returns once its names would survive a loss of power.
template <class S>
concept file_system = output_file<typename S::file> && requires(S& s, const std::filesystem::path& path,
                                                                std::uint64_t bytes) {
  { s.create(path, bytes) } -> std::same_as<result<typename S::file>>;
  { s.map(path) } -> std::same_as<result<std::optional<mapped_file>>>;
  { s.rename(path, path) } -> std::same_as<result<void>>;
  { s.remove(path) } -> std::same_as<result<void>>;
  { s.scan(path) } -> std::same_as<result<std::vector<folder_entry>>>;
  { s.flush_folder(path) } -> std::same_as<result<void>>;
};

namespace detail {
[[nodiscard]] inline failure system_refused(const std::filesystem::path& path, const char* verb, int reason) {
  // The generic category's text is that of strerror, but safe from several threads.
  return fail(errc::io, path.string(), ": cannot ", verb, ": ", std::generic_category().message(reason));
}

// A descriptor that closes itself.
class descriptor {
 public:
  descriptor() noexcept = default;
  descriptor(const std::filesystem::path& path, int flags) noexcept {
    do number_ = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
    while (number_ < 0 && errno == EINTR);
  }
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  [[nodiscard]] bool open() const noexcept { return number_ >= 0; }
  [[nodiscard]] int number() const noexcept { return number_; }

 private:
  int number_ = -1;
};
}  // namespace detail

/// The system's own files. The file system that documents the concept.
struct native_file_system {
  class file {
   public:
    [[nodiscard]] result<std::size_t> write(std::span<const std::byte> bytes) {
      for (;;) {
        const ssize_t wrote = ::write(to_.number(), bytes.data(), bytes.size());
        if (wrote >= 0) return static_cast<std::size_t>(wrote);
        if (errno != EINTR) return detail::system_refused(path_, "write", errno);
      }
    }
    [[nodiscard]] result<void> flush() {
      if (::fsync(to_.number()) != 0) return detail::system_refused(path_, "flush", errno);
      return {};
    }

   private:
    friend native_file_system;
    file(std::filesystem::path path, detail::descriptor to) noexcept : path_(std::move(path)), to_(std::move(to)) {}

    std::filesystem::path path_;
    detail::descriptor to_;
  };

  [[nodiscard]] result<file> create(const std::filesystem::path& path, std::uint64_t bytes) {
    detail::descriptor to(path, O_WRONLY | O_CREAT | O_EXCL);
    if (!to.open()) return detail::system_refused(path, "create", errno);
    // The lock goes with the process, however that ends: it tells a file being written from one that was left behind.
    if (::flock(to.number(), LOCK_EX | LOCK_NB) != 0 || ::ftruncate(to.number(), static_cast<off_t>(bytes)) != 0) {
      const int reason = errno;
      ::unlink(path.c_str());
      return detail::system_refused(path, "create", reason);
    }
    return file(path, std::move(to));
  }
  [[nodiscard]] result<std::optional<mapped_file>> map(const std::filesystem::path& path) {
    // Where others remove and write the same name, it may come between the two questions: then both are asked again.
    for (int tries = 0;; ++tries) {
      auto mapped = mapped_file::open(path);
      if (mapped) return std::optional<mapped_file>(*std::move(mapped));
      struct ::stat status {};
      if (::lstat(path.c_str(), &status) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return std::optional<mapped_file>();
      if (tries == 8) return std::move(mapped).error();
    }
  }
  [[nodiscard]] result<void> rename(const std::filesystem::path& from, const std::filesystem::path& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) return detail::system_refused(to, "rename", errno);
    return {};
  }
  [[nodiscard]] result<void> remove(const std::filesystem::path& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return detail::system_refused(path, "remove", errno);
    return {};
  }
  [[nodiscard]] result<std::vector<folder_entry>> scan(const std::filesystem::path& folder) {
    std::vector<folder_entry> out;
    std::error_code code;
    for (std::filesystem::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
      struct ::stat status {};  // one call for what std::filesystem takes three
      if (::lstat(it->path().c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;  // gone meanwhile, or no file
      out.push_back({it->path().filename().string(), static_cast<std::uint64_t>(status.st_size), modified(status)});
    }
    if (code) return fail(errc::io, folder.string(), ": cannot list: ", code.message());
    return out;
  }
  [[nodiscard]] result<void> flush_folder(const std::filesystem::path& folder) {
    const detail::descriptor at(folder, O_RDONLY | O_DIRECTORY);
    // Some file systems cannot flush a folder and say EINVAL: then there is nothing to wait for.
    if (!at.open() || (::fsync(at.number()) != 0 && errno != EINVAL))
      return detail::system_refused(folder, "flush", errno);
    return {};
  }

 private:
  static std::int64_t modified(const struct ::stat& status) noexcept {
#if defined(__APPLE__)
    const auto& t = status.st_mtimespec;
#else
    const auto& t = status.st_mtim;
#endif
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  }
};

/// Whether a file that a `create` made is still open in some process of this machine. A file that cannot be asked is
/// taken for open.
[[nodiscard]] inline bool being_written(const std::filesystem::path& path) noexcept {
  const detail::descriptor at(path, O_RDONLY);
  return !at.open() || ::flock(at.number(), LOCK_EX | LOCK_NB) != 0;
}

/// Holds a folder against every other `folder_lock`, of this process or another, until it dies or its process does.
class folder_lock {
 public:
  /// Errors: `io` if the folder cannot be opened or locked, or if others hold it for longer than `wait`.
  [[nodiscard]] static result<folder_lock> acquire(const std::filesystem::path& folder,
                                                   std::chrono::milliseconds wait) {
    detail::descriptor at(folder, O_RDONLY | O_DIRECTORY);
    if (!at.open()) return detail::system_refused(folder, "open", errno);
    const auto end = std::chrono::steady_clock::now() + wait;
    for (std::chrono::microseconds pause(50); ::flock(at.number(), LOCK_EX | LOCK_NB) != 0; pause = pause * 3 / 2) {
      if (errno != EWOULDBLOCK && errno != EINTR) return detail::system_refused(folder, "lock", errno);
      if (std::chrono::steady_clock::now() >= end)
        return fail(errc::io, folder.string(), ": cannot lock: others have held it for ", wait.count(), " ms");
      // Asking again instead of waiting in the system: a process that hangs must not hang all others.
      std::this_thread::sleep_for(std::min(pause, std::chrono::microseconds(20'000)));
    }
    return folder_lock(std::move(at));
  }

 private:
  explicit folder_lock(detail::descriptor at) noexcept : at_(std::move(at)) {}
  detail::descriptor at_;
};

namespace detail {
// Reads a mapping's pages into the page table in one call. A disk that fails is an error here, and a signal later.
[[nodiscard]] inline result<void> populate([[maybe_unused]] const mapped_file& file,
                                           [[maybe_unused]] const std::filesystem::path& path) {
#if defined(__linux__)
  constexpr int populate_read = 22;  // MADV_POPULATE_READ: newer than the C library's header may be
  if (!file.is_mapped() || file.size() == 0) return {};
  auto* const at = const_cast<std::byte*>(file.bytes().data());
  if (::madvise(at, file.size(), populate_read) != 0 && (errno == EFAULT || errno == EIO))
    return system_refused(path, "read", EIO);  // any other refusal: an older system, which reads page by page
#endif
  return {};
}

// Writes everything to a new file and flushes it.
template <output_file F>
[[nodiscard]] result<void> write_whole(F& to, const std::filesystem::path& path,
                                       std::span<const std::span<const std::byte>> pieces) {
  for (std::span<const std::byte> rest : pieces)
    while (!rest.empty()) {
      const auto wrote = to.write(rest);
      if (!wrote) return wrote.error();
      if (*wrote == 0 || *wrote > rest.size()) return system_refused(path, "write", EIO);
      rest = rest.subspan(*wrote);
    }
  return to.flush();
}
}  // namespace detail

}  // namespace blockattn::inline v0
