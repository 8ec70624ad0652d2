// SPDX-License-Identifier: MIT
// tokenizer.json: what it says and what is refused. Ids of whole vocabularies are in hf_tokenizer_data_test.cpp.
#include <blockattn/text/hf_tokenizer.hpp>

#include "../support/catch.hpp"
#include "../support/temporary_folder.hpp"

namespace ba = blockattn;
using json = nlohmann::json;
using ids = std::vector<ba::token>;

namespace {

json added(int id, const char* text, bool special, std::initializer_list<const char*> flags = {}) {
  json out = {{"id", id},          {"content", text},  {"special", special},     {"lstrip", false},
              {"rstrip", false},   {"single_word", false}, {"normalized", false}};
  for (const char* flag : flags) out[flag] = true;
  return out;
}

// All byte letters, "hi", " h", " hi", then two added tokens.
json byte_level() {
  json vocab;
  for (int b = 0; b < 256; ++b) {
    std::string letter;
    ba::append_utf8(letter, ba::byte_alphabet[static_cast<std::size_t>(b)]);
    vocab[letter] = b;
  }
  vocab["hi"] = 256;
  vocab["\xC4\xA0h"] = 257;
  vocab["\xC4\xA0hi"] = 258;
  return {{"added_tokens", {added(259, "<s>", true), added(260, "<tool>", false)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h i", "\xC4\xA0 h", "\xC4\xA0 hi"}}}}};
}

// "<unk>", "<s>", "</s>", 256 bytes, then pieces with markers: the shape of Llama 2.
json characters() {
  json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int b = 0; b < 256; ++b) {
    const char* digits = "0123456789ABCDEF";
    vocab[std::string("<0x") + digits[b / 16] + digits[b % 16] + ">"] = 3 + b;
  }
  int next = 259;
  for (const char* piece : {"\xE2\x96\x81", "h", "i", "hi", "\xE2\x96\x81hi"}) vocab[piece] = next++;
  return {{"added_tokens", {added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)}},
          {"normalizer",
           {{"type", "Sequence"},
            {"normalizers",
             {{{"type", "Prepend"}, {"prepend", "\xE2\x96\x81"}},
              {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\xE2\x96\x81"}}}}}},
          {"pre_tokenizer", nullptr},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "\xE2\x96\x81"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"model",
           {{"type", "BPE"},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true},
            {"vocab", vocab},
            {"merges", json::array({json::array({"h", "i"}), json::array({"\xE2\x96\x81", "hi"})})}}}};
}

ba::result<ba::tokenizer> read(const json& tokenizer, const json& config = nullptr, const json& generation = nullptr) {
  const auto text = [](const json& j) { return j.is_null() ? std::string() : j.dump(); };
  const std::string a = text(tokenizer), b = text(config), c = text(generation);
  return ba::read_hf_tokenizer({a, b, c});
}
ba::tokenizer made(const json& tokenizer, const json& config = nullptr, const json& generation = nullptr) {
  auto out = read(tokenizer, config, generation);
  if (!out) FAIL(out.error().message);
  return *std::move(out);
}
// The document with one place changed; a pointer such as "/model/type".
json with(json document, const char* where, json value) {
  document[json::json_pointer(where)] = std::move(value);
  return document;
}
void refused(const json& document, ba::errc code, std::initializer_list<const char*> parts) {
  const auto out = read(document);
  REQUIRE_FALSE(out);
  INFO(out.error().message);
  CHECK(out.error().code == code);
  for (const char* part : parts) CHECK(out.error().message.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("tokenizer.json: BPE over bytes", "[text][hf]") {
  const auto words = made(byte_level());
  CHECK(words.lossless());
  CHECK(words.encode("hi hi") == ids{256, 258});
  CHECK(words.encode("x<tool><s>", {.special = true}) == ids{'x', 260, 259});
  CHECK(words.encode("<s>").size() == 3);
  CHECK(words.decode(ids{258, 260, 259}, {.special = true}) == " hi<tool><s>");
  CHECK(words.decode(words.encode("a\xFF\xC3\xA9\n")) == "a\xFF\xC3\xA9\n");
  CHECK_FALSE(words.add_bos());
  CHECK(words.bos() == -1);
}

TEST_CASE("tokenizer.json: BPE over characters with byte fallback", "[text][hf]") {
  const auto words = made(characters());
  CHECK(words.encode("hi") == ids{263});
  CHECK(words.encode("hi hi", {.bos = words.add_bos()}) == ids{1, 263, 263});
  CHECK(words.encode("hihi") == ids{263, 262});
  CHECK(words.encode("\xC3\xA9") == ids{259, 3 + 0xC3, 3 + 0xA9});
  CHECK(words.encode("\xFF") == ids{259, 3 + 0xFF});
  CHECK(words.encode("").empty());
  // Each stretch between special pieces begins anew.
  CHECK(words.encode("hi<s>hi", {.special = true}) == ids{263, 1, 263});
  for (const std::string text : {"hi", " hi", "hi  hi", "\xC3\xA9 x", "a\xFFz"})
    CHECK(words.decode(words.encode(text)) == text);
  CHECK(words.decode(ids{1, 263, 263}) == "hi hi");
  CHECK(words.decode(ids{263, 1, 263}) == "hi hi");  // as Hugging Face has it: the start of the text, and only that
  CHECK_FALSE(words.lossless());  // a marker in the text comes back as a space
  CHECK(words.decode(words.encode("\xE2\x96\x81")) == " ");
  CHECK(words.add_bos());
  CHECK(words.bos() == 1);
  CHECK(words.unk() == 0);
}

TEST_CASE("tokenizer.json: neighbouring unknown characters may be one piece", "[text][hf]") {
  auto document = with(characters(), "/model/byte_fallback", false);
  CHECK(made(document).encode("x\xC3\xA9hi") == ids{259, 0, 262});
  document = with(document, "/model/fuse_unk", false);
  CHECK(made(document).encode("x\xC3\xA9hi") == ids{259, 0, 0, 262});
  // Without an unknown piece they are gone before merging.
  document = with(document, "/model/unk_token", nullptr);
  CHECK(made(document).encode("hxi") == ids{263});
  // Also where they would be fused, at the beginning too, where there is nothing to fuse them with.
  document = with(with(document, "/model/fuse_unk", true), "/normalizer", nullptr);
  CHECK(made(document).encode("xyhxyi") == ids{262});
}

TEST_CASE("tokenizer.json: a word that is a piece may stay whole", "[text][hf]") {
  auto document = with(byte_level(), "/model/merges", json::array());
  CHECK(made(document).encode(" hi") == ids{32, 'h', 'i'});
  document = with(document, "/model/ignore_merges", true);
  CHECK(made(document).encode(" hi") == ids{258});
}

TEST_CASE("tokenizer.json: added tokens take whitespace, or stand alone", "[text][hf]") {
  const auto encode = [](std::initializer_list<const char*> flags, const char* text) {
    auto document = byte_level();
    document["added_tokens"][1] = added(260, "<tool>", false, flags);
    return made(document).encode(text);
  };
  const ba::token a = 'a', space = 32;
  CHECK(encode({}, "a <tool> a") == ids{a, space, 260, space, a});
  CHECK(encode({"lstrip"}, "a \n<tool> a") == ids{a, 260, space, a});
  CHECK(encode({"rstrip"}, "a <tool>\xC2\xA0\ta") == ids{a, space, 260, a});
  CHECK(encode({"lstrip", "rstrip"}, " <tool>  <tool> ") == ids{260, 260});
  CHECK(encode({"single_word"}, "a <tool> a") == ids{a, space, 260, space, a});
  CHECK(encode({"single_word"}, "a<tool>").size() == 7);
  CHECK(encode({"single_word"}, "<tool>_").size() == 7);
  CHECK(encode({"single_word"}, "-<tool>-") == ids{'-', 260, '-'});
  auto strips = byte_level();
  strips["added_tokens"][1] = added(260, "<tool>", false, {"lstrip"});
  CHECK_FALSE(made(strips).lossless());
  strips["added_tokens"][1] = added(260, "<tool>", true, {"lstrip"});
  CHECK(made(strips).lossless());  // a control piece is found only where the caller asks for it
}

TEST_CASE("tokenizer.json: a normalized token is searched in normalized text", "[text][hf]") {
  auto document = byte_level();
  document["normalizer"] = {{"type", "NFC"}};
  document["added_tokens"][1] = added(260, "e\xCC\x81", false, {"normalized"});
  CHECK(made(document).encode("\xC3\xA9") == ids{260});
  CHECK(made(document).encode("e\xCC\x81") == ids{260});
  document["added_tokens"][1] = added(260, "e\xCC\x81", false);
  CHECK(made(document).encode("\xC3\xA9").size() == 2);
  CHECK(made(document).encode("e\xCC\x81") == ids{260});
  CHECK_FALSE(made(document).lossless());
}

TEST_CASE("tokenizer.json: begin, end and stops come from three files", "[text][hf]") {
  const auto plain = made(byte_level(), {{"bos_token", "<s>"}, {"eos_token", {{"content", "<tool>"}}}});
  CHECK(plain.bos() == 259);
  CHECK(plain.eos() == 260);
  CHECK_FALSE(plain.add_bos());
  CHECK(plain.is_stop(260));
  CHECK(made(byte_level(), {{"bos_token", "<s>"}, {"add_bos_token", true}}).add_bos());
  // A template adds; the config has the last word.
  CHECK_FALSE(made(characters(), {{"bos_token", "<s>"}, {"add_bos_token", false}}).add_bos());
  CHECK(made(characters(), {{"bos_token", nullptr}}).bos() == 1);
  const auto generation = made(byte_level(), nullptr, {{"eos_token_id", {259, 260}}});
  CHECK(generation.is_stop(259));
  CHECK(generation.is_stop(260));
  CHECK(made(byte_level(), nullptr, {{"eos_token_id", 260}}).eos() == 260);

  const auto error = [](const ba::result<ba::tokenizer>& r) { return r ? std::string() : r.error().message; };
  CHECK(error(read(byte_level(), {{"bos_token", "<nobody>"}})).find("tokenizer_config.json: $.bos_token") == 0);
  CHECK(error(read(byte_level(), nullptr, {{"eos_token_id", 261}})) ==
        "generation_config.json: $.eos_token_id: expected a whole number up to 260, found 261");
}

TEST_CASE("tokenizer.json: what is not understood is refused by its place", "[text][hf]") {
  const auto b = byte_level();
  const auto unsupported = ba::errc::unsupported, bad = ba::errc::bad_format;
  refused(with(b, "/model/type", "Unigram"), unsupported, {"tokenizer.json: $.model.type: expected one of BPE"});
  refused(with(b, "/normalizer", {{"type", "Lowercase"}}), unsupported, {"$.normalizer.type", "NFC", "Lowercase"});
  refused(with(b, "/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Nmt"}}}}}),
          unsupported, {"$.normalizer.normalizers[1].type", "Nmt"});
  refused(with(b, "/pre_tokenizer/type", "BertPreTokenizer"), unsupported, {"$.pre_tokenizer.type", "Split"});
  refused(with(b, "/decoder/type", "WordPiece"), unsupported, {"$.decoder.type", "WordPiece"});
  refused(with(b, "/decoder", {{"type", "Fuse"}}), unsupported, {"$.decoder", "ByteLevel"});
  refused(with(characters(), "/decoder", nullptr), unsupported, {"$.decoder", "found nothing"});
  refused(with(b, "/model/dropout", 0.1), unsupported, {"$.model.dropout", "0.1"});
  refused(with(b, "/model/end_of_word_suffix", "</w>"), unsupported, {"$.model.end_of_word_suffix", "</w>"});
  refused(with(b, "/post_processor", {{"type", "Other"}}), unsupported, {"$.post_processor.type", "Other"});
  const auto split = [&](const json& pattern) {
    return with(b, "/pre_tokenizer",
                {{"type", "Sequence"},
                 {"pretokenizers",
                  {{{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}},
                   {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}});
  };
  CHECK(read(split({{"Regex", "a+"}})));
  const char* at = "$.pre_tokenizer.pretokenizers[0].pattern.Regex";
  refused(split({{"Regex", "a("}}), unsupported, {at, "at byte"});
  refused(split({{"Regex", "a*"}}), unsupported, {at, "always takes a character"});
  refused(split({{"Regex", "\\p{N}{1,3}+"}}), unsupported, {at, "{n,m}"});
  refused(split({{"Regex", "[a&&b]"}}), unsupported, {at, "&&"});
  refused(split({{"Regex", "\\h"}}), unsupported, {at, "two meanings"});

  refused(with(b, "/model/vocab", json::array()), bad, {"$.model.vocab", "an object", "array"});
  refused(with(b, "/model/vocab/hi", -1), bad, {"$.model.vocab.hi", "whole number", "-1"});
  refused(with(b, "/model/vocab/hi", 4000000), bad, {"$.model.vocab.hi", "4000000"});
  refused(with(b, "/model/vocab/hi", 257), bad, {"$.model.vocab.", "an id of its own", "257"});
  refused(with(b, "/model/merges/1", "h"), bad, {"$.model.merges[1]", "left right"});
  refused(with(b, "/model/merges/1", "h x"), bad, {"$.model.merges[1]", "pieces of the vocabulary", "hx"});
  refused(with(b, "/model/unk_token", "nobody"), bad, {"$.model.unk_token", "nobody"});
  refused(with(b, "/added_tokens/0/id", 5), bad, {"$.added_tokens[0].content", "id 5", "<s>"});
  refused(with(b, "/added_tokens/0/content", "hi"), bad, {"$.added_tokens[0].id", "256", "259"});
  refused(with(b, "/added_tokens/0/lstrip", 1), bad, {"$.added_tokens[0].lstrip", "true or false"});
  refused(json::array(), bad, {"tokenizer.json: $: expected an object"});
  const auto text = [](std::string_view bytes) { return ba::read_hf_tokenizer({bytes, {}, {}}).error().message; };
  CHECK(text("{\n\"model\": {\n x}}") == "tokenizer.json, line 3: expected JSON, found something else at byte 15");
  CHECK(text(std::string(100, '[')) == "tokenizer.json, line 1: expected at most 64 levels, found more");
  CHECK(text("") .find("expected JSON") != std::string::npos);
  // Also in the files beside it: the parser would take the byte for the end.
  const std::string whole = b.dump(), behind("{}\0{", 4);
  CHECK(text(whole + behind.substr(2)) == "tokenizer.json: expected JSON, found a zero byte at byte " + std::to_string(whole.size()));
  CHECK(ba::read_hf_tokenizer({whole, behind, {}}).error().message == "tokenizer_config.json: expected JSON, found a zero byte at byte 2");
  CHECK(ba::read_hf_tokenizer({whole, {}, behind}).error().message == "generation_config.json: expected JSON, found a zero byte at byte 2");
}

TEST_CASE("tokenizer.json: a folder, or the file by any name", "[text][hf]") {
  const blockattn_test::temporary_folder folder;
  const std::string name = folder.file("words.json", byte_level().dump());
  CHECK(ba::open_hf_tokenizer(name)->encode("hi") == ids{256});
  const auto missing = ba::open_hf_tokenizer(folder.path());
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message.find("expected tokenizer.json") != std::string::npos);
  folder.file("tokenizer.json", byte_level().dump());
  folder.file("tokenizer_config.json", json{{"bos_token", "<s>"}, {"add_bos_token", true}}.dump());
  folder.file("generation_config.json", json{{"eos_token_id", 260}}.dump());
  for (const std::string& where : {folder.path(), folder / "tokenizer.json"}) {
    const auto words = ba::open_hf_tokenizer(where);
    REQUIRE(words);
    CHECK(words->add_bos());
    CHECK(words->eos() == 260);
  }
  folder.file("generation_config.json", std::string("{"));
  const auto damaged = ba::open_hf_tokenizer(folder.path());
  REQUIRE_FALSE(damaged);
  CHECK(damaged.error().message.find("generation_config.json, line 1") != std::string::npos);
  CHECK(damaged.error().message.find(folder.path()) == 0);
}
