// SPDX-License-Identifier: MIT
/// Questions over passages with their answers, in the formats in which the evaluation sets of the paper are published.
///
/// | format | a record | from |
/// |---|---|---|
/// | `lines` | `passages` or `documents` (`title`, `text`); `question`, `answers`, perhaps `kind`; or `questions`, a list of those | ours; the paper's own prepared sets |
/// | `nq` | `question`, `answers` or `answer`, `ctxs` (`title`, `text`) | NQ-open with passages, FiD and DPR |
/// | `tqa` | as `nq`; or `Question`, `Answer.Value`, `.Aliases`, `SearchResults` (`Title`, `Description`) | TriviaQA |
/// | `hotpotqa`, `2wiki` | `question`, `answer`, `context` (`[title, [sentence, ...]]`, or that as a string) | HotpotQA, 2WikiMultihopQA |
/// | `musique` | `question`, `answer`, `answer_aliases`, `paragraphs` (`title`, `paragraph_text`) | MuSiQue |
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../core/json_text.hpp"
#include "../core/result.hpp"
#include "json_records.hpp"
#include "passages.hpp"
#include "read_file.hpp"

namespace blockattn::inline v0 {

/// A question, the passages it is asked over, and every answer that counts as right; the first is the main one.
struct sample {
  std::vector<passage> passages;
  std::string question;
  std::vector<std::string> answers;
  std::string kind = {};  ///< `lines` only: what sort of question it is, for accuracy by kind; empty: nothing is said

  friend bool operator==(const sample&, const sample&) = default;
};

enum class dataset_format : std::uint8_t { automatic, lines, nq, tqa, hotpotqa, wiki2, musique };

/// A format by its name in the table above; `auto` is `automatic`. Errors: `invalid_argument` lists the names.
[[nodiscard]] inline result<dataset_format> find_dataset_format(std::string_view name) {
  constexpr std::array<const char*, 7> names{"auto", "lines", "nq", "tqa", "hotpotqa", "2wiki", "musique"};
  std::string known;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<dataset_format>(i);
    known.append(i == 0 ? "" : ", ").append(names[i]);
  }
  return fail(errc::invalid_argument, "format: expected one of ", known, ", found \"", name.substr(0, 64), "\"");
}

namespace detail {

// One record. The first error stays; what is read after it does not count.
class record_reader {
 public:
  explicit record_reader(std::size_t line) : line_(line) {}

  std::optional<failure> error;

  void complain(const std::string& key, const char* expected, const char* found) {
    if (!error)
      error = fail(errc::bad_format, "line ", line_, key.empty() ? "" : ": ", key, ": expected ", expected, ", found ",
                   found);
  }
  // A member of an object, or null and an error. `where` is the path of the object, for messages.
  const nlohmann::json* need(const nlohmann::json& object, const char* key, const std::string& where = {}) {
    if (!object.is_object()) {
      complain(where, "an object", object.type_name());
      return nullptr;
    }
    const auto found = object.find(key);
    if (found == object.end()) {
      complain(where + key, "a member", "none");
      return nullptr;
    }
    return &*found;
  }
  std::string text(const nlohmann::json* value, const std::string& where) {
    if (value == nullptr) return {};
    if (value->is_string()) return value->get_ref<const std::string&>();
    complain(where, "a string", value->type_name());
    return {};
  }
  std::string text_of(const nlohmann::json& object, const char* key, const std::string& where = {}) {
    return text(need(object, key, where), where + key);
  }
  // A member that may be absent or null.
  std::string perhaps(const nlohmann::json& object, const char* key, const std::string& where = {}) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || found == object.end() || found->is_null()) return {};
    return text(&*found, where + key);
  }
  // Calls f(element, path) for each element of a list.
  template <class F>
  void each(const nlohmann::json* list, const std::string& where, F&& f) {
    if (list == nullptr) return;
    if (!list->is_array()) return complain(where, "a list", list->type_name());
    for (std::size_t i = 0; i < list->size() && !error; ++i) f((*list)[i], where + "[" + std::to_string(i) + "]");
  }
  void passages_of(const nlohmann::json& o, const char* key, const char* title, const char* body, sample& s) {
    each(need(o, key), key, [&](const nlohmann::json& p, const std::string& at) {
      std::string name = perhaps(p, title, at + ".");
      s.passages.push_back({std::move(name), text_of(p, body, at + ".")});
    });
  }
  void add_answer(sample& s, std::string answer) {
    if (std::find(s.answers.begin(), s.answers.end(), answer) == s.answers.end()) s.answers.push_back(std::move(answer));
  }
  void answers_of(const nlohmann::json& o, const char* key, sample& s, const std::string& where = {}) {
    each(need(o, key, where), where + key,
         [&](const nlohmann::json& a, const std::string& at) { add_answer(s, text(&a, at)); });
  }

 private:
  std::size_t line_;
};

[[nodiscard]] inline dataset_format guess_format(const nlohmann::json& o) {
  const auto has = [&](const char* key) { return o.is_object() && o.contains(key); };
  if (has("ctxs")) return dataset_format::nq;
  if (has("context")) return dataset_format::hotpotqa;
  if (has("paragraphs")) return dataset_format::musique;
  if (has("Question")) return dataset_format::tqa;
  return dataset_format::lines;
}

