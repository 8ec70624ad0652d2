// SPDX-License-Identifier: MIT
/// The tokenizer of a Hugging Face folder: `tokenizer.json`, with `tokenizer_config.json` and `generation_config.json`
/// where they lie beside it. BPE over bytes (GPT-2, Llama 3, Qwen, SmolLM) and over characters (Llama 2, TinyLlama,
/// Mistral). Ids equal those of Hugging Face's own library; what would need something else is a typed error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "hf_json.hpp"
#include "hf_steps.hpp"
#include "merge_table.hpp"
#include "read_file.hpp"
#include "tokenizer.hpp"

namespace blockattn::inline v0 {

namespace detail {

/// Reads one document into a vocabulary, part by part.
class hf_reader {
 public:
  explicit hf_reader(const json_place& root) : root_(root) {}

  [[nodiscard]] result<vocabulary> read() {
    if (auto r = root_.object(); !r) return std::move(r).error();
    const json_place model = root_["model"];
    if (auto r = model.object(); !r) return std::move(r).error();
    for (const auto& part : {&hf_reader::read_options, &hf_reader::read_pieces})
      if (auto r = (this->*part)(model); !r) return std::move(r).error();
    if (auto r = read_added(root_["added_tokens"]); !r) return std::move(r).error();
    ids_ = ids_of_pieces(v_);
    if (auto r = read_merges(model["merges"]); !r) return std::move(r).error();
    if (auto r = read_unknown(model["unk_token"]); !r) return std::move(r).error();
    if (auto r = read_steps(); !r) return std::move(r).error();
    if (auto r = read_post_processor(root_["post_processor"]); !r) return std::move(r).error();
    for (std::size_t i = 0; i < v_.pieces.size(); ++i)
      if (is_added(i) && ends_turn(v_.pieces[i])) v_.stops.push_back(static_cast<token>(i));
    return std::move(v_);
  }

 private:
  [[nodiscard]] result<void> read_options(const json_place& model) {
    if (!model["type"].is_null())
      if (const auto type = model["type"].one_of({"BPE"}); !type) return type.error();
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const json_place at = model[key]; !at.is_null() && at.value() != "")
        return at.error(errc::unsupported, "nothing");
    if (const json_place dropout = model["dropout"]; !dropout.is_null() && dropout.value() != 0)
      return dropout.error(errc::unsupported, "no dropout");
    const auto fuse = model["fuse_unk"].boolean(false), bytes = model["byte_fallback"].boolean(false),
               whole = model["ignore_merges"].boolean(false);
    if (!fuse) return fuse.error();
    if (!bytes) return bytes.error();
    if (!whole) return whole.error();
    v_.fuse_unknown = *fuse;
    byte_fallback_ = *bytes;
    v_.whole_words = *whole;
    return {};
  }

  // Ids may have holes, but a small file must not ask for a large table.
  [[nodiscard]] static std::uint64_t most(std::size_t entries) noexcept {
    return std::min<std::uint64_t>(max_pieces - 1, 2 * static_cast<std::uint64_t>(entries) + 1024);
  }
  void reach(std::size_t id) {
    if (id < v_.pieces.size()) return;
    v_.pieces.resize(id + 1);
    v_.types.resize(id + 1, static_cast<std::int32_t>(piece_type::unused));
  }
  [[nodiscard]] bool is_added(std::size_t id) const noexcept {
    const piece_type type = type_of(v_, id);
    return type == piece_type::control || type == piece_type::unknown || type == piece_type::user_defined;
  }
  [[nodiscard]] token id_of(std::string_view piece) const {
    const auto at = ids_.find(piece);
    return at == ids_.end() || piece.empty() ? token{-1} : at->second;
  }

  [[nodiscard]] result<void> read_pieces(const json_place& model) {
    const json_place vocab = model["vocab"];
    if (auto r = vocab.object(); !r) return r;
    const std::size_t count = vocab.value().size();
    reach(std::min<std::size_t>(count, max_pieces - 1));
    for (const auto& [piece, value] : vocab.value().items()) {
      const json_place at(value, vocab.path() + "." + piece.substr(0, 64));
      const auto id = at.number(most(count));
      if (!id) return id.error();
      const auto i = static_cast<std::size_t>(*id);
      reach(i);
      if (type_of(v_, i) != piece_type::unused) return at.error(errc::bad_format, "an id of its own");
      if (piece.empty()) continue;  // an empty piece is never found
      v_.pieces[i] = piece;
      v_.types[i] = static_cast<std::int32_t>(byte_fallback_ && byte_of_piece(piece) >= 0 ? piece_type::byte
                                                                                           : piece_type::normal);
    }
    // One more than needed where ids have no holes.
    while (!v_.pieces.empty() && type_of(v_, v_.pieces.size() - 1) == piece_type::unused) {
      v_.pieces.pop_back();
      v_.types.pop_back();
    }
    return {};
  }

