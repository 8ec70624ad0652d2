// SPDX-License-Identifier: MIT
/// Stories as what `finetune` trains on: words alone over a sentence or two first, then whole stories with questions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "stories/story.hpp"
#include "training_data.hpp"

namespace cli {

/// A story in the form of a dataset, a sentence a passage.
inline question_group group_of(const stories::story& s) {
  question_group out;
  std::vector<ba::passage> passages;
  for (const std::string& sentence : s.sentences) passages.push_back({"", sentence});
  for (const stories::question& q : s.questions) out.questions.push_back({passages, q.text, {q.answer}, to_string(s.what)});
  return out;
}

/// The end of a question about a word, from the word on: what a template writes behind "Where is Mary", cut anywhere.
///
/// A model that knows the place at "Mary" does not know it at "Answer:", five tokens on, and finds no way there by itself
/// in thousands of steps. Asked at every token in between it finds it in hundreds.
inline std::vector<ba::token> tail_of_question(const ba::tokenizer& words, const ba::prompt_template& form,
                                               const std::string& word, worlds::random& r) {
  const std::vector<ba::token> begin = ba::encode_answer(words, form, word);
  const std::vector<ba::token> all = ba::encode_prompt(words, form, {}, "Where is " + word + "?").final;
  const auto at = std::search(all.begin(), all.end(), begin.begin(), begin.end());
  if (at == all.end()) return begin;
  const std::size_t least = begin.size(), most = static_cast<std::size_t>(all.end() - at);
  return {at, at + static_cast<std::ptrdiff_t>(r.between(least, most))};
}

/// The way to whole stories, by the part of it that is done.
struct story_stage {
  std::size_t sentences = 0;  // 0: as in bAbI's files
  bool asking = true;         // in words
  bool ends = false;          // by a word, or the end of a question
  bool tails = false;         // that
  bool lesson = false;
  bool easy = false;          // of the tasks, only those where people move and are called by name
};
inline story_stage story_stage_at(double part, worlds::random& r) {
  const std::size_t short_one = r.between(1, part < 0.06 ? grown(part, 0, 0.06, 3, 6) : grown(part, 0.06, 0.2, 4, 10));
  if (part >= 1) return {};
  if (part < 0.06) return {short_one, false, true, false, true, true};
  if (part < 0.12) return {short_one, false, true, true, r.chance(10), true};
  if (part < 0.3) return {short_one, true, true, true, r.chance(10), true};
  return {r.chance(50) ? short_one : 0, true, r.chance(15), true, r.chance(15), false};
}

/// Fresh stories without end.
class story_source final : public generated_source {
 public:
  struct settings {
    std::uint64_t seed = 0;
    std::size_t batch_tokens = 0;
    stories::story_options stories;
    double curriculum_steps = 0;  // until all stories are whole; 0: from the start
    loss_weights weigh;
  };
  story_source(const ba::tokenizer& words, const ba::prompt_template& form, const settings& s)
      : generated_source(s.batch_tokens), words_(words), form_(form), settings_(s) {}

 private:
  ba::training_sample make(std::uint64_t step, std::uint64_t n) override {
    worlds::random r(settings_.seed ^ 0x7374616765u, n);
    const double part = settings_.curriculum_steps > 0 ? static_cast<double>(step) / settings_.curriculum_steps : 1.0;
    const story_stage now = story_stage_at(part, r);
    stories::story_options wanted = settings_.stories;
    wanted.sentences = now.sentences;
    wanted.lesson = now.lesson;
    if (now.easy) {
      std::erase_if(wanted.tasks, [](stories::task t) { return t != stories::task::where && t != stories::task::together; });
      if (wanted.tasks.empty()) wanted.tasks = {stories::task::where};
    }
    const stories::story told = stories::make_story(settings_.seed, n, wanted);
    if (told.questions.empty()) return {};
    // A story without ends is asked in words at once.
    const bool ends = now.ends && !told.ends.empty();
    ba::training_sample s = make_sample(words_, form_, group_of(told), settings_.weigh, now.asking || !ends);
    if (!ends) return s;
    for (const auto& [word, wanted_word] : told.ends)
      add_branch(now.tails ? tail_of_question(words_, form_, word, r) : ba::encode_answer(words_, form_, word),
                 ba::encode_answer(words_, form_, wanted_word), settings_.weigh, s);
    return s;
  }

  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  settings settings_;
};

}  // namespace cli
