// SPDX-License-Identifier: MIT
// Fuzz target: whatever the bytes, reading them as tiktoken ranks ends in a tokenizer that works or in an error that
// names a line.
#include <blockattn/text/tiktoken.hpp>

#include <cstddef>
#include <cstdint>

namespace {

namespace ba = blockattn;

void require(bool ok) {
  if (!ok) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  (void)ba::looks_like_tiktoken(file);
  static const ba::tiktoken_options options = [] {
    ba::tiktoken_options o;
    o.specials = {{"<|end|>", 300}};
    o.eos = "<|end|>";
    return o;
  }();
  const auto words = ba::read_tiktoken_tokenizer(file, options);
  if (!words) {
    require(words.error().message.find("tiktoken") == 0);
    return 0;
  }
  for (const std::string_view text : {file.substr(0, 512), std::string_view("abc aab<|end|>\xFF")}) {
    const auto ids = words->encode(text, {.special = true});
    for (const ba::token id : ids) require(words->contains(id));
    if (words->lossless()) require(words->decode(words->encode(text)) == text);
  }
  return 0;
}
