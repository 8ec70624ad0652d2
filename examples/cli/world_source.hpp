// SPDX-License-Identifier: MIT
/// Worlds as what `finetune` trains on: lessons first, then easy worlds, then whole ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "training_data.hpp"
#include "worlds/lesson.hpp"
#include "worlds/world.hpp"

namespace cli {

/// A world in the form of a dataset.
inline question_group group_of(const worlds::world& w) {
  question_group out;
  std::vector<ba::passage> passages;
  for (const worlds::passage& p : w.passages) passages.push_back({p.title, p.text});
  for (const worlds::question& q : w.questions)
    out.questions.push_back({passages, q.text, q.answers(), std::string(to_string(q.what))});
  return out;
}

/// The way to whole worlds, by the part of it that is done.
struct stage {
  enum { facts, links, worlds } what;
  std::size_t count = 0;   // of a lesson's sentences, or its people
  bool asking = true;      // in words, and not only the other end of a word
  std::size_t level = 4;   // of a world
  bool fillers = true;
};
inline stage stage_at(double part, worlds::random& r) {
  if (part >= 1) return {stage::worlds};
  if (part < 0.25) return {stage::facts, grown(part, 0, 0.25, 2, 6), false};
  if (part < 0.4) return {stage::facts, grown(part, 0.25, 0.35, 3, 10)};
  const bool link = r.chance(60);
  if (part < 0.6) return link ? stage{stage::links, grown(part, 0.4, 0.6, 2, 6)} : stage{stage::facts, r.between(3, 10)};
  if (r.chance(20)) return link ? stage{stage::links, r.between(2, 6)} : stage{stage::facts, r.between(4, 10)};
  return {stage::worlds, 0, true, r.between(1, 4), part > 0.85};
}

/// Fresh worlds without end.
class world_source final : public generated_source {
 public:
  struct settings {
    std::uint64_t seed = 0;
    std::size_t batch_tokens = 0, questions = 14, passages = 10;
    double curriculum_steps = 0;  // until all worlds are whole; 0: from the start
    loss_weights weigh;
  };
  world_source(const ba::tokenizer& words, const ba::prompt_template& form, const settings& s)
      : generated_source(s.batch_tokens), words_(words), form_(form), settings_(s) {}

 private:
  ba::training_sample make(std::uint64_t step, std::uint64_t n) override {
    worlds::random r(settings_.seed ^ 0x6c6576656cu, n);
    const double part = settings_.curriculum_steps > 0 ? static_cast<double>(step) / settings_.curriculum_steps : 1.0;
    const stage now = stage_at(part, r);
    const worlds::world w =
        now.what == stage::worlds
            ? worlds::make_world(settings_.seed, n, {now.level, settings_.passages, settings_.questions, now.fillers})
        : now.what == stage::links ? worlds::make_links(settings_.seed, n, now.count, settings_.questions)
                                   : worlds::make_lesson(settings_.seed, n, now.count, settings_.questions);
    ba::training_sample s;
    if (w.questions.empty()) return s;
    if (now.asking) {
      s = make_sample(words_, form_, group_of(w), settings_.weigh);
    } else {  // behind the lesson's text with nothing around it
      s.ids = words_.encode(" " + w.passages.front().text);
      s.weights.assign(s.ids.size(), settings_.weigh.other);
      s.block_ends.push_back(static_cast<std::uint32_t>(s.ids.size()));
    }
    if (now.what == stage::facts)  // the ends of its facts, one word after the other
      for (const auto& [given, wanted] : worlds::ends_of(w))
        add_branch(ba::encode_answer(words_, form_, given), ba::encode_answer(words_, form_, wanted), settings_.weigh, s);
    return s;
  }

  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  settings settings_;
};

}  // namespace cli
