// SPDX-License-Identifier: MIT
/// The tokenizer of a tiktoken rank file (Llama 3's `tokenizer.model`, OpenAI's `*.tiktoken`): a line for each piece, its
/// bytes in base64, a space, its rank. The rank is the id, and of two neighbours that together are a piece the pair with
/// the lowest rank merges first. How text is cut, and the special pieces, are not in the file: the caller says.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "../core/result.hpp"
#include "byte_letters.hpp"
#include "pretokenizer_kinds.hpp"
#include "read_file.hpp"
#include "tokenizer.hpp"

namespace blockattn::inline v0 {

/// What a rank file leaves out.
struct tiktoken_options {
  /// How text is cut: PCRE2 source. tiktoken's possessive quantifiers mean the same here.
  std::string pattern = detail::llama3_pattern;  // that of cl100k_base and of Llama 3
  /// Special pieces by id. They are control pieces: found in text only where `encode_options::special` asks for it.
  std::vector<std::pair<std::string, token>> specials;
  std::string bos, eos;  ///< names of special pieces; empty: none
  bool add_bos = false;
  bool whole_words = true;  ///< a word that is itself a piece becomes that piece, as in tiktoken
};

/// The options of Llama 3's 128,000 ranks, with its 256 special pieces.
[[nodiscard]] inline tiktoken_options llama3_tiktoken_options() {
  tiktoken_options o;
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|finetune_right_pad_id|>",
                                    "<|reserved_special_token_2|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|eom_id|>",
                                    "<|eot_id|>",
                                    "<|python_tag|>"};
  for (int i = 3; names.size() < 256; ++i) names.push_back("<|reserved_special_token_" + std::to_string(i) + "|>");
  token id = 128000;
  for (std::string& name : names) o.specials.emplace_back(std::move(name), id++);
  o.bos = "<|begin_of_text|>";
  o.eos = "<|end_of_text|>";
  o.add_bos = true;
  return o;
}

namespace detail {

/// The bytes of standard base64, padded; nothing if it is not that.
[[nodiscard]] inline std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return {};
  const auto value = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  const std::size_t padding = text.back() != '=' ? 0 : text[text.size() - 2] != '=' ? 1 : 2;
  std::string out;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text.substr(0, text.size() - padding)) {
    const int v = value(c);
    if (v < 0) return {};
    bits = (bits << 6 | static_cast<std::uint32_t>(v)) & 0xFFFFu;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(bits >> held & 0xFFu));
    }
  }
  if ((bits & ((1u << held) - 1)) != 0) return {};  // bits that belong to no byte
  return out;
}

}  // namespace detail

