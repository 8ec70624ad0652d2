// SPDX-License-Identifier: MIT
/// Connections to a Redis or Valkey server: opened when needed, kept for the next caller, left alone for a while after
/// a failure. Component `blockattn::redis` (hiredis).
#pragma once

#include <hiredis/hiredis.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"

namespace blockattn::inline v0 {

/// Which server, and how long to be patient with it. A wait is for silence: a server that keeps sending is listened to.
struct redis_server {
  std::string host = "127.0.0.1";
  int port = 6379;
  std::string unix_socket = {};  ///< instead of host and port
  std::string user = {};         ///< with a password; empty: the default user
  std::string password = {};
  int database = 0;
  std::chrono::milliseconds connect_timeout{200};
  std::chrono::milliseconds timeout{1000};  ///< of each read and write
  std::chrono::milliseconds first_pause{50};  ///< after a failure nobody asks for this long, then for twice as long, ...
  std::chrono::milliseconds longest_pause{5000};
  std::size_t idle_connections = 8;  ///< kept open; callers are never refused one
};

namespace detail {

// The client library writes to sockets that the server may have closed; the signal for that would end the program.
class without_broken_pipes {
 public:
  without_broken_pipes() noexcept {
    sigset_t pending;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  without_broken_pipes(const without_broken_pipes&) = delete;
  without_broken_pipes& operator=(const without_broken_pipes&) = delete;
  ~without_broken_pipes() {
    sigset_t pending;
    sigpending(&pending);
    if (int unused = 0; !was_pending_ && sigismember(&pending, SIGPIPE) == 1) sigwait(&pipe_, &unused);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_, before_;
  bool was_pending_ = false;
};

struct redis_free {
  void operator()(redisContext* c) const noexcept { redisFree(c); }
  void operator()(redisReply* r) const noexcept { freeReplyObject(r); }
};
using redis_link = std::unique_ptr<redisContext, redis_free>;
using redis_reply = std::unique_ptr<redisReply, redis_free>;

[[nodiscard]] inline std::string_view text_of(const redisReply& reply) noexcept {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, static_cast<std::size_t>(reply.len));
}

/// What a pool has seen.
struct redis_pool_counters {
  std::uint64_t connects = 0;
  std::uint64_t failures = 0;  // connections that could not be opened, were lost or fell silent
  std::uint64_t skipped = 0;   // requests not made, because the last failure was just now
};

// All members are safe from several threads; none holds the lock while it talks to the server.
class redis_pool {
 public:
  explicit redis_pool(redis_server where) : where_(std::move(where)) {}

  // The reply to one command. A connection that was kept and proves closed is replaced once: servers close idle ones.
  // Errors: `io`, if the server cannot be reached, is silent, or says no.
  [[nodiscard]] result<redis_reply> ask(std::span<const std::string_view> words) {
    const without_broken_pipes guard;
    for (;;) {
      auto taken = take();
      if (!taken) return std::move(taken).error();
      bool silent = false;
      auto reply = command(*taken->link, words, silent);
      if (reply) {
        keep(std::move(taken->link));
        if ((*reply)->type == REDIS_REPLY_ERROR) return fail(errc::io, name(), ": ", text_of(**reply).substr(0, 200));
        return reply;
      }
      if (!taken->fresh && !silent) continue;  // finds the next one that was kept, or opens one: it ends
      note_failure();
      return reply;
    }
  }
  [[nodiscard]] redis_pool_counters counters() const {
    const std::lock_guard guard(lock_);
    return counters_;
  }
  [[nodiscard]] std::string name() const {
    if (!where_.unix_socket.empty()) return "redis " + where_.unix_socket;
    return "redis " + where_.host + ":" + std::to_string(where_.port);
  }

 private:
  using clock = std::chrono::steady_clock;
  struct connection {
    redis_link link;
    bool fresh = false;
  };
  static timeval interval(std::chrono::milliseconds t) noexcept {
    timeval out;
    out.tv_sec = static_cast<decltype(out.tv_sec)>(t.count() / 1000);
    out.tv_usec = static_cast<decltype(out.tv_usec)>(t.count() % 1000 * 1000);
    return out;
  }

