// SPDX-License-Identifier: MIT
/// A Redis or Valkey server of a test's own, on a socket in a folder of its own; and servers that behave badly.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <blockattn/cache/redis_connection.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "../support/temporary_folder.hpp"

namespace blockattn_test {

namespace ba = blockattn;

/// Keeps nothing on disk, listens on no network.
class redis_process {
 public:
  /// The program, or nothing.
  static std::string program() {
    for (const std::string name : {"redis-server", "valkey-server"})
      if (std::system(("command -v " + name + " >/dev/null 2>&1").c_str()) == 0) return name;
    return {};
  }

  explicit redis_process(std::vector<std::string> more = {}) : more_(std::move(more)) { start(); }
  redis_process(const redis_process&) = delete;
  redis_process& operator=(const redis_process&) = delete;
  ~redis_process() { stop(); }

  void start() {
    std::vector<std::string> words{program(), "--port", "0", "--unixsocket", socket(), "--save", "", "--appendonly",
                                   "no", "--dir", folder_.path(), "--logfile", folder_ / "log"};
    words.insert(words.end(), more_.begin(), more_.end());
    std::vector<char*> arguments;
    for (std::string& w : words) arguments.push_back(w.data());
    arguments.push_back(nullptr);
    child_ = ::fork();
    REQUIRE(child_ >= 0);
    if (child_ == 0) {
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    }
    for (int tries = 0; tries < 500; ++tries) {
      ba::detail::redis_pool pool(where());
      const auto pong = pool.ask(std::array<std::string_view, 1>{"PING"});
      // A server that wants a password is there too.
      if (pong || pong.error().message.find("NOAUTH") != std::string::npos) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    FAIL("the server did not start");
  }
  void stop() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  [[nodiscard]] std::string socket() const { return folder_ / "socket"; }
  [[nodiscard]] ba::redis_server where() const {
    ba::redis_server out;
    out.unix_socket = socket();
    out.first_pause = std::chrono::milliseconds(20);
    return out;
  }
  /// One command, as the server's owner.
  void tell(std::vector<std::string_view> words) const {
    ba::detail::redis_pool pool(where());
    REQUIRE(pool.ask(words));
  }

 private:
  temporary_folder folder_;
  std::vector<std::string> more_;
  pid_t child_ = 0;
};

/// Accepts connections and, to whatever is asked, answers `answer` and closes; an empty answer is silence.
class false_server {
 public:
  explicit false_server(std::string answer) : answer_(std::move(answer)) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    const std::string path = where().unix_socket;
    REQUIRE(path.size() < sizeof name.sun_path);
    std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(listener_, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
    REQUIRE(::listen(listener_, 16) == 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~false_server() {
    stop_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] ba::redis_server where() const {
    ba::redis_server out;
    out.unix_socket = folder_ / "socket";
    out.timeout = std::chrono::milliseconds(60);
    out.first_pause = std::chrono::milliseconds(0);
    return out;
  }

 private:
  void serve() {
    std::vector<int> silent;
    while (!stop_) {
      const int at = ::accept(listener_, nullptr, nullptr);
      if (at < 0) break;
      if (answer_.empty()) {
        silent.push_back(at);
        continue;
      }
      char asked[4096];
      if (::read(at, asked, sizeof asked) > 0) (void)!::send(at, answer_.data(), answer_.size(), MSG_NOSIGNAL);
      ::close(at);
    }
    for (const int at : silent) ::close(at);
  }
  temporary_folder folder_;
  std::string answer_;
  int listener_ = -1;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace blockattn_test

/// First statement of a test that needs a server.
#define BLOCKATTN_REQUIRE_REDIS()                                         \
  if (blockattn_test::redis_process::program().empty()) {                 \
    WARN("skipped: there is no redis-server and no valkey-server");       \
    return;                                                               \
  }
