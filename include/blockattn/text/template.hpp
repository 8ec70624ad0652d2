// SPDX-License-Identifier: MIT
/// Prompt templates as data: how passages and a question become the blocks of a prompt.
///
/// A model answers well only in the template it was trained with, to the character. The paper's is here byte for byte
/// (paper: the RAG template of the authors' published model).
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "passages.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

/// Texts with places to fill: `{title}` and `{text}` in a passage, `{question}` in the final block. Other braces stand
/// for themselves.
struct prompt_template {
  std::string name;
  std::string preamble;  ///< block 0, attending to itself alone like every block but the last; empty: there is none
  std::string passage;   ///< one block for each passage
  std::string question;  ///< the final block, which attends to everything
  bool bos = false;      ///< block 0 begins with the begin token, where the tokenizer adds one
  bool strip = true;     ///< whitespace around a passage's text is dropped

  friend bool operator==(const prompt_template&, const prompt_template&) = default;
};

/// A prompt in blocks. Their concatenation is the whole prompt.
struct rendered_prompt {
  std::string preamble;
  std::vector<std::string> passages;
  std::string final;

  /// The prompt as one text, for full attention.
  [[nodiscard]] std::string joined() const {
    std::string out = preamble;
    for (const std::string& p : passages) out += p;
    return out += final;
  }
};

namespace detail {

// Fills in one pass over the pattern: a value that itself contains "{text}" stays as it is.
inline std::string filled(std::string_view pattern,
                          std::initializer_list<std::pair<std::string_view, std::string_view>> values) {
  std::string out;
  while (!pattern.empty()) {
    const std::size_t brace = pattern.find('{');
    out.append(pattern.substr(0, brace));
    if (brace == std::string_view::npos) break;
    pattern.remove_prefix(brace);
    std::size_t used = 1;
    std::string_view value = pattern.substr(0, 1);
    for (const auto& [name, text] : values) {
      if (pattern.substr(0, name.size()) == name) {
        used = name.size();
        value = text;
      }
    }
    out.append(value);
    pattern.remove_prefix(used);
  }
  return out;
}

}  // namespace detail

/// One passage as a block.
[[nodiscard]] inline std::string render(const prompt_template& t, const passage& p) {
  const std::string_view text = t.strip ? stripped(p.text) : std::string_view(p.text);
  return detail::filled(t.passage, {{"{title}", p.title}, {"{text}", text}});
}

/// The whole prompt. The order of the passages is the caller's; the paper puts the most relevant first.
[[nodiscard]] inline rendered_prompt render(const prompt_template& t, std::span<const passage> passages,
                                            std::string_view question) {
  rendered_prompt out;
  out.preamble = t.preamble;
  out.passages.reserve(passages.size());
  for (const passage& p : passages) out.passages.push_back(render(t, p));
  out.final = detail::filled(t.question, {{"{question}", question}});
  return out;
}

/// The templates of the library: `paper` and `plain`.
[[nodiscard]] inline std::vector<prompt_template> prompt_templates() {
  std::vector<prompt_template> out(2);
  // The words of Tulu3-Block-FT. Its instruction stands in the user's turn and nothing begins the sequence.
  out[0].name = "paper";
  out[0].preamble =
      "<|user|>\nYou are an intelligent AI assistant. Please answer questions based on the user's instructions. Below "
      "are some reference documents that may help you in answering the user's question.\n\n";
  out[0].passage = "- Title: {title}\n{text}\n";
  out[0].question =
      "\n\nPlease write a high-quality answer for the given question using only the provided search documents (some of "
      "which might be irrelevant).\nQuestion: {question}\n<|assistant|>\n";
  // For models without an instruction format.
  out[1].name = "plain";
  out[1].preamble = "Answer the question from the passages.\n\n";
  out[1].passage = "{title}\n{text}\n\n";
  out[1].question = "Question: {question}\nAnswer:";
  out[1].bos = true;
  return out;
}

/// A template by name. An unknown name is `invalid_argument`; the message lists the known ones.
[[nodiscard]] inline result<prompt_template> find_template(std::string_view name) {
  std::string known;
  for (prompt_template& t : prompt_templates()) {
    if (t.name == name) return std::move(t);
    known.append(known.empty() ? "" : ", ").append(t.name);
  }
  return fail(errc::invalid_argument, "template: expected one of ", known, ", found \"", name.substr(0, 64), "\"");
}

}  // namespace blockattn::inline v0