  [[nodiscard]] result<void> read_added(const json_place& list) {
    if (list.is_null()) return {};
    if (auto r = list.array(); !r) return r;
    const std::uint64_t last = most(v_.pieces.size() + list.value().size());
    // All room first: `known` holds views into the pieces.
    for (const nlohmann::json& one : list.value())
      if (one.is_object())
        if (const auto id = json_place(one, {})["id"].number(last)) reach(static_cast<std::size_t>(*id));
    const piece_ids known = ids_of_pieces(v_);
    for (std::size_t k = 0; k < list.value().size(); ++k) {
      const json_place at = list[k];
      const auto id = at["id"].number(last);
      if (!id) return id.error();
      auto content = at["content"].text();
      if (!content) return content.error();
      if (content->empty()) return at["content"].error(errc::bad_format, "text");
      added_token how{static_cast<token>(*id)};
      const auto special = at["special"].boolean(false);
      if (!special) return special.error();
      struct {
        const char* name;
        bool* out;
        bool otherwise;
      } const flags[] = {{"lstrip", &how.lstrip, false},
                         {"rstrip", &how.rstrip, false},
                         {"single_word", &how.single_word, false},
                         {"normalized", &how.normalized, !*special}};
      for (const auto& flag : flags) {
        const auto value = at[flag.name].boolean(flag.otherwise);
        if (!value) return value.error();
        *flag.out = *value;
      }
      const auto i = static_cast<std::size_t>(*id);
      if (const auto there = known.find(*content); there != known.end() && there->second != how.id)
        return at["id"].error(errc::bad_format, "the id of the same piece in the vocabulary, " +
                                                    std::to_string(there->second));
      if (!v_.pieces[i].empty() && v_.pieces[i] != *content)
        return at["content"].error(errc::bad_format, "the piece of id " + std::to_string(i) + " in the vocabulary");
      if (v_.pieces[i].empty()) v_.pieces[i] = *std::move(content);
      v_.types[i] = static_cast<std::int32_t>(*special ? piece_type::control : piece_type::user_defined);
      v_.added.push_back(how);
    }
    return {};
  }

  [[nodiscard]] result<void> read_merges(const json_place& list) {
    if (auto r = list.array(); !r) return r;
    std::string joined;
    for (std::size_t i = 0; i < list.value().size(); ++i) {
      const nlohmann::json& merge = list.value()[i];
      std::string_view sides[2];
      if (merge.is_string()) {
        const std::string& line = merge.get_ref<const std::string&>();
        const std::size_t space = line.find(' ');
        if (space != std::string::npos) {
          sides[0] = std::string_view(line).substr(0, space);
          sides[1] = std::string_view(line).substr(space + 1);
        }
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        sides[0] = merge[0].get_ref<const std::string&>();
        sides[1] = merge[1].get_ref<const std::string&>();
      }
      if (sides[0].empty() || sides[1].empty())
        return list[i].error(errc::bad_format, "\"left right\" or [\"left\", \"right\"]");
      joined.assign(sides[0]).append(sides[1]);
      const merge_pair pair{id_of(sides[0]), id_of(sides[1]), id_of(joined), static_cast<std::uint32_t>(i)};
      if (pair.left < 0 || pair.right < 0 || pair.joined < 0)
        return fail(errc::bad_format, list[i].path(), ": expected pieces of the vocabulary, found \"",
                    (pair.left < 0 ? sides[0] : pair.right < 0 ? sides[1] : std::string_view(joined)).substr(0, 64),
                    "\"");
      v_.pairs.push_back(pair);
    }
    return {};
  }

  [[nodiscard]] result<void> read_unknown(const json_place& at) {
    if (at.is_null()) return {};
    auto name = at.text();
    if (!name) return name.error();
    v_.unk = id_of(*name);
    if (v_.unk < 0) return at.error(errc::bad_format, "a piece of the vocabulary");
    v_.types[static_cast<std::size_t>(v_.unk)] = static_cast<std::int32_t>(piece_type::unknown);
    return {};
  }

