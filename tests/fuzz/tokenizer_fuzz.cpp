// SPDX-License-Identifier: MIT
// Fuzz target: whatever the bytes, reading them as a tokenizer or as passages ends in a value that works or an error.
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/llama2c_tokenizer.hpp>
#include <blockattn/text/passages.hpp>
#include <blockattn/text/template.hpp>

#include <cstddef>
#include <cstdint>

namespace {

namespace ba = blockattn;

// A broken law must stop the fuzzer in any build.
void require(bool ok) {
  if (!ok) __builtin_trap();
}

void use(const ba::tokenizer& words, std::string_view text) {
  const auto ids = words.encode(text, {.bos = true});
  for (const ba::token id : ids) require(words.contains(id));
  if (words.lossless()) require(words.decode(ids) == text);
  (void)words.encode(text, {.special = true});
  ba::detokenizer stream(words);
  for (std::size_t i = 0; i + 4 <= text.size() && i < 4096; i += 4) {
    ba::token id = 0;
    std::memcpy(&id, text.data() + i, 4);
    for (const ba::token any : {id, static_cast<ba::token>(id & 0xFF)}) {
      const std::string_view out = stream.push(any);
      require(ba::valid_utf8_prefix(out) == out.size());
      (void)words.piece(any);
    }
  }
  (void)stream.flush();
}

// Lines "piece", then after an empty line merges.
ba::vocabulary vocabulary_of(std::string_view lines, bool bpe, std::uint8_t seed) {
  ba::vocabulary v;
  v.model = bpe ? ba::vocabulary::kind::bpe : ba::vocabulary::kind::spm;
  v.pre = seed % 2 == 0 ? "gpt-2" : "llama-bpe";
  bool merges = false;
  while (!lines.empty()) {
    const std::size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end == std::string_view::npos ? lines.size() : end + 1);
    if (line.empty()) {
      merges = true;
    } else if (merges) {
      v.merges.emplace_back(line);
    } else {
      v.types.push_back(1 + line.front() % 6);
      v.scores.push_back(static_cast<float>(line.back()));
      v.pieces.emplace_back(line.substr(1));
    }
  }
  v.bos = static_cast<ba::token>(seed % 7) - 1;
  v.unk = static_cast<ba::token>(seed % 5) - 1;
  v.add_space_prefix = seed % 3 == 0;
  return v;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::uint8_t choice = data[0], seed = data[1];
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  switch (choice % 4) {
    case 0:
      if (const auto words = ba::read_llama2c_tokenizer(std::as_bytes(std::span<const char>(bytes)), seed))
        use(*words, bytes);
      break;
    case 1:
      if (const auto passages = ba::read_passages(bytes)) {
        for (const auto& t : ba::prompt_templates()) {
          const auto prompt = ba::render(t, *passages, bytes.substr(0, 64));
          require(prompt.passages.size() == passages->size());
          require(prompt.joined().size() >= prompt.preamble.size() + prompt.final.size());
        }
      }
      break;
    case 2: {
      const ba::prompt_template own{"own", "", std::string(bytes), std::string(bytes), false, seed % 2 == 0};
      (void)ba::render(own, std::vector<ba::passage>{{"{text}", std::string(bytes)}}, bytes);
      (void)ba::to_valid_utf8(bytes);
      break;
    }
    default: {
      const std::size_t cut = bytes.size() / 2;
      const auto words = ba::tokenizer::from_vocabulary(vocabulary_of(bytes.substr(0, cut), seed % 2 == 0, seed));
      if (words) use(*words, bytes.substr(cut));
    }
  }
  return 0;
}
