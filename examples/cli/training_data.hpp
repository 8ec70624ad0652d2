// SPDX-License-Identifier: MIT
/// What `finetune` trains on: questions over passages as samples of tokens, and the samples of a file.
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

#include "worlds/random.hpp"

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

/// What the loss counts.
struct loss_weights {
  float answer = 1;  // the answer's tokens, and the end token behind them
  float other = 0;   // passages and questions
  bool end = true;   // the end token too
  std::vector<ba::token> never = {};  // tokens of blocks that it does not count: sinks
};

/// The blocks of an answer's prompt, and each question with its first answer as a branch: token for token what `answer`
/// and `score` build. `asking` off: the blocks alone.
inline ba::training_sample make_sample(const ba::tokenizer& words, const ba::prompt_template& form,
                                       const question_group& group, const loss_weights& weigh, bool asking = true) {
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
        for (std::size_t k = out.ids.size() - block.size(); k < out.ids.size(); ++k)
          if (std::find(weigh.never.begin(), weigh.never.end(), out.ids[k]) != weigh.never.end()) out.weights[k] = 0;
        out.block_ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
      }
    if (!asking) break;
    add(prompt.final, weigh.other);
    add(ba::encode_answer(words, form, s.answers.front()), weigh.answer);
    if (const ba::token end = words.eos(); end >= 0 && weigh.end) add({&end, 1}, weigh.answer);
    out.branch_ends.push_back(static_cast<std::uint32_t>(out.ids.size()));
  }
  return out;
}

/// A branch behind what a sample has: given some tokens, others are wanted.
inline void add_branch(std::span<const ba::token> given, std::span<const ba::token> wanted, const loss_weights& weigh,
                       ba::training_sample& to) {
  to.ids.insert(to.ids.end(), given.begin(), given.end());
  to.weights.resize(to.ids.size(), 0);
  to.ids.insert(to.ids.end(), wanted.begin(), wanted.end());
  to.weights.resize(to.ids.size(), weigh.answer);
  to.branch_ends.push_back(static_cast<std::uint32_t>(to.ids.size()));
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

/// Samples that are made as they are needed, without end. `make` gives the n-th, or one without tokens to be left out.
class generated_source : public sample_source {
 public:
  explicit generated_source(std::size_t batch_tokens) : batch_tokens_(batch_tokens) {}

  const std::vector<const ba::training_sample*>& batch(std::uint64_t step) final {
    constexpr std::uint64_t apart = 1u << 20;  // numbers of a step; seeds of other uses lie beyond all steps
    samples_.clear();
    batch_.clear();
    std::uint64_t n = first_number + step * apart;
    for (std::size_t tokens = 0; tokens < batch_tokens_; ++n) {
      ba::training_sample s = make(step, n);
      if (s.ids.empty()) continue;
      if (tokens != 0 && tokens + s.ids.size() > batch_tokens_) break;
      tokens += s.ids.size();
      samples_.push_back(std::make_unique<ba::training_sample>(std::move(s)));
      batch_.push_back(samples_.back().get());
    }
    return batch_;
  }

  /// What has a number below this is never trained on: commands that print it make it, to measure with.
  static constexpr std::uint64_t first_number = std::uint64_t{1} << 40;

 private:
  virtual ba::training_sample make(std::uint64_t step, std::uint64_t n) = 0;

  std::size_t batch_tokens_;
  std::vector<std::unique_ptr<ba::training_sample>> samples_;
  std::vector<const ba::training_sample*> batch_;
};

/// From one number to another while `part` goes from `begin` to `end`: for curricula.
[[nodiscard]] inline std::size_t grown(double part, double begin, double end, std::size_t from, std::size_t to) {
  const double done = std::clamp((part - begin) / (end - begin), 0.0, 1.0);
  return from + static_cast<std::size_t>(done * static_cast<double>(to - from) + 0.5);
}

}  // namespace cli