  [[nodiscard]] result<void> read_steps() {
    auto normalizers = read_normalizer(root_["normalizer"]);
    if (!normalizers) return normalizers.error();
    auto splits = read_pre_tokenizer(root_["pre_tokenizer"]);
    if (!splits) return splits.error();
    const json_place at = root_["decoder"];
    const auto decoder = read_decoder(at);
    if (!decoder) return decoder.error();
    if (splits->byte_level ? decoder->given && !decoder->byte_level : !decoder->given || decoder->byte_level)
      return at.error(errc::unsupported, splits->byte_level ? "ByteLevel, as the pre-tokenizer has it"
                                                            : "a decoder that joins pieces without ByteLevel");
    v_.model = splits->byte_level ? vocabulary::kind::bpe : vocabulary::kind::char_bpe;
    v_.has_steps = true;
    v_.normalizers = *std::move(normalizers);
    v_.splits = std::move(splits->steps);
    v_.strip_first_space = decoder->strip_first_space;
    hf_decoder pieces = *decoder;
    pieces.byte_level = splits->byte_level;
    v_.texts.reserve(v_.pieces.size());
    for (std::size_t i = 0; i < v_.pieces.size(); ++i) {
      // Byte-level vocabularies have no byte pieces; what looks like one is a word.
      if (splits->byte_level && type_of(v_, i) == piece_type::byte)
        v_.types[i] = static_cast<std::int32_t>(piece_type::normal);
      v_.texts.push_back(is_added(i) ? v_.pieces[i] : pieces.text_of(v_.pieces[i]));
    }
    return {};
  }

  // What a template puts before and after a text: at most one token each.
  [[nodiscard]] result<void> read_post_processor(const json_place& root) {
    return for_each_step(root, "processors", [&](const json_place& at) -> result<void> {
      const auto type = at["type"].one_of({"ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"});
      if (!type) return type.error();
      if (*type == 0) return {};  // it only moves offsets
      if (*type > 1) {
        for (const bool end : {false, true}) {
          const json_place pair = at[end ? "sep" : "cls"];
          if (auto r = pair.array(); !r) return r;
          if (pair.value().size() != 2) return pair.error(errc::bad_format, "a piece and its id");
          if (auto r = take_marker(pair[std::size_t{1}], end); !r) return r;
        }
        return {};
      }
      const json_place single = at["single"];
      if (auto r = single.array(); !r) return r;
      bool after = false;
      for (std::size_t i = 0; i < single.value().size(); ++i) {
        if (!single[i]["Sequence"].is_null()) {
          if (after) return single[i].error(errc::unsupported, "the text once");
          after = true;
          continue;
        }
        const auto name = single[i]["SpecialToken"]["id"].text();
        if (!name) return name.error();
        const json_place ids = at["special_tokens"][name->c_str()]["ids"];
        if (auto r = ids.array(); !r) return r;
        if (ids.value().size() != 1) return ids.error(errc::unsupported, "one id");
        if (auto r = take_marker(ids[std::size_t{0}], after); !r) return r;
      }
      return {};
    });
  }

  [[nodiscard]] result<void> take_marker(const json_place& at, bool end) {
    const auto id = at.number(v_.pieces.size() - 1);
    if (!id) return id.error();
    if (end ? v_.add_eos : v_.add_bos) return at.error(errc::unsupported, "one token before a text and one after it");
    (end ? v_.eos : v_.bos) = static_cast<token>(*id);
    (end ? v_.add_eos : v_.add_bos) = true;
    return {};
  }

  json_place root_;
  vocabulary v_;
  piece_ids ids_;
  bool byte_fallback_ = false;
};

/// `tokenizer_config.json`: the markers by name, and whether they are added.
[[nodiscard]] inline result<void> read_hf_config(const json_place& root, vocabulary& v) {
  if (auto r = root.object(); !r) return r;
  const piece_ids ids = ids_of_pieces(v);
  for (const bool end : {false, true}) {
    const json_place named = root[end ? "eos_token" : "bos_token"];
    token id = -1;
    if (!named.is_null()) {
      const auto text = named.value().is_object() ? named["content"].text() : named.text();
      if (!text) return text.error();
      const auto at = ids.find(*text);
      if (at == ids.end()) return named.error(errc::bad_format, "a piece of the vocabulary");
      id = at->second;
    }
    token& marker = end ? v.eos : v.bos;
    bool& adds = end ? v.add_eos : v.add_bos;
    // A template's token stays; the other one still ends a generation.
    if (!adds && id >= 0) marker = id;
    if (end && id >= 0) v.stops.push_back(id);
    const json_place add = root[end ? "add_eos_token" : "add_bos_token"];
    const auto wanted = add.boolean(adds);
    if (!wanted) return wanted.error();
    adds = *wanted && marker >= 0;
  }
  return {};
}

/// `generation_config.json`: the ids that end a generation.
[[nodiscard]] inline result<void> read_hf_generation(const json_place& root, vocabulary& v) {
  if (auto r = root.object(); !r) return r;
  const json_place eos = root["eos_token_id"];
  if (eos.is_null()) return {};
  const bool many = eos.value().is_array();
  for (std::size_t i = 0; i < (many ? eos.value().size() : 1); ++i) {
    const auto id = (many ? eos[i] : eos).number(v.pieces.size() - 1);
    if (!id) return id.error();
    v.stops.push_back(static_cast<token>(*id));
    if (v.eos < 0) v.eos = static_cast<token>(*id);
  }
  return {};
}

}  // namespace detail

