// SPDX-License-Identifier: MIT
/// What `finetune` sees of stories: batches by number, whole stories as `answer` builds them, and questions that break off
/// behind the word that is asked for and not before it.
#include <blockattn/text/bpe_trainer.hpp>
#include <blockattn/text/template.hpp>

#include <set>

#include "../support/catch.hpp"
#include "story_source.hpp"

namespace {

namespace ba = blockattn;

ba::tokenizer learn(const ba::prompt_template& form) {
  auto learner = ba::bpe_trainer::make({.pieces = 500}).value();
  for (std::uint64_t n = 0; n < 300; ++n) {
    const cli::question_group g = cli::group_of(stories::make_story(1, n));
    const auto first = ba::render(form, g.questions.front().passages, "");
    learner.add(first.preamble);
    for (const std::string& p : first.passages) learner.add(p);
    for (const ba::sample& s : g.questions) {
      learner.add(ba::render(form, {}, s.question).final);
      learner.add(" " + s.answers.front());
    }
  }
  return ba::tokenizer::from_vocabulary(learner.train()).value();
}

struct fixture {
  ba::prompt_template form = ba::find_template("plain").value();
  ba::tokenizer words = learn(form);
  cli::story_source source(double curriculum_steps, std::vector<stories::task> tasks = {stories::task::where}) const {
    return {words, form, {.seed = 3, .batch_tokens = 600, .stories = {.tasks = std::move(tasks)}, .curriculum_steps = curriculum_steps, .weigh = {}}};
  }
};

std::string text_of(const ba::tokenizer& words, std::span<const ba::token> ids) { return words.decode(ids); }

}  // namespace

TEST_CASE("story source: a batch is the same whenever it is asked for", "[cli][stories]") {
  const fixture f;
  for (const double steps : {0.0, 100.0}) {
    auto forward = f.source(steps), again = f.source(steps);
    std::vector<std::vector<ba::token>> first;
    for (std::uint64_t step = 0; step < 120; step += 17) first.push_back(forward.batch(step).front()->ids);
    std::set<std::vector<ba::token>> different(first.begin(), first.end());
    CHECK(different.size() == first.size());
    for (std::size_t i = first.size(); i-- > 0;) CHECK(again.batch(17 * i).front()->ids == first[i]);
    std::size_t tokens = 0;
    for (const ba::training_sample* s : again.batch(3)) tokens += s->ids.size();
    CHECK(tokens <= 600);
    CHECK(tokens > 300);
  }
}

TEST_CASE("story source: behind the curriculum a sample is a story with all its questions", "[cli][stories]") {
  const fixture f;
  auto source = f.source(0);
  const auto& batch = source.batch(7);
  const stories::story told = stories::make_story(3, cli::generated_source::first_number + (std::uint64_t{7} << 20), {.tasks = {stories::task::where}});
  const ba::training_sample expected = cli::make_sample(f.words, f.form, cli::group_of(told), {});
  CHECK(batch.front()->ids == expected.ids);
  CHECK(batch.front()->block_ends == expected.block_ends);
  CHECK(batch.front()->branch_ends == expected.branch_ends);
  CHECK(expected.block_ends.size() == told.sentences.size() + 1);  // and the preamble
  CHECK(expected.branch_ends.size() == told.questions.size());
}

TEST_CASE("story source: at first only words are asked, then ends of questions, and answers are those of the story", "[cli][stories]") {
  const fixture f;
  auto source = f.source(1000);
  std::set<std::string> given[3];
  const std::uint64_t steps[] = {10, 150, 250};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::uint64_t step = steps[i]; step < steps[i] + 5; ++step) {
      for (const ba::training_sample* s : source.batch(step)) {
        REQUIRE(!s->branch_ends.empty());
        std::uint32_t from = s->block_ends.back();
        const std::string story = text_of(f.words, std::span(s->ids).first(from));
        for (const std::uint32_t to : s->branch_ends) {
          std::size_t answer = to;
          while (answer > from && s->weights[answer - 1] > 0) --answer;
          REQUIRE(answer > from);
          REQUIRE(answer < to);
          given[i].insert(text_of(f.words, std::span(s->ids).subspan(from, answer - from)));
          const std::string wanted = text_of(f.words, std::span(s->ids).subspan(answer, 1));
          CHECK(story.find(wanted + ".") != std::string::npos);
          from = to;
        }
      }
    }
  }
  for (std::size_t i = 0; i < 2; ++i) {
    for (const std::string& word : given[i]) CHECK(word.find_first_of("?\n:") == std::string::npos);
    CHECK(given[i].contains(" Mary"));
    CHECK(given[i].contains(" Bill") == (i == 0));  // lessons have seven people
  }
  for (const char* tail : {" Mary", " Mary?", " Mary?\n", " Mary?\nAnswer", " Mary?\nAnswer:"}) {
    INFO(tail);
    CHECK(given[2].contains(tail));
  }
  CHECK(given[2].contains("Question: Where is Mary?\nAnswer:"));
}

TEST_CASE("story source: questions without a word of their own break off behind their last one", "[cli][stories]") {
  const fixture f;
  const cli::cut_questions cut(f.words, f.form);
  worlds::random r(1);
  std::set<std::string> seen;
  for (std::size_t i = 0; i < 200; ++i) seen.insert(text_of(f.words, cut.whole("Who gave the milk to Fred?", r)));
  const std::string all = f.words.decode(ba::encode_prompt(f.words, f.form, {}, "Who gave the milk to Fred?").final);
  CHECK(seen.size() == 5);
  for (const std::string& text : seen) {
    CHECK(all.starts_with(text));
    CHECK(text.find("to Fred") != std::string::npos);
  }
}
