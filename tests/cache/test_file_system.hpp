// SPDX-License-Identifier: MIT
/// The system's files, with a record of everything that changes them, and with failures on request. For one thread.
#pragma once

#include <algorithm>
#include <blockattn/cache/file_system.hpp>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace blockattn_test {

namespace ba = blockattn;

/// One change, as the system was asked for it.
struct file_event {
  enum kind { create, write, flush, rename, remove, flush_folder, mark };
  kind what = mark;
  std::string name = {};              // of the file in its folder; of a mark: what the test has to say
  std::string to = {};                // rename
  std::vector<std::byte> bytes = {};  // write
  std::size_t size = 0;               // create
};

struct file_controls {
  static constexpr std::size_t never = ~std::size_t{0};
  bool flush_really = false;        // a killed process leaves the page cache whole: most tests need not wait
  std::size_t calls = 0;            // so far
  std::size_t fail_at = never;      // the first call that fails, counted from 0
  std::size_t failures = 1;         // how many do
  std::size_t die_at = never;       // the call at which this process is killed
  int reason = EIO;
  std::size_t write_limit = never;  // the most bytes of one write
  std::size_t room = never;         // bytes that can still be written
  bool map_fails = false;
  bool record = false;
  std::vector<file_event> log = {};

  bool refuses() noexcept {
    const std::size_t call = calls++;
    if (call == die_at) std::raise(SIGKILL);
    return call >= fail_at && call - fail_at < failures;
  }
  void note(file_event e) {
    if (record) log.push_back(std::move(e));
  }
};

class test_file_system {
 public:
  using path = std::filesystem::path;

  class file {
   public:
    ba::result<std::size_t> write(std::span<const std::byte> bytes) {
      if (control_->refuses()) return ba::detail::system_refused(name_, "write", control_->reason);
      bytes = bytes.first(std::min({bytes.size(), control_->write_limit, control_->room}));
      if (bytes.empty()) return ba::detail::system_refused(name_, "write", ENOSPC);
      const auto wrote = to_.write(bytes);
      if (!wrote) return wrote;
      if (control_->room != file_controls::never) control_->room -= *wrote;
      const auto taken = bytes.first(*wrote);
      control_->note({.what = file_event::write, .name = name_, .bytes = {taken.begin(), taken.end()}});
      return wrote;
    }
    ba::result<void> flush() {
      if (control_->refuses()) return ba::detail::system_refused(name_, "flush", control_->reason);
      control_->note({.what = file_event::flush, .name = name_});
      return control_->flush_really ? to_.flush() : ba::result<void>();
    }

   private:
    friend test_file_system;
    file(ba::native_file_system::file to, std::string name, std::shared_ptr<file_controls> control)
        : to_(std::move(to)), name_(std::move(name)), control_(std::move(control)) {}
    ba::native_file_system::file to_;
    std::string name_;
    std::shared_ptr<file_controls> control_;
  };

  explicit test_file_system(std::shared_ptr<file_controls> control) : control_(std::move(control)) {}

  ba::result<file> create(const path& p, std::uint64_t bytes) {
    if (control_->refuses()) return refused(p, "create");
    auto to = native_.create(p, bytes);
    if (!to) return std::move(to).error();
    control_->note({.what = file_event::create, .name = name_of(p), .size = static_cast<std::size_t>(bytes)});
    return file(*std::move(to), name_of(p), control_);
  }
  ba::result<std::optional<ba::mapped_file>> map(const path& p) {
    if (control_->refuses() || control_->map_fails) return refused(p, "map");
    return native_.map(p);
  }
  ba::result<void> rename(const path& from, const path& to) {
    if (control_->refuses()) return refused(to, "rename");
    control_->note({.what = file_event::rename, .name = name_of(from), .to = name_of(to)});
    return native_.rename(from, to);
  }
  ba::result<void> remove(const path& p) {
    if (control_->refuses()) return refused(p, "remove");
    control_->note({.what = file_event::remove, .name = name_of(p)});
    return native_.remove(p);
  }
  ba::result<std::vector<ba::folder_entry>> scan(const path& folder) {
    if (control_->refuses()) return refused(folder, "list");
    return native_.scan(folder);
  }
  ba::result<void> flush_folder(const path& folder) {
    if (control_->refuses()) return refused(folder, "flush");
    control_->note({.what = file_event::flush_folder});
    return control_->flush_really ? native_.flush_folder(folder) : ba::result<void>();
  }

 private:
  static std::string name_of(const path& p) { return p.filename().string(); }
  ba::failure refused(const path& p, const char* verb) const {
    return ba::detail::system_refused(p, verb, control_->reason);
  }
  std::shared_ptr<file_controls> control_;
  ba::native_file_system native_;
};

static_assert(ba::file_system<test_file_system> && ba::file_system<ba::native_file_system>);

}  // namespace blockattn_test