/// The bytes of a folder's files; empty where there is no such file.
struct hf_tokenizer_files {
  std::string_view tokenizer;          ///< tokenizer.json
  std::string_view tokenizer_config;   ///< tokenizer_config.json
  std::string_view generation_config;  ///< generation_config.json
};

/// What the files say, as a vocabulary. Errors name the file and the place in it: `bad_format` for what contradicts the
/// format, `unsupported` for steps, models and options that would give other ids if they were left out. Memory: at most
/// 100 times the bytes of the files, and 1 MiB.
[[nodiscard]] inline result<vocabulary> read_hf_vocabulary(const hf_tokenizer_files& files) {
  const auto read = [](std::string_view bytes, const char* name, const auto& use) -> result<void> {
    const auto document = detail::parse_json(bytes, name);
    if (!document) return document.error();
    auto done = use(detail::json_place(*document, "$"));
    if (!done) return fail(done.error().code, name, ": ", done.error().message);
    return {};
  };
  vocabulary v;
  auto done = read(files.tokenizer, "tokenizer.json", [&](const detail::json_place& root) -> result<void> {
    auto made = detail::hf_reader(root).read();
    if (!made) return std::move(made).error();
    v = *std::move(made);
    if (v.pieces.empty()) return root["model"]["vocab"].error(errc::bad_format, "pieces");
    return {};
  });
  if (done && !files.tokenizer_config.empty())
    done = read(files.tokenizer_config, "tokenizer_config.json",
                [&](const detail::json_place& root) { return detail::read_hf_config(root, v); });
  if (done && !files.generation_config.empty())
    done = read(files.generation_config, "generation_config.json",
                [&](const detail::json_place& root) { return detail::read_hf_generation(root, v); });
  if (!done) return std::move(done).error();
  return v;
}

/// The same, ready for use.
[[nodiscard]] inline result<tokenizer> read_hf_tokenizer(const hf_tokenizer_files& files) {
  auto v = read_hf_vocabulary(files);
  if (!v) return std::move(v).error();
  return tokenizer::from_vocabulary(*std::move(v));
}

/// The tokenizer of a folder, or of a `tokenizer.json` by whatever name. The two configs are read from a folder, and
/// beside a file that is called `tokenizer.json`. Errors name the folder or file.
[[nodiscard]] inline result<tokenizer> open_hf_tokenizer(const std::filesystem::path& where) {
  namespace fs = std::filesystem;
  std::error_code code;
  const bool folder = fs::is_directory(where, code);
  const fs::path file = folder ? where / "tokenizer.json" : where;
  if (folder && !fs::exists(file, code))
    return fail(errc::io, where.string(), ": expected tokenizer.json in this folder, found none",
                fs::exists(where / "tokenizer.model", code)
                    ? "; it has tokenizer.model, which transformers turns into one: "
                      "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
                    : "");
  auto bytes = read_file(file);
  if (!bytes) return std::move(bytes).error();
  std::string configs[2];
  if (file.filename() == "tokenizer.json") {
    const char* const names[2] = {"tokenizer_config.json", "generation_config.json"};
    for (std::size_t i = 0; i < 2; ++i) {
      const fs::path beside = file.parent_path() / names[i];
      if (!fs::exists(beside, code)) continue;
      auto read = read_file(beside);
      if (!read) return std::move(read).error();
      configs[i] = *std::move(read);
    }
  }
  auto words = read_hf_tokenizer({*bytes, configs[0], configs[1]});
  if (!words) return fail(words.error().code, where.string(), ": ", words.error().message);
  return words;
}

}  // namespace blockattn::inline v0
