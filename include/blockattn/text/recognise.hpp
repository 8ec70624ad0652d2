// SPDX-License-Identifier: MIT
/// Which chat template a model's file asks for, by the markers in its Jinja text.
///
/// The text is not executed. Each rule lists what must stand in it and what must not; exactly one rule has to match.
/// Anything else is an error that tells the caller to name a template, because a wrong guess is a worse model and
/// nobody sees why.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../core/json_text.hpp"
#include "../core/result.hpp"
#include "chat_template.hpp"

namespace blockattn::inline v0 {

namespace detail {

// Jinja spells one thing in many ways: quotes of both kinds, line breaks as such or as "\n", `m['content']` or
// `m.content`, blanks anywhere. Rules that look at expressions see one spelling.
[[nodiscard]] inline std::string plain_jinja(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c == '\\' && i + 1 < text.size() && text[i + 1] == 'n') {
      ++i;
      continue;
    }
    out += c == '"' ? '\'' : c;
  }
  for (std::size_t at = 0; (at = out.find("['content']", at)) != std::string::npos;) out.replace(at, 11, ".content");
  return out;
}

struct chat_rule {
  const char* name;
  std::array<const char*, 3> needs;         // in the text as it is
  std::array<const char*, 4> excludes;      // in the text as it is
  std::array<const char*, 2> needs_any;     // one of them in its plain spelling; both null: nothing
};

inline constexpr chat_rule chat_rules[] = {
    {"llama3", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}, {}, {}},
    // Phi-4 and Kimi have further markers between role and text.
    {"chatml", {"<|im_start|>", "<|im_end|>"}, {"<|im_sep|>", "<|im_middle|>"}, {}},
    {"gemma", {"<start_of_turn>", "<end_of_turn>"}, {}, {}},
    // Llama 2 and later Mistral models give the system another place.
    {"mistral-v1", {"[INST] ", " [/INST]"}, {"<<SYS>>", "[SYSTEM_PROMPT]"}, {}},
    {"mistral-v3", {"[INST] ", "[/INST]"}, {"<<SYS>>", "[SYSTEM_PROMPT]", " [/INST]"}, {}},
    {"mistral-tekken", {"[INST]", "[/INST]"}, {"<<SYS>>", "[SYSTEM_PROMPT]", " [/INST]", "[INST] "}, {}},
    // Both write <|user|>; they differ in what ends the user's turn.
    {"zephyr",
     {"<|user|>", "<|assistant|>"},
     {"<|end|>", "[gMASK]"},
     {"'<|user|>'+message.content+eos_token", "'<|user|>'+message.content+'</s>'"}},
    {"tulu",
     {"<|user|>", "<|assistant|>"},
     {"<|end|>", "[gMASK]"},
     {"'<|user|>'+message.content+''", "'<|user|>'+message.content}}"}},
};

[[nodiscard]] inline bool matches(const chat_rule& rule, std::string_view text, std::string_view plain) {
  const auto holds = [](std::string_view in, const char* what) { return in.find(what) != std::string_view::npos; };
  for (const char* need : rule.needs)
    if (need != nullptr && !holds(text, need)) return false;
  for (const char* excluded : rule.excludes)
    if (excluded != nullptr && holds(text, excluded)) return false;
  bool any = rule.needs_any[0] == nullptr;
  for (const char* need : rule.needs_any) any = any || (need != nullptr && holds(plain, need));
  return any;
}

}  // namespace detail

/// The template that a Jinja text describes. `unsupported`, if no rule or more than one fits; the message says which
/// names there are. Linear.
[[nodiscard]] inline result<chat_template> recognise_chat_template(std::string_view jinja) {
  const std::string plain = detail::plain_jinja(jinja);
  std::string names, found;
  std::size_t count = 0;
  for (const detail::chat_rule& rule : detail::chat_rules) {
    names.append(names.empty() ? "" : ", ").append(rule.name);
    if (!detail::matches(rule, jinja, plain)) continue;
    found.append(found.empty() ? "" : " and ").append(rule.name);
    ++count;
  }
  if (count == 1) return find_chat_template(found);
  return fail(errc::unsupported, "chat template: expected the markers of one of ", names, ", found ",
              count == 0 ? "none of them" : "those of " + found, "; name the template to use (--template NAME)");
}

/// The Jinja text in a Hugging Face `tokenizer_config.json`: a string, or a list of `{"name", "template"}` of which
/// "default" is taken. Errors: `bad_format` names the key; `unsupported` if there is none.
[[nodiscard]] inline result<std::string> read_chat_template(std::string_view tokenizer_config) {
  if (auto plain = detail::refuse_zero_bytes(tokenizer_config); !plain)
    return fail(errc::bad_format, "tokenizer_config: ", plain.error().message);
  const nlohmann::json config = nlohmann::json::parse(tokenizer_config.begin(), tokenizer_config.end(), nullptr, false);
  if (!config.is_object())
    return fail(errc::bad_format, "tokenizer_config: expected a JSON object, found ",
                config.is_discarded() ? "something else" : config.type_name());
  const auto none = [](const char* what) {
    return fail(errc::unsupported, "tokenizer_config: chat_template: expected a template, found ", what,
                "; name the template to use (--template NAME)");
  };
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return none("none");
  if (found->is_string()) return found->get_ref<const std::string&>();
  if (!found->is_array())
    return fail(errc::bad_format, "tokenizer_config: chat_template: expected a string or a list, found ",
                found->type_name());
  for (const nlohmann::json& entry : *found) {
    const auto name = entry.is_object() ? entry.find("name") : entry.end();
    const auto text = entry.is_object() ? entry.find("template") : entry.end();
    if (!entry.is_object() || name == entry.end() || !name->is_string() || text == entry.end() || !text->is_string())
      return fail(errc::bad_format,
                  "tokenizer_config: chat_template: expected a list of {\"name\", \"template\"}, found another element");
    if (name->get_ref<const std::string&>() == "default") return text->get_ref<const std::string&>();
  }
  return none("a list without \"default\"");
}

}  // namespace blockattn::inline v0
