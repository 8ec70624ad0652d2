// SPDX-License-Identifier: MIT
/// Prompt templates as data: how passages and a question become the blocks of a prompt.
///
/// A model answers well only in the template it was trained with, to the character. The paper's is here byte for byte
/// (paper: the RAG template of the authors' published model).
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "chat_template.hpp"
#include "marked_text.hpp"
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
  bool bos_always = false;                ///< block 0 begins with it even where the tokenizer would not add one
  std::string answer = "{answer}";        ///< an answer as it goes on behind the final block
  std::string again = {};                 ///< ends an answer and opens the next turn: preamble of a later question
  std::string question_again = {};        ///< the final block of a later question
  std::vector<std::string> markers = {};  ///< what is one token, if the vocabulary has it (marked_text.hpp)
  std::string eos = {};                   ///< the marker that stands for the vocabulary's own end token

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

/// A prompt in blocks whose markers are known: what `encode_prompt` (prompt.hpp) turns into tokens.
struct marked_prompt {
  marked_text preamble;
  std::vector<marked_text> passages;
  marked_text final;
};

/// One passage as a block.
[[nodiscard]] inline marked_text render_marked(const prompt_template& t, const passage& p) {
  const std::string_view text = t.strip ? stripped(p.text) : std::string_view(p.text);
  return detail::filled(t.passage, {{"{title}", p.title}, {"{text}", text}}, t.markers);
}
[[nodiscard]] inline std::string render(const prompt_template& t, const passage& p) {
  return render_marked(t, p).text;
}

/// Which question of a conversation a prompt asks.
enum class turn_kind : std::uint8_t {
  first,  ///< the prompt begins the sequence
  later   ///< it follows an answer: its preamble ends the answer and opens the next turn
};

/// The whole prompt. The order of the passages is the caller's; the paper puts the most relevant first.
[[nodiscard]] inline marked_prompt render_marked(const prompt_template& t, std::span<const passage> passages,
                                                 std::string_view question, turn_kind turn = turn_kind::first) {
  const bool later = turn == turn_kind::later;
  marked_prompt out;
  out.preamble.add_template(later ? t.again : t.preamble, t.markers);
  out.passages.reserve(passages.size());
  for (const passage& p : passages) out.passages.push_back(render_marked(t, p));
  out.final = detail::filled(later ? t.question_again : t.question, {{"{question}", question}}, t.markers);
  return out;
}
[[nodiscard]] inline rendered_prompt render(const prompt_template& t, std::span<const passage> passages,
                                            std::string_view question, turn_kind turn = turn_kind::first) {
  marked_prompt marked = render_marked(t, passages, question, turn);
  rendered_prompt out;
  out.preamble = std::move(marked.preamble.text);
  for (marked_text& p : marked.passages) out.passages.push_back(std::move(p.text));
  out.final = std::move(marked.final.text);
  return out;
}

/// The words around passages and question, without any turn.
struct prompt_words {
  std::string preamble, passage, question;
};

/// The paper's (PAPER 1.3), and those of `plain`.
[[nodiscard]] inline prompt_words paper_words() {
  return {"You are an intelligent AI assistant. Please answer questions based on the user's instructions. Below are some "
          "reference documents that may help you in answering the user's question.\n\n",
          "- Title: {title}\n{text}\n",
          "\n\nPlease write a high-quality answer for the given question using only the provided search documents (some "
          "of which might be irrelevant).\nQuestion: {question}"};
}
[[nodiscard]] inline prompt_words plain_words() {
  return {"Answer the question from the passages.\n\n", "{title}\n{text}\n\n", "{question}"};
}

/// A question over passages in the turns of a chat. Preamble and passages stand in the system's turn, where there is
/// one (the paper's first form, for Llama 3), or else before the question in the user's (its form for Tulu).
[[nodiscard]] inline prompt_template make_prompt_template(const chat_template& chat, const prompt_words& words) {
  const std::string_view bare = std::string_view(words.question).substr(
      std::min(words.question.find_first_not_of('\n'), words.question.size()));
  prompt_template t;
  t.name = chat.name;
  t.passage = words.passage;
  if (chat.passages_in_system) {
    t.preamble = chat.system.before + words.preamble;
    t.question = chat.system.after + chat.user.before + std::string(bare);
    // `plain` has nothing between the turns: its words end with the empty line that ends a system's turn.
    if (chat.system.before.empty()) t.question = chat.user.before + std::string(bare);
  } else {
    t.preamble = chat.user.before + words.preamble;
    t.question = words.question;
  }
  t.question += chat.user.after + chat.generation;
  t.again = chat.assistant.after + chat.next + chat.user.before;
  t.question_again = std::string(bare) + chat.user.after + chat.generation;
  t.answer = chat.assistant.before.substr(chat.generation.size()) + "{answer}";
  t.bos = chat.bos;
  t.bos_always = chat.bos_always;
  t.markers = chat.markers;
  t.eos = chat.eos;
  return t;
}
[[nodiscard]] inline prompt_template make_prompt_template(const chat_template& chat) {
  return make_prompt_template(chat, chat.name == "plain" ? plain_words() : paper_words());
}

/// The templates of the library: `paper`, `plain`, and one for each other chat template. `tulu` is `paper`.
[[nodiscard]] inline std::vector<prompt_template> prompt_templates() {
  std::vector<prompt_template> out;
  for (const chat_template& chat : chat_templates()) {
    out.push_back(make_prompt_template(chat));
    if (chat.name == "tulu") out.back().name = "paper";
  }
  return out;
}

/// A template by name. `tulu` is `paper`, `qwen` is `chatml`. An unknown name is `invalid_argument`; the message lists
/// the known ones.
[[nodiscard]] inline result<prompt_template> find_template(std::string_view name) {
  const std::string_view meant = name == "tulu" ? "paper" : name == "qwen" ? "chatml" : name;
  std::string known;
  for (prompt_template& t : prompt_templates()) {
    if (t.name == meant) return std::move(t);
    known.append(known.empty() ? "" : ", ").append(t.name);
  }
  return fail(errc::invalid_argument, "template: expected one of ", known, ", found \"", name.substr(0, 64), "\"");
}

}  // namespace blockattn::inline v0
