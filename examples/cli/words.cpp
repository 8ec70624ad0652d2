// SPDX-License-Identifier: MIT
// `inspect`, `tokenize`, `detokenize`: what a model file holds, and its words.
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/read_file.hpp>

#include <cstdio>

#include "models.hpp"
#include "seams.hpp"
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

namespace {

// The text as blocks, by --blocks or --cut; none if neither was given.
result<std::vector<std::string_view>> blocks_of(const options& o, std::string_view text) {
  if (!o.cut.empty()) return cut_after(text, unescaped(o.cut));
  std::vector<std::string_view> out;
  std::size_t at = 0;
  for (const std::size_t n : o.blocks) {
    if (n > text.size() - at) break;
    out.push_back(text.substr(at, n));
    at += n;
  }
  if (!o.blocks.empty() && (out.size() != o.blocks.size() || at != text.size()))
    return ba::fail(ba::errc::invalid_argument, "tokenize --blocks: expected lengths whose sum is the ", text.size(),
                    " bytes of the text");
  return out;
}

// What block by block gives, against the whole text.
json compare_blocks(const ba::tokenizer& words, const std::vector<ba::token>& whole,
                    const std::vector<std::string_view>& texts, bool bos, std::string& summary) {
  std::vector<std::vector<ba::token>> ids;
  json blocks = json::array(), differences = json::array();
  std::size_t start = 0;
  for (const std::string_view text : texts) {
    ids.push_back(words.encode(text, {.bos = bos && ids.empty()}));
    blocks.push_back({{"bytes", text.size()}, {"tokens", ids.back().size()}, {"start", start}, {"ids", ids.back()}});
    start += ids.back().size();
  }
  for (const seam& s : find_seams(whole, ids))
    differences.push_back({{"block", s.block},
                           {"whole_at", s.whole_at},
                           {"blocks_at", s.blocks_at},
                           {"whole", s.whole},
                           {"blocks", s.blocks}});
  summary = std::to_string(texts.size()) + " blocks, " + std::to_string(start) + " tokens; the whole text has " +
            std::to_string(whole.size()) + "; " + std::to_string(differences.size()) + " places differ\n";
  for (const json& d : differences)
    summary += "block " + d["block"].dump() + ": whole " + d["whole"].dump() + ", blocks " + d["blocks"].dump() + "\n";
  return {{"blocks", blocks}, {"equal", differences.empty()}, {"differences", differences}};
}

}  // namespace

result<json> tokenize(const options& o) {
  const auto words = open_tokenizer(o.common);
  if (!words) return words.error();
  std::string text = o.text;
  if (!o.file.empty()) {
    auto read = ba::read_file(o.file);
    if (!read) return std::move(read).error();
    text = std::move(*read);
  }
  const auto encoded = words->try_encode(text, {.bos = o.bos});
  if (!encoded) return encoded.error();
  const std::vector<ba::token>& ids = *encoded;
  const auto blocks = blocks_of(o, text);
  if (!blocks) return blocks.error();
  json pieces = json::array();
  for (const ba::token id : ids) pieces.push_back(ba::to_valid_utf8(words->piece(id)));
  json out = {{"ids", ids}, {"pieces", pieces}};
  std::string summary;
  if (!blocks->empty()) out.update(compare_blocks(*words, ids, *blocks, o.bos, summary));
  if (!o.common.json) {
    for (std::size_t i = 0; i < ids.size(); ++i)
      print(std::to_string(ids[i]) + "\t" + pieces[i].get_ref<const std::string&>() + "\n");
    print(summary);
  }
  return out;
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
