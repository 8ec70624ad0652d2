// SPDX-License-Identifier: MIT
/// A tokenizer by its file, whatever its format: tokenizer.json or its folder, tiktoken ranks, GGUF, llama2.c.
#pragma once

#include <blockattn/io/gguf.hpp>
#include <blockattn/text/gguf_tokenizer.hpp>
#include <blockattn/text/hf_tokenizer.hpp>
#include <blockattn/text/llama2c_tokenizer.hpp>
#include <blockattn/text/tiktoken.hpp>

#include <filesystem>
#include <string>
#include <string_view>

namespace cli {

enum class word_format { unknown, hf, tiktoken, gguf, llama2c };

/// By content: a folder with tokenizer.json, an object of JSON, a line of base64 and a rank, GGUF's magic; llama2.c's
/// files have no mark, so their ending decides.
inline word_format word_format_of(const std::filesystem::path& file) {
  std::error_code code;
  if (std::filesystem::is_directory(file, code)) return word_format::hf;
  const auto source = blockattn::mapped_file::open(file);
  if (!source) return word_format::unknown;
  const std::string_view bytes(reinterpret_cast<const char*>(source->bytes().data()), source->size());
  if (bytes.substr(0, 4) == "GGUF") return word_format::gguf;
  const std::size_t first = bytes.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (file.extension() == ".json" || (first != std::string_view::npos && bytes[first] == '{')) return word_format::hf;
  if (blockattn::looks_like_tiktoken(bytes)) return word_format::tiktoken;
  return file.extension() == ".bin" ? word_format::llama2c : word_format::unknown;
}

/// The words in `file` for a model of `pieces` ids (0: any). 128,000 tiktoken ranks are Llama 3's and get its special
/// pieces; other rank files have none. Errors name the file.
inline blockattn::result<blockattn::tokenizer> open_words(const std::filesystem::path& file, std::size_t pieces) {
  namespace ba = blockattn;
  const word_format format = word_format_of(file);
  if (format == word_format::hf) return ba::open_hf_tokenizer(file);
  if (format == word_format::llama2c) return ba::open_llama2c_tokenizer(file, pieces);
  if (format == word_format::tiktoken) {
    auto plain = ba::open_tiktoken_tokenizer(file);
    if (!plain || plain->size() != 128000) return plain;
    return ba::open_tiktoken_tokenizer(file, ba::llama3_tiktoken_options());
  }
  if (format == word_format::unknown) {
    const auto readable = ba::mapped_file::open(file);
    if (!readable) return readable.error();
    return ba::fail(ba::errc::unsupported, file.string(),
                    ": expected words in tokenizer.json, tiktoken ranks, GGUF or a llama2.c .bin file");
  }
  const auto gguf = ba::gguf_file::open(file);
  if (!gguf) return gguf.error();
  auto words = ba::make_tokenizer(*gguf);
  if (!words) return ba::fail(words.error().code, file.string(), ": ", words.error().message);
  return words;
}

}  // namespace cli
