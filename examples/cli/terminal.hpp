// SPDX-License-Identifier: MIT
/// What people see: a progress bar on standard error, for terminals only; text on standard output.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>

namespace cli {

/// Draws nothing unless standard error is a terminal, and not before a second has passed.
class progress {
 public:
  explicit progress(std::string label) : label_(std::move(label)), shown_(isatty(2) != 0) {}
  ~progress() {
    if (drawn_) std::fprintf(stderr, "\r\033[K");
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void operator()(std::size_t done, std::size_t total) {
    if (!shown_ || total == 0) return;
    const auto now = clock::now();
    if (now - begun_ < std::chrono::seconds(1) || (drawn_ && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    drawn_ = true;
    const std::size_t filled = done * 30 / total;
    const double seconds = std::chrono::duration<double>(now - begun_).count();
    const double left = done == 0 ? 0 : seconds * static_cast<double>(total - done) / static_cast<double>(done);
    std::fprintf(stderr, "\r%s [%s%s] %zu/%zu, %.0f s left\033[K", label_.c_str(), std::string(filled, '#').c_str(),
                 std::string(30 - filled, ' ').c_str(), done, total, left);
  }

 private:
  using clock = std::chrono::steady_clock;
  std::string label_;
  bool shown_, drawn_ = false;
  clock::time_point begun_ = clock::now(), last_;
};

/// Writes all of a text to standard output, zero bytes too.
inline void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

/// Milliseconds since construction.
class stopwatch {
 public:
  [[nodiscard]] double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun_).count();
  }

 private:
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace cli
