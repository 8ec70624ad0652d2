// SPDX-License-Identifier: MIT
// Fuzz target: whatever the bytes, reading them as tokenizer.json and the configs beside it ends in a tokenizer that
// works or in an error that names a place. Three documents in one input, with zero bytes between them.
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/hf_tokenizer.hpp>

#include <cstddef>
#include <cstdint>

namespace {

namespace ba = blockattn;

// A broken law must stop the fuzzer in any build.
void require(bool ok) {
  if (!ok) __builtin_trap();
}

void use(const ba::tokenizer& words, std::string_view text) {
  for (const bool special : {false, true}) {
    const auto ids = words.encode(text, {.bos = words.add_bos(), .special = special});
    for (const ba::token id : ids) require(words.contains(id));
    if (words.lossless() && !special) require(words.decode(ids) == text);
    (void)ba::to_valid_utf8(words.decode(ids, {.special = true}));
  }
  for (const ba::token id : words.stops()) require(words.contains(id));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  std::string_view parts[3];
  std::string_view rest = all;
  for (std::string_view& part : parts) {
    part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : part.size());
  }
  const auto words = ba::read_hf_tokenizer({parts[0], parts[1], parts[2]});
  if (!words) {
    require(!words.error().message.empty());
    return 0;
  }
  use(*words, all.substr(0, 256));
  use(*words, "Hello  w\xC3\xB6rld e\xCC\x81 123 \xE2\x96\x81<s> it's\n\n");
  return 0;
}
