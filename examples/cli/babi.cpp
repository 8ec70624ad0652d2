// SPDX-License-Identifier: MIT
// `babi`: a task of bAbI as questions for `score` and `finetune`.
#include <blockattn/text/babi.hpp>
#include <blockattn/text/read_file.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "options.hpp"
#include "terminal.hpp"

namespace cli {

result<json> babi(const options& o) {
  const auto text = blockattn::read_file(o.file);
  if (!text) return text.error();
  const auto samples = blockattn::read_babi(*text, o.group);
  if (!samples) return blockattn::fail(samples.error().code, o.file, ": ", samples.error().message);
  // "qa11" of qa11_basic-coreference_train.txt: `score` tells accuracy by kind.
  std::string kind = std::filesystem::path(o.file).stem().string();
  kind.resize(std::min(kind.size(), kind.find('_')));
  std::string lines;
  for (const blockattn::sample& s : *samples) {
    auto passages = json::array();
    for (const blockattn::passage& p : s.passages) passages.push_back({{"text", p.text}});
    const json line = {{"passages", std::move(passages)}, {"question", s.question}, {"answers", s.answers}, {"kind", kind}};
    lines += line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  }
  std::FILE* const to = o.out.empty() ? stdout : std::fopen(o.out.c_str(), "wb");
  if (to == nullptr) return blockattn::fail(blockattn::errc::io, o.out, ": cannot be opened for writing");
  bool written = std::fwrite(lines.data(), 1, lines.size(), to) == lines.size();
  if (!o.out.empty()) written = std::fclose(to) == 0 && written;
  if (!written) return blockattn::fail(blockattn::errc::io, o.out.empty() ? "standard output" : o.out, ": cannot write");
  return json{{"questions", samples->size()}};
}

}  // namespace cli
