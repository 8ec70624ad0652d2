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

/// Questions that break off. A model that knows the place at "Mary" does not know it at "Answer:", five tokens on, and
/// finds no way there by itself in thousands of steps. Asked at every token in between it finds it in hundreds.
class cut_questions {
 public:
  cut_questions(const ba::tokenizer& words, const ba::prompt_template& form) : words_(words), form_(form) {
    const auto a = final_of("Where is Mary?"), b = final_of("Who is John?");
    while (tail_ < std::min(a.size(), b.size()) && a[a.size() - 1 - tail_] == b[b.size() - 1 - tail_]) ++tail_;
  }

  /// From a word on: "Mary" and some of what a template writes behind it.
  std::vector<ba::token> from_word(const std::string& word, worlds::random& r) const {
    std::vector<ba::token> out = ba::encode_answer(words_, form_, word);
    const auto all = final_of("Where is " + word + "?");
    out.insert(out.end(), all.end() - static_cast<std::ptrdiff_t>(tail_), all.end());
    out.resize(out.size() - r.below(tail_ + 1));
    return out;
  }
  /// From the start.
  std::vector<ba::token> whole(const std::string& question, worlds::random& r) const {
    auto out = final_of(question);
    out.resize(out.size() - r.below(tail_ + 1));
    return out;
  }

 private:
  std::vector<ba::token> final_of(const std::string& question) const { return ba::encode_prompt(words_, form_, {}, question).final; }

  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  std::size_t tail_ = 0;  // tokens behind the last word of any question
};

/// The way to whole stories, by the part of it that is done.
struct story_stage {
  enum { one, moves, gifts, all } what = all;  // of the tasks: where one moves at a time; or two; who gave what
  std::size_t sentences = 0;              // 0: as in bAbI's files
  bool asking = true;                     // in words
  bool ends = false;                      // by a word and its question's end, or a question that breaks off
  bool tails = true;                      // not by the word alone
  bool lesson = false;
};
inline story_stage story_stage_at(double part, worlds::random& r) {
  if (part >= 1) return {};
  if (part < 0.09) return {story_stage::one, r.between(2, 4), false, true, false, true};
  if (part < 0.2) return {story_stage::moves, r.between(2, grown(part, 0.09, 0.13, 4, 10)), false, true, false, false};
  if (part < 0.33) return {story_stage::moves, r.between(1, 10), true, true, true, r.chance(10)};
  // Gifts are learned last, and take longest.
  if (r.chance(25)) return {story_stage::gifts, r.chance(50) ? r.between(2, 10) : 0, true, r.chance(30), true, r.chance(50)};
  return {story_stage::all, r.chance(50) ? r.between(1, 10) : 0, true, r.chance(15), true, r.chance(15)};
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
      : generated_source(s.batch_tokens), words_(words), form_(form), cut_(words, form), settings_(s) {}

 private:
  ba::training_sample make(std::uint64_t step, std::uint64_t n) override {
    worlds::random r(settings_.seed ^ 0x7374616765u, n);
    const double part = settings_.curriculum_steps > 0 ? static_cast<double>(step) / settings_.curriculum_steps : 1.0;
    const story_stage now = story_stage_at(part, r);
    stories::story_options wanted = settings_.stories;
    wanted.sentences = now.sentences;
    wanted.lesson = now.lesson;
    if (now.what != story_stage::all) {
      std::erase_if(wanted.tasks, [&](stories::task t) {
        if (now.what == story_stage::gifts) return t != stories::task::given;
        return t != stories::task::where && (t != stories::task::together || now.what == story_stage::one);
      });
      if (wanted.tasks.empty()) wanted.tasks = {stories::task::where};
    }
    const stories::story told = stories::make_story(settings_.seed, n, wanted);
    if (told.questions.empty()) return {};
    ba::training_sample s = make_sample(words_, form_, group_of(told), settings_.weigh, now.asking);
    if (!now.ends) return s;
    const auto add = [&](const std::vector<ba::token>& given, const std::string& answer) {
      add_branch(given, ba::encode_answer(words_, form_, answer), settings_.weigh, s);
    };
    for (const auto& [word, other] : told.ends)
      add(now.tails ? cut_.from_word(word, r) : ba::encode_answer(words_, form_, word), other);
    if (told.ends.empty())
      for (const stories::question& q : told.questions) add(cut_.whole(q.text, r), q.answer);
    return s;
  }

  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  cut_questions cut_;
  settings settings_;
};

}  // namespace cli
