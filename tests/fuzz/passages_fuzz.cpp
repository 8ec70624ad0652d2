// SPDX-License-Identifier: MIT
// Fuzz target: whatever the bytes, reading them as passages or as a dataset ends in values or in an error that says
// where; and what was read is rendered in every template.
#include <blockattn/text/answer_match.hpp>
#include <blockattn/text/babi.hpp>
#include <blockattn/text/dataset.hpp>
#include <blockattn/text/template.hpp>

#include <cstddef>
#include <cstdint>

namespace {

namespace ba = blockattn;

// A broken law must stop the fuzzer in any build.
void require(bool ok) {
  if (!ok) __builtin_trap();
}

void use(const std::vector<ba::passage>& passages, std::string_view question) {
  for (const auto& t : ba::prompt_templates()) {
    const auto prompt = ba::render(t, passages, question);
    require(prompt.passages.size() == passages.size());
    require(prompt.joined().size() >= prompt.preamble.size() + prompt.final.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto passages = ba::read_passages(bytes);
  require(passages || passages.error().message.find("line ") != std::string::npos);
  if (passages) use(*passages, bytes.substr(0, 64));
  const auto stories = ba::read_babi(bytes.substr(0, 4096), 1 + data[0] % 3);
  require(stories || stories.error().message.rfind("line ", 0) == 0);
  if (stories)
    for (const ba::sample& s : *stories) require(!s.answers.front().empty() && !s.question.empty());
  const auto format = static_cast<ba::dataset_format>(data[0] % 7);
  const auto samples = ba::read_dataset(bytes, format);
  if (!samples) {
    require(samples.error().code == ba::errc::unsupported || samples.error().message.rfind("line ", 0) == 0);
    return 0;
  }
  for (const ba::sample& s : *samples) {
    require(!s.answers.empty());
    use(s.passages, s.question);
    // An answer is right by the metric that it is the standard of.
    require(ba::exact_match(s.answers.front(), s.answers) && ba::best_subspan_em(s.answers.front(), s.answers));
  }
  const std::string normal = ba::normal_answer(bytes);
  require(ba::normal_answer(normal) == normal);
  return 0;
}
