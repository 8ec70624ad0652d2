// SPDX-License-Identifier: MIT
// A model's own Jinja text names its template by its markers; what is not known for certain is an error.
#include <blockattn/text/recognise.hpp>

#include <nlohmann/json.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("templates are recognised by their markers", "[text]") {
  const std::pair<const char*, const char*> known[] = {
      {"{{bos_token}}{%for m in messages%}{{'<|start_header_id|>'+m.role+'<|end_header_id|>\\n\\n'+m.content|trim+"
       "'<|eot_id|>'}}{%endfor%}",
       "llama3"},
      {"{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>'}}{% endfor %}", "chatml"},
      {"{{bos_token}}{{'<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n'}}", "gemma"},
      {"{{ bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}{{ message['content'] + eos_token }}", "mistral-v1"},
      {"{{ \"[INST] \" + message[\"content\"] + \"[/INST]\" }}{{ \" \" + content + eos_token }}", "mistral-v3"},
      {"{{ \"[INST]\" + message[\"content\"] + \"[/INST]\" }}{{ content + eos_token }}", "mistral-tekken"},
      // The same form, with line breaks as such or as an escape, in both kinds of quotes.
      {"{{ '<|user|>\n' + message['content'] + eos_token }}{{ '<|assistant|>\n' }}", "zephyr"},
      {"{{ \"<|user|>\\n\" + message[\"content\"] + eos_token }}{{ \"<|assistant|>\\n\" }}", "zephyr"},
      {"{{ '<|user|>\\n' + message.content + '</s>\\n' }}{{ '<|assistant|>\\n' }}", "zephyr"},
      {"{{ '<|user|>\\n' + message['content'] + '\\n' }}{{ '<|assistant|>\\n' + message['content'] + eos_token }}", "tulu"},
  };
  for (const auto& [jinja, name] : known) {
    INFO(jinja);
    const auto t = ba::recognise_chat_template(jinja);
    if (!t) FAIL_CHECK(t.error().message);
    if (t) CHECK(t->name == name);
  }
}

TEST_CASE("what is not recognised for certain is an error with the way out", "[text]") {
  for (const char* jinja :
       {"", "{{ messages }}", "<|im_start|>", "{{'<|im_start|>' + role + '<|im_sep|>' + content + '<|im_end|>'}}",
        "[INST] <<SYS>>\n{{ s }}\n<</SYS>>\n\n{{ u }} [/INST]", "[SYSTEM_PROMPT] {{s}}[/SYSTEM_PROMPT][INST] {{u}}[/INST]",
        "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>'}}",
        "[gMASK]<sop><|user|>\n{{ c }}<|assistant|>", "<|start_header_id|>{{role}}<|end_header_id|>{{c}}<|im_end|>",
        // Two at once.
        "<|start_header_id|><|end_header_id|><|eot_id|> <|im_start|><|im_end|>"}) {
    const auto t = ba::recognise_chat_template(jinja);
    INFO(jinja);
    REQUIRE_FALSE(t);
    CHECK(t.error().code == ba::errc::unsupported);
    CHECK(t.error().message.find("--template NAME") != std::string::npos);
    CHECK(t.error().message.find("llama3, chatml, gemma") != std::string::npos);
  }
  const auto two = ba::recognise_chat_template("<|start_header_id|><|end_header_id|><|eot_id|><|im_start|><|im_end|>");
  CHECK(two.error().message.find("found those of llama3 and chatml") != std::string::npos);
}

TEST_CASE("tokenizer_config.json holds one template, or a list", "[text]") {
  CHECK(ba::read_chat_template("{\"chat_template\": \"a\\nb\", \"x\": 1}").value() == "a\nb");
  CHECK(ba::read_chat_template("{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"},"
                               "{\"name\": \"default\", \"template\": \"d\"}]}")
            .value() == "d");
  struct bad {
    const char* text;
    ba::errc code;
    const char* what;
  };
  const bad cases[] = {
      {"", ba::errc::bad_format, "JSON object"},
      {"[]", ba::errc::bad_format, "found array"},
      {"{}", ba::errc::unsupported, "found none"},
      {"{\"chat_template\": null}", ba::errc::unsupported, "--template"},
      {"{\"chat_template\": 7}", ba::errc::bad_format, "found number"},
      {"{\"chat_template\": []}", ba::errc::unsupported, "without \"default\""},
      {"{\"chat_template\": [7]}", ba::errc::bad_format, "chat_template"},
      {"{\"chat_template\": [{\"name\": \"default\"}]}", ba::errc::bad_format, "chat_template"},
      {"{\"chat_template\": [{\"name\": 1, \"template\": \"d\"}]}", ba::errc::bad_format, "chat_template"},
  };
  for (const bad& c : cases) {
    const auto r = ba::read_chat_template(c.text);
    INFO(c.text);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == c.code);
    CHECK(r.error().message.find(c.what) != std::string::npos);
  }
}
