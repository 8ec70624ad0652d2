// SPDX-License-Identifier: MIT
// `stories`: stories in the manner of bAbI, as questions for `score` and `finetune`.
#include <cstdio>

#include "options.hpp"
#include "stories/json.hpp"
#include "terminal.hpp"

namespace cli {

result<json> stories(const options& o) {
  ::stories::story_options wanted{.sentences = o.sentences, .questions = o.questions};
  if (!o.tasks.empty()) wanted.tasks.clear();
  for (const std::size_t number : o.tasks) wanted.tasks.push_back(*::stories::find_task(number));
  std::size_t questions = 0;
  std::FILE* const to = o.out.empty() ? stdout : std::fopen(o.out.c_str(), "wb");
  if (to == nullptr) return blockattn::fail(blockattn::errc::io, o.out, ": cannot be opened for writing");
  bool written = true;
  {
    progress bar("telling stories");
    for (std::size_t n = 0; n < o.count && written; ++n) {
      const ::stories::story s = ::stories::make_story(o.seed, o.first + n, wanted);
      const std::string lines = ::stories::question_lines(s);
      written = std::fwrite(lines.data(), 1, lines.size(), to) == lines.size();
      questions += s.questions.size();
      bar(n + 1, o.count);
    }
  }
  if (!o.out.empty()) written = std::fclose(to) == 0 && written;
  if (!written) return blockattn::fail(blockattn::errc::io, o.out.empty() ? "standard output" : o.out, ": cannot write");
  return json{{"stories", o.count}, {"questions", questions}};
}

}  // namespace cli