/// The vocabulary in `file`. A line that is not a piece and its rank is `bad_format`, by number; so are ranks given
/// twice or with holes of more than half, and pieces given twice. A piece of more than 256 bytes is `unsupported`: the
/// longest of a known file has 128. Time and memory are linear in the file.
[[nodiscard]] inline result<vocabulary> read_tiktoken_vocabulary(std::string_view file,
                                                                 const tiktoken_options& options = {}) {
  struct entry {
    std::string bytes;
    token id;
  };
  std::vector<entry> entries;
  std::size_t number = 0;
  for (std::string_view rest = file; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    const auto error = [&](errc code, const char* expected, std::string_view found) {
      return fail(code, "tiktoken ranks, line ", number, ": expected ", expected, ", found \"",
                  detail::printable(found), "\"");
    };
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return error(errc::bad_format, "base64, a space and a rank", line);
    auto bytes = detail::from_base64(line.substr(0, space));
    if (!bytes) return error(errc::bad_format, "base64", line.substr(0, space));
    if (bytes->size() > 256) return error(errc::unsupported, "a piece of at most 256 bytes", line);
    const std::string_view digits = line.substr(space + 1);
    std::uint32_t rank = 0;
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    if (read.ec != std::errc{} || read.ptr != digits.data() + digits.size() || rank >= max_pieces)
      return error(errc::bad_format, "a rank below 2^24", digits);
    entries.push_back({*std::move(bytes), static_cast<token>(rank)});
  }
  if (entries.empty()) return fail(errc::bad_format, "tiktoken ranks: expected pieces, found none");

  vocabulary v;
  v.model = vocabulary::kind::bpe;
  v.has_steps = true;
  v.whole_words = options.whole_words;
  v.splits.push_back({.pattern = options.pattern});
  std::size_t size = 0;
  for (const entry& e : entries) size = std::max(size, static_cast<std::size_t>(e.id) + 1);
  if (size > 2 * entries.size() + 1024)
    return fail(errc::bad_format, "tiktoken ranks: expected ranks below ", 2 * entries.size() + 1024, " for ",
                entries.size(), " pieces, found ", size - 1);
  for (const auto& [name, id] : options.specials) {
    if (id < 0 || static_cast<std::size_t>(id) >= max_pieces || name.empty())
      return fail(errc::invalid_argument, "tiktoken special piece \"", name, "\": expected a name and an id below ",
                  max_pieces, ", found ", id);
    size = std::max(size, static_cast<std::size_t>(id) + 1);
  }
  v.pieces.resize(size);
  v.types.assign(size, static_cast<std::int32_t>(piece_type::unused));
  const auto place = [&](std::size_t i, std::string piece, piece_type type) -> result<void> {
    if (v.types[i] != static_cast<std::int32_t>(piece_type::unused))
      return fail(errc::bad_format, "tiktoken ranks: expected one piece of rank ", i, ", found two");
    v.pieces[i] = std::move(piece);
    v.types[i] = static_cast<std::int32_t>(type);
    return {};
  };
  std::unordered_map<std::string_view, token> ids;
  ids.reserve(entries.size());
  for (const entry& e : entries) {
    if (!ids.emplace(e.bytes, e.id).second)
      return fail(errc::bad_format, "tiktoken ranks: rank ", e.id, ": expected a piece of its own, found that of rank ",
                  ids.at(e.bytes));
    std::string letters;
    for (const char c : e.bytes) append_utf8(letters, byte_alphabet[static_cast<unsigned char>(c)]);
    if (auto r = place(static_cast<std::size_t>(e.id), std::move(letters), piece_type::normal); !r)
      return std::move(r).error();
  }
  // All ways in which two pieces make a third, with the rank of the third: then merging needs no text.
  for (const entry& e : entries) {
    const std::string_view whole = e.bytes;
    for (std::size_t cut = 1; cut < whole.size(); ++cut) {
      const auto left = ids.find(whole.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(whole.substr(cut));
      if (right != ids.end())
        v.pairs.push_back({left->second, right->second, e.id, static_cast<std::uint32_t>(e.id)});
    }
  }
  for (const auto& [name, id] : options.specials)
    if (auto r = place(static_cast<std::size_t>(id), name, piece_type::control); !r) return std::move(r).error();
  for (const auto& [name, id] : options.specials) {
    if (name == options.bos) v.bos = id;
    if (name == options.eos) v.eos = id;
    if (ends_turn(name)) v.stops.push_back(id);
  }
  v.add_bos = options.add_bos && v.bos >= 0;
  return v;
}

/// The same, ready for use.
[[nodiscard]] inline result<tokenizer> read_tiktoken_tokenizer(std::string_view file,
                                                               const tiktoken_options& options = {}) {
  auto v = read_tiktoken_vocabulary(file, options);
  if (!v) return std::move(v).error();
  return tokenizer::from_vocabulary(*std::move(v));
}

/// The same from a file. Errors name it.
[[nodiscard]] inline result<tokenizer> open_tiktoken_tokenizer(const std::filesystem::path& file,
                                                               const tiktoken_options& options = {}) {
  const auto bytes = read_file(file);
  if (!bytes) return bytes.error();
  auto words = read_tiktoken_tokenizer(*bytes, options);
  if (!words) return fail(words.error().code, file.string(), ": ", words.error().message);
  return words;
}

/// Whether `file` begins as a rank file does: base64, a space and a number in its first line.
[[nodiscard]] inline bool looks_like_tiktoken(std::string_view file) {
  const std::string_view line = file.substr(0, std::min(file.find('\n'), std::size_t{512}));
  const std::size_t space = line.find(' ');
  return space != std::string_view::npos && detail::from_base64(line.substr(0, space)).has_value() &&
         space + 1 < line.size() && line[space + 1] >= '0' && line[space + 1] <= '9';
}

}  // namespace blockattn::inline v0
