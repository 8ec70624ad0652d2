// SPDX-License-Identifier: MIT
// `inspect`, `tokenize`, `detokenize`: what a model file holds, and its words.
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/read_file.hpp>

#include <cstdio>

#include "models.hpp"
#include "terminal.hpp"

namespace cli {

namespace {

json rope_json(const ba::rope_config& r) {
  const char* const scalings[] = {"none", "linear", "llama3", "yarn"};
  json out = {{"theta", r.theta},
              {"rotary_dim", r.rotary_dim},
              {"layout", r.layout == ba::rope_layout::interleaved ? "interleaved" : "half_split"},
              {"scaling", scalings[static_cast<std::size_t>(r.scaling)]},
              {"factor", r.factor},
              {"original_context", r.original_context}};
  if (!r.frequency_divisors.empty()) out["frequency_divisors"] = r.frequency_divisors.size();
  return out;
}

}  // namespace

result<json> inspect(const options& o) {
  auto rt = open_runtime(o.common, ba::dtype::bf16);
  if (!rt) return std::move(rt).error();
  const ba::model_config& c = rt->weights->config();
  json out = {{"architecture", c.architecture},
              {"layers", c.layers},
              {"dim", c.dim},
              {"heads", c.heads},
              {"kv_heads", c.kv_heads},
              {"head_dim", c.head_dim},
              {"ffn", c.ffn},
              {"vocab", c.vocab},
              {"context_length", c.context_length},
              {"rope", rope_json(c.rope)},
              {"formats", rt->formats},
              {"weight_bytes", rt->weights->weight_bytes()},
              {"kv_bytes_per_token", rt->chat->shape().payload_bytes(16) / 16},
              {"isa", ba::isa_name()},
              {"fingerprint", rt->weights->fingerprint().hex()}};
  if (c.local_rope) out["local_rope"] = rope_json(*c.local_rope);
  if (!c.windows.empty()) out["windows"] = c.windows;
  if (!o.common.json) {
    for (const auto& [key, value] : out.items()) std::printf("%-20s %s\n", key.c_str(), value.dump().c_str());
  }
  return out;
}

result<json> tokenize(const options& o) {
  const auto words = open_tokenizer(o.common);
  if (!words) return words.error();
  std::string text = o.text;
  if (!o.file.empty()) {
    auto read = ba::read_file(o.file);
    if (!read) return std::move(read).error();
    text = std::move(*read);
  }
  const auto ids = words->encode(text, {.bos = o.bos});
  json pieces = json::array();
  for (const ba::token id : ids) pieces.push_back(ba::to_valid_utf8(words->piece(id)));
  if (!o.common.json) {
    for (std::size_t i = 0; i < ids.size(); ++i)
      print(std::to_string(ids[i]) + "\t" + pieces[i].get_ref<const std::string&>() + "\n");
  }
  return json{{"ids", ids}, {"pieces", pieces}};
}

result<json> detokenize(const options& o) {
  const auto words = open_tokenizer(o.common);
  if (!words) return words.error();
  for (std::size_t i = 0; i < o.ids.size(); ++i)
    if (!words->contains(o.ids[i]))
      return ba::fail(ba::errc::invalid_argument, "detokenize: token ", i, " must be in [0, ", words->size(),
                      "), found ", o.ids[i]);
  const std::string text = ba::to_valid_utf8(words->decode(std::span<const ba::token>(o.ids)));
  if (!o.common.json) print(text + "\n");
  return json{{"text", text}};
}

}  // namespace cli
