// SPDX-License-Identifier: MIT
/// Runs the command-line program as a user's script does, and says what it printed and how it ended.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "../support/catch.hpp"
#include "../support/temporary_folder.hpp"

extern char** environ;

namespace blockattn_test {

using json = nlohmann::json;
using arguments = std::vector<std::string>;

/// How a run ended. A signal, such as a crash, is 128 and its number, as in a shell.
struct finished {
  int code = -1;
  std::string out, err;

  /// The one JSON object on standard output.
  [[nodiscard]] json object() const {
    INFO("standard output: " << out.substr(0, 400) << "\nstandard error: " << err);
    REQUIRE(code == 0);
    const json parsed = json::parse(out, nullptr, false);
    REQUIRE(parsed.is_object());
    return parsed;
  }
};

inline std::string cli_path() {
  if (const char* named = std::getenv("BLOCKATTN_CLI")) return named;
#ifdef BLOCKATTN_CLI_PATH
  return BLOCKATTN_CLI_PATH;
#else
  return {};
#endif
}

inline std::string slurp(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// `watch(pid)` is called while the program runs.
template <class Watch>
finished run(const arguments& given, Watch&& watch) {
  static const temporary_folder folder;  // files, because a pipe that nobody reads would stop the program
  const std::string program = cli_path(), out = folder / "out", err = folder / "err";
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& a : given) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int spawned = posix_spawn(&child, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  INFO("starting " << program);
  REQUIRE(spawned == 0);
  watch(child);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  finished f;
  f.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  f.out = slurp(out);
  f.err = slurp(err);
  return f;
}

inline finished run(const arguments& given) {
  return run(given, [](pid_t) {});
}

/// One object on standard output, nothing on standard error.
inline json run_json(arguments given) {
  given.push_back("--json");
  const finished f = run(given);
  const json object = f.object();
  CHECK(f.err.empty());
  CHECK(f.out.find('\n') == f.out.size() - 1);
  return object;
}

inline std::string shown(const arguments& given) {
  std::string out;
  for (const std::string& a : given) out += " " + a.substr(0, 200);
  return out;
}

/// That a run ends with this code, a reason in one line, and nothing on standard output. Returns the reason.
inline std::string check_refused(const arguments& given, int code) {
  const finished f = run(given);
  INFO(shown(given) << "\nstandard error: " << f.err.substr(0, 2000) << "\nstandard output: " << f.out.substr(0, 200));
  CHECK(f.code == code);
  CHECK(f.out.empty());
  CHECK(f.err.rfind("blockattn: ", 0) == 0);
  CHECK(f.err.size() > 12);
  CHECK(f.err.find('\n') == f.err.size() - 1);
  return f.err;
}

/// "1,2,3".
template <class Numbers>
std::string joined(const Numbers& numbers) {
  std::string out;
  for (const auto& n : numbers) out += (out.empty() ? "" : ",") + std::to_string(n);
  return out;
}

}  // namespace blockattn_test

/// First statement of a test that runs the program: says so if there is none.
#define BLOCKATTN_REQUIRE_CLI()                                            \
  if (blockattn_test::cli_path().empty()) {                                \
    WARN("skipped: BLOCKATTN_CLI does not name the program to be tested"); \
    return;                                                                \
  }