  result<connection> take() {
    {
      const std::lock_guard guard(lock_);
      if (!idle_.empty()) {
        connection out{std::move(idle_.back()), false};
        idle_.pop_back();
        return out;
      }
      if (clock::now() < not_before_) {
        ++counters_.skipped;
        return fail(errc::io, name(), ": not asked: it failed a moment ago");
      }
      ++counters_.connects;
    }
    auto link = connect();
    if (!link) {
      note_failure();
      return std::move(link).error();
    }
    return connection{*std::move(link), true};
  }
  void keep(redis_link link) {
    const std::lock_guard guard(lock_);
    pause_ = {};
    not_before_ = {};
    if (idle_.size() < where_.idle_connections) idle_.push_back(std::move(link));
  }
  void note_failure() {
    const std::lock_guard guard(lock_);
    ++counters_.failures;
    idle_.clear();  // they went the same way, most likely
    pause_ = pause_ == std::chrono::milliseconds() ? where_.first_pause : std::min(2 * pause_, where_.longest_pause);
    not_before_ = clock::now() + pause_;
  }

  result<redis_link> connect() {
    const timeval patience = interval(where_.connect_timeout);
    redis_link link(where_.unix_socket.empty()
                        ? redisConnectWithTimeout(where_.host.c_str(), where_.port, patience)
                        : redisConnectUnixWithTimeout(where_.unix_socket.c_str(), patience));
    if (link == nullptr) return fail(errc::out_of_memory, name(), ": no memory for a connection");
    if (link->err != 0) return fail(errc::io, name(), ": cannot connect: ", link->errstr);
    if (redisSetTimeout(link.get(), interval(where_.timeout)) != REDIS_OK)
      return fail(errc::io, name(), ": cannot set a time-out: ", link->errstr);
    const auto introduce = [&](std::span<const std::string_view> words) -> result<void> {
      bool silent = false;
      const auto reply = command(*link, words, silent);
      if (!reply) return reply.error();
      // Not the words: one of them is a password.
      if ((*reply)->type == REDIS_REPLY_ERROR)
        return fail(errc::io, name(), ": ", words[0], ": ", text_of(**reply).substr(0, 200));
      return {};
    };
    if (!where_.password.empty()) {
      const std::array<std::string_view, 3> words{"AUTH", where_.user, where_.password};
      const std::array<std::string_view, 2> short_form{"AUTH", where_.password};
      auto known = where_.user.empty() ? introduce(short_form) : introduce(words);
      if (!known) return std::move(known).error();
    }
    if (where_.database != 0) {
      const std::string number = std::to_string(where_.database);
      const std::array<std::string_view, 2> words{"SELECT", number};
      if (auto done = introduce(words); !done) return std::move(done).error();
    }
    return link;
  }

  result<redis_reply> command(redisContext& link, std::span<const std::string_view> words, bool& silent) {
    std::vector<const char*> texts;
    std::vector<std::size_t> lengths;
    for (const std::string_view word : words) {
      texts.push_back(word.data() == nullptr ? "" : word.data());
      lengths.push_back(word.size());
    }
    errno = 0;
    redis_reply reply(static_cast<redisReply*>(
        redisCommandArgv(&link, static_cast<int>(words.size()), texts.data(), lengths.data())));
    if (reply != nullptr) return reply;
    silent = link.err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ETIMEDOUT);
    return fail(errc::io, name(), ": ", silent ? "no answer in time" : link.errstr);
  }

  const redis_server where_;
  mutable std::mutex lock_;
  std::vector<redis_link> idle_;
  clock::time_point not_before_{};
  std::chrono::milliseconds pause_{};
  redis_pool_counters counters_;
};

}  // namespace detail

}  // namespace blockattn::inline v0
