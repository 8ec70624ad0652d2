// SPDX-License-Identifier: MIT
// --template: one of the library's by its name, or with `auto` the one that the model's files ask for.
#include <blockattn/io/gguf.hpp>
#include <blockattn/text/read_file.hpp>
#include <blockattn/text/recognise.hpp>

#include <filesystem>
#include <fstream>

#include "prompt.hpp"

namespace cli {

namespace {

namespace fs = std::filesystem;

// The Jinja text of a model: in the metadata of a GGUF file; else in chat_template.jinja or tokenizer_config.json of
// the model's folder.
ba::result<std::string> chat_template_of(const fs::path& model) {
  std::error_code code;
  fs::path folder = model;
  if (!fs::is_directory(model, code)) {
    std::ifstream in(model, std::ios::binary);
    char magic[4] = {};
    if (!in.read(magic, sizeof magic)) return ba::fail(ba::errc::io, model.string(), ": cannot be opened for reading");
    if (std::string_view(magic, 4) == "GGUF") {
      const auto file = ba::gguf_file::open(model);
      if (!file) return file.error();
      if (const auto text = file->find_string("tokenizer.chat_template")) return std::string(*text);
      return ba::fail(ba::errc::unsupported, model.string(),
                      ": tokenizer.chat_template: expected a template, found none; name one (--template NAME)");
    }
    folder = model.parent_path();
  }
  if (fs::exists(folder / "chat_template.jinja", code)) return ba::read_file(folder / "chat_template.jinja");
  if (!fs::exists(folder / "tokenizer_config.json", code))
    return ba::fail(ba::errc::unsupported, model.string(),
                    ": expected chat_template.jinja or tokenizer_config.json beside the weights, found neither; name a "
                    "template (--template NAME)");
  const auto config = ba::read_file(folder / "tokenizer_config.json");
  if (!config) return config.error();
  return ba::read_chat_template(*config);
}

}  // namespace

ba::result<ba::prompt_template> choose_template(const options& o) {
  if (o.template_name != "auto") return ba::find_template(o.template_name);
  const auto jinja = chat_template_of(o.common.model);
  if (!jinja) return jinja.error();
  const auto chat = ba::recognise_chat_template(*jinja);
  if (!chat) return ba::fail(chat.error().code, o.common.model, ": ", chat.error().message);
  return ba::make_prompt_template(*chat);
}

}  // namespace cli
