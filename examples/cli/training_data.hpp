// SPDX-License-Identifier: MIT
/// What `finetune` trains on: questions over passages as samples of tokens, from a file or from worlds that are made as
/// they are needed.
#pragma once

#include <blockattn/text/dataset.hpp>
#include <blockattn/text/prompt.hpp>
#include <blockattn/train/sample.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "worlds/lesson.hpp"
#include "worlds/world.hpp"

namespace cli {

namespace ba = blockattn;

/// Questions that are asked over the same passages. Passages are in `questions.front()`.
struct question_group {
  std::vector<ba::sample> questions;
};

/// Neighbouring samples of equal passages together.
inline std::vector<question_group> group_questions(std::vector<ba::sample> samples) {
  std::vector<question_group> out;
  for (ba::sample& s : samples) {
    if (out.empty() || out.back().questions.front().passages != s.passages) out.emplace_back();
    out.back().questions.push_back(std::move(s));
  }
  return out;
}

/// A world in the form of a dataset.
inline question_group group_of(const worlds::world& w) {
  question_group out;
  std::vector<ba::passage> passages;
  for (const worlds::passage& p : w.passages) passages.push_back({p.title, p.text});
  for (const worlds::question& q : w.questions)
    out.questions.push_back({passages, q.text, q.answers(), std::string(to_string(q.what))});
  return out;
}

/// What the loss counts.
struct loss_weights {
  float answer = 1;  // the answer's tokens, and the end token behind them
  float other = 0;   // passages and questions
  bool end = true;   // the end token too
};

/// The blocks of an answer's prompt, and each question with its first answer as a branch: token for token what `answer`
/// and `score` build.
inline ba::training_sample make_sample(const ba::tokenizer& words, const ba::prompt_template& form,
                                       const question_group& group, const loss_weights& weigh) {
  ba::training_sample out;
  const auto add = [&](std::span<const ba::token> ids, float weight) {
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.weights.resize(out.ids.size(), weight);
  };
  for (std::size_t i = 0; i < group.questions.size(); ++i) {
    const ba::sample& s = group.questions[i];
    // The blocks are the same for every question; a template has them encoded each time.
    const ba::token_prompt prompt =
        ba::encode_prompt(words, form, i == 0 ? std::span<const ba::passage>(s.passages) : std::span<const ba::passage>(), s.question);
    if (i == 0)
      for (const auto& block : prompt.blocks) {
        add(block, weigh.other);
        out.block_ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
      }
    add(prompt.final, weigh.other);
    add(ba::encode_answer(words, form, s.answers.front()), weigh.answer);
    if (const ba::token end = words.eos(); end >= 0 && weigh.end) add({&end, 1}, weigh.answer);
    out.branch_ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
  }
  return out;
}

/// The ends of a lesson's facts as branches, one word after the other; behind what the sample has, or, if it is empty,
/// behind the lesson's text with nothing around it.
inline void add_ends(const ba::tokenizer& words, const ba::prompt_template& form, const worlds::world& lesson,
                     const loss_weights& weigh, ba::training_sample& to) {
  const auto add = [&](std::span<const ba::token> ids, float weight) {
    to.ids.insert(to.ids.end(), ids.begin(), ids.end());
    to.weights.resize(to.ids.size(), weight);
  };
  if (to.ids.empty()) {
    add(words.encode(" " + lesson.passages.front().text), weigh.other);
    to.block_ends.push_back(static_cast<std::uint32_t>(to.ids.size()));
  }
  for (const auto& [given, wanted] : worlds::ends_of(lesson)) {
    add(ba::encode_answer(words, form, given), 0);
    add(ba::encode_answer(words, form, wanted), weigh.answer);
    to.branch_ends.push_back(static_cast<std::uint32_t>(to.ids.size()));
  }
}

/// Batches by number: the n-th is the same whenever it is asked for, so that a run that goes on after a stop sees what it
/// would have seen. Samples live until the next call.
class sample_source {
 public:
  virtual ~sample_source() = default;
  virtual const std::vector<const ba::training_sample*>& batch(std::uint64_t step) = 0;
};

/// Samples of a file, each once an epoch, in an order that the seed decides.
class file_source final : public sample_source {
 public:
  file_source(std::vector<ba::training_sample> samples, std::size_t batch_tokens, std::uint64_t seed)
      : samples_(std::move(samples)), batch_tokens_(batch_tokens), seed_(seed) {}

  const std::vector<const ba::training_sample*>& batch(std::uint64_t step) override {
    if (step < next_) next_ = 0, epoch_ = 0, at_ = 0, order_.clear();
    for (; next_ <= step; ++next_) take();  // those before it are only counted
    return batch_;
  }

