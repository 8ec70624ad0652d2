// SPDX-License-Identifier: MIT
/// Stories as what `finetune` trains on: a sentence or two first and words alone, then whole stories with questions.
#pragma once

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

/// The way to whole stories, by the part of it that is done.
struct story_stage {
  std::size_t sentences = 0;  // 0: as in bAbI's files
  bool asking = true;         // in words
  bool ends = false;          // by a word alone
  bool lesson = false;
};
inline story_stage story_stage_at(double part, worlds::random& r) {
  if (part >= 1) return {};
  if (part < 0.3) return {r.between(1, grown(part, 0, 0.3, 2, 7)), false, true, true};
  if (part < 0.5) return {r.between(1, grown(part, 0.3, 0.5, 5, 10)), true, true, r.chance(50)};
  return {r.chance(50) ? r.between(1, 10) : 0, true, r.chance(30), r.chance(20)};
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
    const stories::story told = stories::make_story(settings_.seed, n, wanted);
    const bool ends = now.ends && !told.ends.empty(), asking = now.asking || !ends;
    if (told.questions.empty()) return {};
    ba::training_sample s = make_sample(words_, form_, group_of(told), settings_.weigh, asking);
    if (ends) add_ends(words_, form_, told.ends, settings_.weigh, s);
    return s;
  }

  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  settings settings_;
};

}  // namespace cli
