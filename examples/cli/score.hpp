// SPDX-License-Identifier: MIT
/// What `score` finds out about a sample, and the file in which it is kept: one JSON object a line, written whole and
/// flushed, so that a run that was killed goes on where it stopped.
#pragma once

#include <blockattn/core/hash.hpp>
#include <blockattn/text/answer_match.hpp>
#include <blockattn/text/dataset.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

namespace cli {

namespace ba = blockattn;

/// -log softmax(logits)[id], in double.
inline double negative_log_likelihood(std::span<const float> logits, ba::token id) {
  double top = logits[0], sum = 0;
  for (const float x : logits) top = std::max(top, static_cast<double>(x));
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  return top + std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
}

struct outcome {
  bool right = false;  // best_subspan_em
  bool exact = false;
  double nll = 0;  // of all tokens of the first answer
  std::size_t tokens = 0;
  std::string output;  // valid UTF-8
};

/// A line of a results file. The key says what was computed: model, settings, tokens of the prompt, answers.
inline nlohmann::ordered_json result_line(const std::string& key, std::size_t index, const ba::sample& s,
                                          const outcome& one) {
  return {{"key", key},
          {"index", index},
          {"question", s.question},
          {"answers", s.answers},
          {"output", one.output},
          {"best_subspan_em", one.right},
          {"exact_match", one.exact},
          {"nll", one.nll},
          {"tokens", one.tokens}};
}

/// A file of such lines, open for appending.
class result_log {
 public:
  /// Begins a new file.
  static ba::result<result_log> create(const std::string& file) { return open(file, "wb"); }

  /// Goes on with a file, or begins it, whatever it holds.
  static ba::result<result_log> append(const std::string& file) { return open(file, "ab"); }

  /// Goes on with a file, or begins it; `known` gets what it holds, by key. A last line without its end is the trace of
  /// a run that was killed: it is cut off. Errors: `io`; `bad_format` names another line that is no result.
  static ba::result<result_log> resume(const std::string& file, std::map<std::string, outcome>& known) {
    std::error_code code;
    if (std::filesystem::exists(file, code)) {
      const auto text = ba::read_file(file);
      if (!text) return text.error();
      const std::size_t whole = text->rfind('\n') + 1;  // 0, if there is no line
      std::string_view lines = std::string_view(*text).substr(0, whole);
      for (std::size_t number = 1; !lines.empty(); ++number) {
        const std::size_t end = lines.find('\n');
        if (!read_line(lines.substr(0, end), known))
          return ba::fail(ba::errc::bad_format, file, ", line ", number,
                          ": expected a result of an earlier run, found something else");
        lines.remove_prefix(end + 1);
      }
      if (whole != text->size()) {
        std::filesystem::resize_file(file, whole, code);
        if (code) return ba::fail(ba::errc::io, file, ": cannot cut off the last line: ", code.message());
      }
    }
    return open(file, "ab");
  }

  /// Adds a line; it is with the system when this returns.
  ba::result<void> add(const nlohmann::ordered_json& line) {
    const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() && std::fflush(file_.get()) == 0) return {};
    return ba::fail(ba::errc::io, name_, ": cannot write");
  }

 private:
  struct closer {
    void operator()(std::FILE* f) const noexcept { std::fclose(f); }
  };
  result_log(std::string name, std::FILE* f) : name_(std::move(name)), file_(f) {}

  static ba::result<result_log> open(const std::string& file, const char* mode) {
    if (std::FILE* f = std::fopen(file.c_str(), mode)) return result_log(file, f);
    return ba::fail(ba::errc::io, file, ": cannot be opened for writing");
  }
  static bool read_line(std::string_view line, std::map<std::string, outcome>& known) {
    const auto o = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!o.is_object() || line.find('\0') != std::string_view::npos) return false;
    for (const auto& [name, valid] : {std::pair{"key", &nlohmann::json::is_string},
                                      std::pair{"output", &nlohmann::json::is_string},
                                      std::pair{"best_subspan_em", &nlohmann::json::is_boolean},
                                      std::pair{"exact_match", &nlohmann::json::is_boolean},
                                      std::pair{"nll", &nlohmann::json::is_number},
                                      std::pair{"tokens", &nlohmann::json::is_number_unsigned}})
      if (!o.contains(name) || !(o[name].*valid)()) return false;
    known[o["key"].get<std::string>()] = {o["best_subspan_em"].get<bool>(), o["exact_match"].get<bool>(),
                                          o["nll"].get<double>(), o["tokens"].get<std::size_t>(),
                                          o["output"].get<std::string>()};
    return true;
  }

  std::string name_;
  std::unique_ptr<std::FILE, closer> file_;
};

}  // namespace cli