inline void read_context(record_reader& r, const nlohmann::json& o, sample& s) {
  const nlohmann::json* context = r.need(o, "context");
  nlohmann::json inner;
  // In the Parquet form of 2WikiMultihopQA the list is a string.
  if (context != nullptr && context->is_string()) {
    const std::string& text = context->get_ref<const std::string&>();
    inner = nlohmann::json::parse(text, nullptr, false);
    if (inner.is_discarded() || !refuse_zero_bytes(text)) return r.complain("context", "JSON", "another text");
    context = &inner;
  }
  r.each(context, "context", [&](const nlohmann::json& p, const std::string& at) {
    if (!p.is_array() || p.size() != 2) return r.complain(at, "[title, sentences]", p.type_name());
    passage out;
    out.title = r.text(&p[0], at + "[0]");
    // Joined as they are: HotpotQA's sentences bring their spaces, and the paper's data were made this way.
    r.each(&p[1], at + "[1]",
           [&](const nlohmann::json& sentence, const std::string& where) { out.text += r.text(&sentence, where); });
    s.passages.push_back(std::move(out));
  });
}

inline void read_passages_of(record_reader& r, const nlohmann::json& o, sample& s) {
  r.passages_of(o, o.is_object() && o.contains("documents") && !o.contains("passages") ? "documents" : "passages", "title",
                "text", s);
}

// A record of format `lines` with many questions over the same passages.
inline void read_questions(record_reader& r, const nlohmann::json& o, std::vector<sample>& out) {
  sample shared;
  read_passages_of(r, o, shared);
  r.each(r.need(o, "questions"), "questions", [&](const nlohmann::json& q, const std::string& at) {
    sample s = shared;
    s.question = r.text_of(q, "question", at + ".");
    r.answers_of(q, "answers", s, at + ".");
    s.kind = r.perhaps(q, "kind", at + ".");
    if (s.answers.empty()) r.complain(at + ".answers", "at least one", "none");
    if (!r.error) out.push_back(std::move(s));
  });
}

[[nodiscard]] inline sample read_record(record_reader& r, const nlohmann::json& o, dataset_format format) {
  sample s;
  const bool old_trivia = format == dataset_format::tqa && o.is_object() && o.contains("Question");
  s.question = r.text_of(o, old_trivia ? "Question" : "question");
  if (old_trivia) {
    if (const nlohmann::json* answer = r.need(o, "Answer")) {
      r.add_answer(s, r.text_of(*answer, "Value", "Answer."));
      if (answer->is_object() && answer->contains("Aliases")) r.answers_of(*answer, "Aliases", s, "Answer.");
    }
    if (o.contains("SearchResults")) r.passages_of(o, "SearchResults", "Title", "Description", s);
    return s;
  }
  switch (format) {
    case dataset_format::nq:
    case dataset_format::tqa:
      if (o.is_object() && !o.contains("answers") && o.contains("answer"))
        r.add_answer(s, r.text_of(o, "answer"));
      else
        r.answers_of(o, "answers", s);
      r.passages_of(o, "ctxs", "title", "text", s);
      break;
    case dataset_format::hotpotqa:
    case dataset_format::wiki2:
      r.add_answer(s, r.text_of(o, "answer"));
      read_context(r, o, s);
      break;
    case dataset_format::musique:
      r.add_answer(s, r.text_of(o, "answer"));
      if (o.is_object() && o.contains("answer_aliases")) r.answers_of(o, "answer_aliases", s);
      r.passages_of(o, "paragraphs", "title", "paragraph_text", s);
      break;
    default:
      r.answers_of(o, "answers", s);
      s.kind = r.perhaps(o, "kind");
      read_passages_of(r, o, s);
  }
  if (s.answers.empty()) r.complain("answers", "at least one", "none");
  return s;
}

}  // namespace detail

/// The samples of a file. With `automatic`, the first record decides by its members. Errors: `bad_format` names line,
/// member, what was expected and found; `unsupported` for gzip data. Linear.
[[nodiscard]] inline result<std::vector<sample>> read_dataset(std::string_view text,
                                                              dataset_format format = dataset_format::automatic) {
  if (text.substr(0, 2) == "\x1F\x8B")
    return fail(errc::unsupported, "expected JSON, found gzip data; gunzip it first");
  std::vector<sample> out;
  auto done = for_each_json_record(text, [&](std::string_view record, std::size_t line) -> result<void> {
    const nlohmann::json o = nlohmann::json::parse(record.begin(), record.end(), nullptr, false);
    detail::record_reader r(line);
    if (o.is_discarded() || !detail::refuse_zero_bytes(record)) {
      r.complain("", "JSON", "something else");
    } else if (!o.is_object()) {
      r.complain("", "an object", o.type_name());
    } else {
      if (format == dataset_format::automatic) format = detail::guess_format(o);
      if (format == dataset_format::lines && o.contains("questions")) {
        detail::read_questions(r, o, out);
      } else {
        sample s = detail::read_record(r, o, format);
        if (!r.error) out.push_back(std::move(s));
      }
    }
    if (r.error) return *std::move(r.error);
    return {};
  });
  if (!done) return std::move(done).error();
  return out;
}

/// The same from a file. Errors name it.
[[nodiscard]] inline result<std::vector<sample>> open_dataset(const std::filesystem::path& file,
                                                              dataset_format format = dataset_format::automatic) {
  const auto bytes = read_file(file);
  if (!bytes) return bytes.error();
  auto samples = read_dataset(*bytes, format);
  if (!samples) return fail(samples.error().code, file.string(), ": ", samples.error().message);
  return samples;
}

}  // namespace blockattn::inline v0
