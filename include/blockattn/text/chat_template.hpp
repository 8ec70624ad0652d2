// SPDX-License-Identifier: MIT
/// Chat templates as data: what stands around the messages of a conversation.
///
/// A model answers well only in the form it was trained with, to the character. The forms here are those that the
/// models' authors publish; a file's own Jinja text is never executed, but recognised (`recognise.hpp`).
///
///     const auto form = find_chat_template("llama3").value();
///     const auto turns = render_turns(form, {{chat_role::user, "Hello"}}).value();
///     const auto ids = encode(words, turns.back(), options_of(form, words, true));
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "marked_text.hpp"
#include "utf8.hpp"

namespace blockattn::inline v0 {

enum class chat_role : std::uint8_t { system, user, assistant };

[[nodiscard]] constexpr const char* to_string(chat_role role) noexcept {
  return role == chat_role::system ? "system" : role == chat_role::user ? "user" : "assistant";
}

struct chat_message {
  chat_role role = chat_role::user;
  std::string content;

  friend bool operator==(const chat_message&, const chat_message&) = default;
};

/// What stands before and after a message of each role.
struct chat_template {
  struct turn {
    std::string before, after;

    friend bool operator==(const turn&, const turn&) = default;
  };
  /// Where a system message stands.
  enum class system_place : std::uint8_t {
    own_turn,    ///< in a turn of its own
    before_user  ///< at the start of the first user's turn, `system.after` behind it
  };

  std::string name;
  turn system, user, assistant;
  std::string next;        ///< after an answer, if anything follows it
  std::string generation;  ///< opens the answer that the model is to write
  system_place place = system_place::own_turn;
  bool passages_in_system = true;  ///< a prompt's passages stand in the system's turn, the question in the user's
  bool trim = false;               ///< whitespace around a message is dropped
  bool trim_answer = false;        ///< around an assistant's message
  bool bos = true;                 ///< the sequence begins with the begin token, where the tokenizer adds one
  bool bos_always = false;         ///< the template writes the begin token itself: also where the tokenizer would not
  std::vector<std::string> markers = {};  ///< what is one token, if the vocabulary has it
  std::string eos = {};            ///< the marker that stands for the vocabulary's own end token

