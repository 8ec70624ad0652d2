// SPDX-License-Identifier: MIT
/// A file that is there whole or not at all: written beside its name, flushed, renamed.
#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "result.hpp"

namespace blockattn::inline v0 {

/// A new file under a temporary name in the folder of its own; `commit` gives it its name. One that is never committed
/// leaves nothing behind, and whatever had the name stays. Move only. All errors are `io` and name the path.
class whole_file {
 public:
  [[nodiscard]] static result<whole_file> create(const std::filesystem::path& path) {
    whole_file out(path);
    for (unsigned tries = 0; out.number_ < 0; ++tries) {
      out.temporary_ = path;
      out.temporary_ += ".partial-" + std::to_string(::getpid()) + "-" + std::to_string(tries);
      out.number_ = ::open(out.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
      if (out.number_ < 0 && errno != EINTR && (errno != EEXIST || tries == 64)) return out.refused("create", errno);
    }
    return out;
  }
  whole_file(whole_file&& other) noexcept
      : path_(std::move(other.path_)), temporary_(std::move(other.temporary_)), number_(std::exchange(other.number_, -1)),
        at_(other.at_) {}
  whole_file& operator=(whole_file&&) = delete;
  ~whole_file() {
    if (number_ < 0) return;
    ::close(number_);
    ::unlink(temporary_.c_str());
  }

  /// Bytes written so far.
  [[nodiscard]] std::uint64_t at() const noexcept { return at_; }
  /// Where it lies until it is committed: for a reader that checks it first.
  [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }

  [[nodiscard]] result<void> write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(number_, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return refused("write", wrote < 0 ? errno : EIO);
      at_ += static_cast<std::uint64_t>(wrote);
      bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    }
    return {};
  }

  /// Flushes, renames, and flushes the folder. Nothing can be written afterwards.
  [[nodiscard]] result<void> commit() {
    if (::fsync(number_) != 0) return refused("flush", errno);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return refused("rename", errno);
    ::close(std::exchange(number_, -1));
    const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : std::filesystem::path(".");
    const int at = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    // Some file systems cannot flush a folder and say EINVAL: then there is nothing to wait for.
    const bool flushed = at >= 0 && (::fsync(at) == 0 || errno == EINVAL);
    const int reason = errno;
    if (at >= 0) ::close(at);
    if (!flushed) return refused("flush the folder of", reason);
    return {};
  }

 private:
  explicit whole_file(std::filesystem::path path) : path_(std::move(path)) {}
  [[nodiscard]] failure refused(const char* verb, int reason) const {
    return fail(errc::io, path_.string(), ": cannot ", verb, ": ", std::generic_category().message(reason));
  }

  std::filesystem::path path_, temporary_;
  int number_ = -1;
  std::uint64_t at_ = 0;
};

}  // namespace blockattn::inline v0
