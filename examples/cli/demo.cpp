// SPDX-License-Identifier: MIT
// `demo`: the main job on the model that lies in examples/data. Questions are answered over passages that anyone may edit,
// from blocks encoded once; then one passage changes, and one block is encoded.
#include <blockattn/text/detokenize.hpp>
#include <blockattn/text/read_file.hpp>

#include <cstdio>

#include "prompt.hpp"
#include "ttft.hpp"

namespace cli {

namespace {

// The lines of a file, without those that are empty.
result<std::vector<std::string>> read_lines(const std::string& file) {
  const auto text = ba::read_file(file);
  if (!text) return text.error();
  std::vector<std::string> out;
  for (std::size_t from = 0; from < text->size();) {
    const std::size_t end = std::min(text->find('\n', from), text->size());
    if (end != from) out.push_back(text->substr(from, end - from));
    from = end + 1;
  }
  if (out.empty()) return ba::fail(ba::errc::bad_format, file, ": expected a question on each line, found none");
  return out;
}

// The first passage that says `from` says `to` from now on. Whether one did.
bool rewrite(std::vector<ba::passage>& passages, const std::string& from, const std::string& to) {
  for (ba::passage& p : passages)
    if (const std::size_t at = p.text.find(from); at != std::string::npos) {
      p.text.replace(at, from.size(), to);
      return true;
    }
  return false;
}

struct asked {
  std::string answer;
  timing cold, warm, full;
  bool same_bits = false;
  std::size_t encoded = 0;  // blocks that the store did not have
};

class table {
 public:
  table(opened& all, const options& o)
      : all_(all), chat_(*all.rt.chat), most_(o.max_tokens), store_({.budget_bytes = 256u << 20}) {}

  // Asks three times: over what the store has, over what it has then, and with full attention.
  result<asked> ask(const std::vector<ba::passage>& passages, const std::string& question) {
    const prompt p = tokenise(all_.words(), all_.form, passages, question);
    const std::size_t total = count_tokens(p.blocks) + p.question.size();
    ba::context at(chat_.layout(), {.room = p.question.size() + most_});
    ba::context whole(chat_.layout(), {.room = total + most_});
    asked out;
    ba::token first = 0;
    const auto before = store_.counters().misses;
    auto cold = time_block(chat_, store_, at, p.blocks, p.question, first);
    if (!cold) return cold.error();
    out.encoded = static_cast<std::size_t>(store_.counters().misses - before);
    const std::vector<float> logits(at.logits().begin(), at.logits().end());
    auto warm = time_block(chat_, store_, at, p.blocks, p.question, first);
    if (!warm) return warm.error();
    out.same_bits = std::memcmp(logits.data(), at.logits().data(), logits.size() * sizeof(float)) == 0;
    std::vector<ba::token> ids;
    auto tokens = chat_.generate(at, ba::greedy{}, {.max_tokens = most_, .stop = all_.rt.stops()});
    for (const ba::token id : tokens) ids.push_back(id);
    if (tokens.error()) return *tokens.error();
    out.answer = ba::to_valid_utf8(all_.words().decode(std::span<const ba::token>(ids), {.continues = true}));
    out.answer.erase(0, out.answer.find_first_not_of(' '));
    auto full = time_full(chat_, whole, p.blocks, p.question, first);
    if (!full) return full.error();
    out.cold = *cold, out.warm = *warm, out.full = *full;
    return out;
  }
  [[nodiscard]] auto counters() const { return store_.counters(); }

 private:
  opened& all_;
  session& chat_;
  std::size_t most_;
  ba::kv_store<> store_;
};

}  // namespace

result<json> demo(const options& given) {
  options o = given;
  o.template_name = "plain";  // the words that the model was trained with
  o.max_tokens = 8;
  auto all = open_with_words(o);
  if (!all) return std::move(all).error();
  auto passages = ba::open_passages(o.passages);
  if (!passages) return std::move(passages).error();
  const auto questions = read_lines(o.questions_file);
  if (!questions) return questions.error();

  const bool people = !o.common.json;
  if (people)
    std::printf("%zu passages of %s, %s, %zu workers. Each question is asked from the store as it is, from the store again,\n"
                "and with full attention; times are to the first token.\n\n",
                passages->size(), o.passages.c_str(), ba::isa_name(), all->rt.pool->concurrency());
  table at(*all, o);
  json rows = json::array();
  bool same_bits = true, faster = true;
  const auto ask = [&](const std::string& question) -> result<asked> {
    auto a = at.ask(*passages, question);
    if (!a) return a;
    same_bits = same_bits && a->same_bits;
    faster = faster && a->warm.ttft_ms < a->full.ttft_ms;
    rows.push_back({{"question", question},
                    {"answer", a->answer},
                    {"encoded", a->encoded},
                    {"cold", a->cold.to_json()},
                    {"warm", a->warm.to_json()},
                    {"full", a->full.to_json()}});
    if (people)
      std::printf("%s\n  %-22s first %6.2f ms (blocks encoded: %zu), warm %6.2f ms (%zu tokens computed, %zu reused), full %6.2f ms\n",
                  question.c_str(), a->answer.c_str(), a->cold.ttft_ms, a->encoded, a->warm.ttft_ms,
                  a->warm.tokens_computed, a->warm.tokens_reused, a->full.ttft_ms);
    return a;
  };
  for (const std::string& question : *questions)
    if (const auto a = ask(question); !a) return a.error();

  std::size_t encoded_for_edit = 0;
  if (!o.edit.empty()) {
    const std::size_t middle = o.edit.find('=');
    const std::string from = o.edit.substr(0, middle), to = o.edit.substr(middle + 1);
    if (!rewrite(*passages, from, to))
      return ba::fail(ba::errc::invalid_argument, "--edit: expected a word of the passages, found ", from);
    if (people) std::printf("\nOne passage changes, %s is now %s:\n", from.c_str(), to.c_str());
    const auto a = ask(questions->front());
    if (!a) return a.error();
    encoded_for_edit = a->encoded;
  }
  const auto counters = at.counters();
  if (people)
    std::printf("\nstored and fresh blocks gave the same logits in every bit: %s; the store holds %zu blocks, %.1f MB\n",
                same_bits ? "yes" : "NO", counters.blocks, static_cast<double>(counters.bytes) * 1e-6);
  if (!same_bits) return ba::fail(ba::errc::bad_format, "demo: warm logits differ from cold ones");
  // No error: what else runs on the machine decides it, too.
  if (people && !faster) std::printf("a warm first token was not always faster than full attention: is the machine busy?\n");
  return json{{"rows", rows}, {"same_bits", same_bits}, {"encoded_for_edit", encoded_for_edit}, {"warm_faster", faster}};
}

}  // namespace cli