  friend bool operator==(const chat_template&, const chat_template&) = default;
};

/// The templates of the library. `tulu` is the paper's (PAPER 1.3): nothing begins the sequence, a passage stands in
/// the user's turn. `plain` is for models without an instruction format.
[[nodiscard]] inline std::vector<chat_template> chat_templates() {
  using place = chat_template::system_place;
  std::vector<chat_template> out;
  const auto add = [&out](const char* name) -> chat_template& {
    out.emplace_back().name = name;
    return out.back();
  };
  {
    chat_template& t = add("tulu");
    t.system = {"<|system|>\n", "\n"};
    t.user = {"<|user|>\n", "\n"};
    t.assistant = {"<|assistant|>\n", "<|end_of_text|>"};
    t.next = "\n";
    t.generation = t.assistant.before;
    t.passages_in_system = false;
    t.bos = false;
    t.markers = {"<|system|>", "<|user|>", "<|assistant|>", "<|end_of_text|>"};
    t.eos = "<|end_of_text|>";
  }
  {
    chat_template& t = add("plain");
    t.system = {"", "\n\n"};
    t.user = {"Question: ", "\n"};
    t.assistant = {"Answer: ", ""};
    t.next = "\n\n";
    t.generation = "Answer:";
  }
  {
    chat_template& t = add("llama3");
    t.system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"};
    t.user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"};
    t.assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"};
    t.generation = t.assistant.before;
    t.trim = true;
    t.bos_always = true;
    t.markers = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
  }
  {
    chat_template& t = add("chatml");
    t.system = {"<|im_start|>system\n", "<|im_end|>\n"};
    t.user = {"<|im_start|>user\n", "<|im_end|>\n"};
    t.assistant = {"<|im_start|>assistant\n", "<|im_end|>"};
    t.next = "\n";
    t.generation = t.assistant.before;
    t.markers = {"<|im_start|>", "<|im_end|>"};
  }
  // Mistral's three: text markers with spaces around them; tokens with a space behind them; tokens alone.
  for (const auto& [name, open, close, answer] :
       {std::array{"mistral-v1", "[INST] ", " [/INST]", " "}, std::array{"mistral-v3", "[INST] ", "[/INST]", " "},
        std::array{"mistral-tekken", "[INST]", "[/INST]", ""}}) {
    chat_template& t = add(name);
    t.system = {"", "\n\n"};
    t.user = {open, close};
    t.assistant = {answer, "</s>"};
    t.place = place::before_user;
    t.passages_in_system = false;
    t.trim_answer = true;
    t.bos_always = true;
    t.markers = {"[INST]", "[/INST]", "</s>"};
    t.eos = "</s>";
  }
  {
    chat_template& t = add("gemma");
    t.system = {"", "\n\n"};
    t.user = {"<start_of_turn>user\n", "<end_of_turn>\n"};
    t.assistant = {"<start_of_turn>model\n", "<end_of_turn>"};
    t.next = "\n";
    t.generation = t.assistant.before;
    t.place = place::before_user;
    t.passages_in_system = false;
    t.trim = true;
    t.bos_always = true;
    t.markers = {"<start_of_turn>", "<end_of_turn>"};
  }
  {
    chat_template& t = add("zephyr");
    t.system = {"<|system|>\n", "</s>\n"};
    t.user = {"<|user|>\n", "</s>\n"};
    t.assistant = {"<|assistant|>\n", "</s>"};
    t.next = "\n";
    t.generation = t.assistant.before;
    t.markers = {"<|system|>", "<|user|>", "<|assistant|>", "</s>"};
    t.eos = "</s>";
  }
  return out;
}

/// A chat template by name; `qwen` is `chatml`. An unknown name is `invalid_argument`; the message lists the known.
[[nodiscard]] inline result<chat_template> find_chat_template(std::string_view name) {
  std::string known;
  for (chat_template& t : chat_templates()) {
    if (t.name == (name == "qwen" ? std::string_view("chatml") : name)) return std::move(t);
    known.append(known.empty() ? "" : ", ").append(t.name);
  }
  return fail(errc::invalid_argument, "chat template: expected one of ", known, ", found \"", name.substr(0, 64), "\"");
}

/// Whether a text spells one of the template's markers. It would stay text in any case; but a marker that is no token
/// of the vocabulary is text itself, and there a program may want to refuse such a document.
[[nodiscard]] inline bool spells_marker(const chat_template& t, std::string_view text) {
  return std::any_of(t.markers.begin(), t.markers.end(),
                     [&](const std::string& m) { return text.find(m) != std::string_view::npos; });
}

/// How to encode a text rendered by `t`; `first`: it begins the sequence. Borrows from `t`.
[[nodiscard]] inline marked_options options_of(const chat_template& t, const tokenizer& words, bool first) {
  return {.bos = first && (t.bos_always || (t.bos && words.add_bos())), .markers = t.markers, .eos = t.eos};
}

/// Each message with what stands around it; behind the last, if it is the user's, what opens the answer. Joined, they
/// are the prompt.
///
/// Messages are: perhaps one of the system, then user and assistant in turn. `invalid_argument` names the first that
/// is out of place; there must be one of the user.
[[nodiscard]] inline result<std::vector<marked_text>> render_messages(const chat_template& t,
                                                                      std::span<const chat_message> messages) {
  std::vector<marked_text> out;
  out.reserve(messages.size());
  chat_role expected = chat_role::user;
  bool opened = false;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const chat_message& m = messages[i];
    if (m.role == chat_role::system ? i != 0 : m.role != expected)
      return fail(errc::invalid_argument, "chat: message ", i, ": expected one of the ", to_string(expected),
                  ", found one of the ", to_string(m.role));
    const bool answer = m.role == chat_role::assistant;
    const bool last = i + 1 == messages.size();
    const std::string_view content = t.trim || (answer && t.trim_answer) ? stripped(m.content) : m.content;
    marked_text& text = out.emplace_back();
    if (m.role == chat_role::system) {
      opened = t.place == chat_template::system_place::before_user;
      text.add_template(opened ? t.user.before + t.system.before : t.system.before, t.markers);
      text.add_text(content).add_template(t.system.after, t.markers);
      continue;
    }
    const chat_template::turn& around = answer ? t.assistant : t.user;
    if (!std::exchange(opened, false)) text.add_template(around.before, t.markers);
    text.add_text(content).add_template(around.after, t.markers);
    if (answer && !last) text.add_template(t.next, t.markers);
    if (!answer && last) text.add_template(t.generation, t.markers);
    expected = answer ? chat_role::user : chat_role::assistant;
  }
  if (messages.empty() || messages.back().role == chat_role::system)
    return fail(errc::invalid_argument, "chat: expected a message of the user, found ", messages.size(), " messages");
  return out;
}

/// A conversation in blocks, one for each turn (PAPER 1.2): the system's message; each user's message with its answer;
/// and the user's last with what opens the answer, which is the final block.
[[nodiscard]] inline result<std::vector<marked_text>> render_turns(const chat_template& t,
                                                                   std::span<const chat_message> messages) {
  auto each = render_messages(t, messages);
  if (!each) return std::move(each).error();
  std::vector<marked_text> out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == chat_role::assistant)
      out.back().add((*each)[i]);
    else
      out.push_back(std::move((*each)[i]));
  }
  return out;
}

}  // namespace blockattn::inline v0
