// SPDX-License-Identifier: MIT
/// The names of what `finetune` trains and measures on: a file, `worlds:SEED` or `stories:SEED`.
#pragma once

#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"
#include "story_source.hpp"
#include "world_source.hpp"

namespace cli {

/// The seed behind `prefix`, or nothing for a name that does not begin with it.
inline result<std::optional<std::uint64_t>> seed_of(const std::string& source, std::string_view prefix) {
  if (!source.starts_with(prefix)) return std::optional<std::uint64_t>();
  std::uint64_t seed = 0;
  const char* const first = source.data() + prefix.size();
  const auto [end, code] = std::from_chars(first, source.data() + source.size(), seed);
  if (code != std::errc() || end != source.data() + source.size())
    return ba::fail(ba::errc::invalid_argument, "expected ", prefix, "SEED, found \"", source, "\"");
  return std::optional<std::uint64_t>(seed);
}

struct source_name {
  enum { file, worlds, stories } what = file;
  std::uint64_t seed = 0;
};
inline result<source_name> read_source_name(const std::string& source) {
  const auto world = seed_of(source, "worlds:");
  if (!world) return world.error();
  if (*world) return source_name{source_name::worlds, **world};
  const auto story = seed_of(source, "stories:");
  if (!story) return story.error();
  if (*story) return source_name{source_name::stories, **story};
  return source_name{};
}

/// Of the tasks that the command line names; all five without.
inline stories::story_options story_options_of(const options& o) {
  stories::story_options out{.sentences = o.sentences};
  if (!o.tasks.empty()) out.tasks.clear();
  for (const std::size_t number : o.tasks) out.tasks.push_back(*stories::find_task(number));
  return out;
}

/// Contexts with their questions: of a file, or the first worlds or stories of a seed, whole ones.
inline result<std::vector<question_group>> open_groups(const options& o, const std::string& source, std::size_t most,
                                                       std::size_t questions) {
  const auto name = read_source_name(source);
  if (!name) return name.error();
  std::vector<question_group> out;
  if (name->what == source_name::worlds) {
    for (std::uint64_t n = 0; n < most; ++n) out.push_back(group_of(worlds::make_world(name->seed, n, {.questions = questions})));
    return out;
  }
  if (name->what == source_name::stories) {
    stories::story_options wanted = story_options_of(o);
    wanted.questions = questions;
    for (std::uint64_t n = 0; n < most; ++n) out.push_back(group_of(stories::make_story(name->seed, n, wanted)));
    return out;
  }
  auto samples = ba::open_dataset(source);
  if (!samples) return samples.error();
  out = group_questions(*std::move(samples));
  if (out.size() > most) out.resize(most);
  if (out.empty()) return ba::fail(ba::errc::bad_format, source, ": expected at least one question, found none");
  return out;
}

/// What `--train` names, in batches.
inline result<std::unique_ptr<sample_source>> open_source(const options& o, const ba::tokenizer& words,
                                                          const ba::prompt_template& form, const loss_weights& weigh) {
  const auto name = read_source_name(o.train);
  if (!name) return name.error();
  const double part = o.curriculum >= 0 ? o.curriculum : o.new_shape.empty() ? 0.0 : 0.7;
  const double curriculum_steps = part * static_cast<double>(o.steps);
  std::unique_ptr<sample_source> out;
  if (name->what == source_name::worlds) {
    out = std::make_unique<world_source>(
        words, form,
        world_source::settings{.seed = name->seed, .batch_tokens = o.batch_tokens, .questions = o.questions,
                               .curriculum_steps = curriculum_steps, .weigh = weigh});
    return out;
  }
  if (name->what == source_name::stories) {
    stories::story_options wanted = story_options_of(o);
    wanted.questions = o.questions;
    out = std::make_unique<story_source>(
        words, form,
        story_source::settings{.seed = name->seed, .batch_tokens = o.batch_tokens, .stories = wanted,
                               .curriculum_steps = curriculum_steps, .weigh = weigh});
    return out;
  }
  const auto groups = open_groups(o, o.train, ~std::size_t{0}, 0);
  if (!groups) return groups.error();
  std::vector<ba::training_sample> samples;
  for (const question_group& g : *groups) samples.push_back(make_sample(words, form, g, weigh));
  out = std::make_unique<file_source>(std::move(samples), o.batch_tokens, o.seed);
  return out;
}

}  // namespace cli