 private:
  void take() {
    batch_.clear();
    for (std::size_t tokens = 0; tokens < batch_tokens_;) {
      if (at_ == order_.size()) {
        order_.resize(samples_.size());
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        worlds::random(seed_, epoch_++).shuffle(order_);
        at_ = 0;
      }
      const ba::training_sample& s = samples_[order_[at_]];
      if (tokens != 0 && tokens + s.ids.size() > batch_tokens_) break;
      batch_.push_back(&s);
      tokens += s.ids.size();
      ++at_;
    }
  }

  std::vector<ba::training_sample> samples_;
  std::size_t batch_tokens_;
  std::uint64_t seed_, epoch_ = 0, next_ = 0;
  std::size_t at_ = 0;
  std::vector<std::size_t> order_;
  std::vector<const ba::training_sample*> batch_;
};

/// The way to whole worlds, by the part of it that is done.
struct stage {
  enum { facts, links, worlds } what;
  std::size_t count = 0;   // of a lesson's sentences, or its people
  bool asking = true;      // in words, and not only the other end of a word
  std::size_t level = 4;   // of a world
  bool fillers = true;
};
inline stage stage_at(double part, worlds::random& r) {
  // From one number to another while `part` goes from `begin` to `end`.
  const auto grown = [&](double begin, double end, std::size_t from, std::size_t to) {
    const double done = std::clamp((part - begin) / (end - begin), 0.0, 1.0);
    return from + static_cast<std::size_t>(done * static_cast<double>(to - from) + 0.5);
  };
  if (part >= 1) return {stage::worlds};
  if (part < 0.25) return {stage::facts, grown(0, 0.25, 2, 6), false};
  if (part < 0.4) return {stage::facts, grown(0.25, 0.35, 3, 10)};
  const bool link = r.chance(60);
  if (part < 0.6) return link ? stage{stage::links, grown(0.4, 0.6, 2, 6)} : stage{stage::facts, r.between(3, 10)};
  if (r.chance(20)) return link ? stage{stage::links, r.between(2, 6)} : stage{stage::facts, r.between(4, 10)};
  return {stage::worlds, 0, true, r.between(1, 4), part > 0.85};
}

/// Fresh worlds without end.
class world_source final : public sample_source {
 public:
  struct settings {
    std::uint64_t seed = 0;
    std::size_t batch_tokens = 0, questions = 14, passages = 10;
    double curriculum_steps = 0;  // until all worlds are whole; 0: from the start
    loss_weights weigh;
  };
  world_source(const ba::tokenizer& words, const ba::prompt_template& form, const settings& s)
      : words_(words), form_(form), settings_(s) {}

  const std::vector<const ba::training_sample*>& batch(std::uint64_t step) override {
    constexpr std::uint64_t apart = 1u << 20;  // worlds of a step; seeds of other uses lie beyond all steps
    samples_.clear();
    batch_.clear();
    std::uint64_t n = first_world + step * apart;
    for (std::size_t tokens = 0; tokens < settings_.batch_tokens; ++n) {
      worlds::random r(settings_.seed ^ 0x6c6576656cu, n);
      const double part = settings_.curriculum_steps > 0 ? static_cast<double>(step) / settings_.curriculum_steps : 1.0;
      const stage now = stage_at(part, r);
      const worlds::world w =
          now.what == stage::worlds
              ? worlds::make_world(settings_.seed, n,
                                   {now.level, settings_.passages, settings_.questions, now.fillers})
          : now.what == stage::links ? worlds::make_links(settings_.seed, n, now.count, settings_.questions)
                                     : worlds::make_lesson(settings_.seed, n, now.count, settings_.questions);
      if (w.questions.empty()) continue;
      ba::training_sample s;
      if (now.asking) s = make_sample(words_, form_, group_of(w), settings_.weigh);
      if (now.what == stage::facts) add_ends(words_, form_, w, settings_.weigh, s);
      if (tokens != 0 && tokens + s.ids.size() > settings_.batch_tokens) break;
      tokens += s.ids.size();
      samples_.push_back(std::make_unique<ba::training_sample>(std::move(s)));
      batch_.push_back(samples_.back().get());
    }
    return batch_;
  }

  /// Worlds below this number are never trained on: `worlds --seed S` makes them, to measure with.
  static constexpr std::uint64_t first_world = std::uint64_t{1} << 40;

 private:
  const ba::tokenizer& words_;
  const ba::prompt_template& form_;
  settings settings_;
  std::vector<std::unique_ptr<ba::training_sample>> samples_;
  std::vector<const ba::training_sample*> batch_;
};

}  // namespace cli
