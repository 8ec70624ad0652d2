// SPDX-License-Identifier: MIT
// `worlds`: small worlds in plain English, as questions for `score` or as contexts for `finetune`.
#include <cstdio>

#include "options.hpp"
#include "terminal.hpp"
#include "worlds/json.hpp"

namespace cli {

result<json> worlds(const options& o) {
  const ::worlds::world_options wanted{o.level, o.world_passages, o.questions};
  std::size_t questions = 0;
  std::FILE* const to = o.out.empty() ? stdout : std::fopen(o.out.c_str(), "wb");
  if (to == nullptr) return blockattn::fail(blockattn::errc::io, o.out, ": cannot be opened for writing");
  bool written = true;
  {
    progress bar("making worlds");
    for (std::size_t n = 0; n < o.count && written; ++n) {
      const ::worlds::world w = ::worlds::make_world(o.seed, o.first + n, wanted);
      const std::string lines = o.world_format == "contexts" ? ::worlds::context_line(w) : ::worlds::question_lines(w);
      // A document without questions is no line of either format.
      written = w.questions.empty() || std::fwrite(lines.data(), 1, lines.size(), to) == lines.size();
      questions += w.questions.size();
      bar(n + 1, o.count);
    }
  }
  if (!o.out.empty()) written = std::fclose(to) == 0 && written;
  if (!written) return blockattn::fail(blockattn::errc::io, o.out.empty() ? "standard output" : o.out, ": cannot write");
  return json{{"worlds", o.count}, {"questions", questions}};
}

}  // namespace cli
