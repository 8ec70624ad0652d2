// SPDX-License-Identifier: MIT
// A small model learns which passage answers a question, every sample under both masks as the paper trains; then a
// session answers from blocks encoded once, in an order that training never showed.
#include <blockattn/blockattn.hpp>
#include <blockattn/core/thread_executor.hpp>
#include <blockattn/train/trainer.hpp>

#include <algorithm>
#include <iostream>
#include <vector>

namespace ba = blockattn;

namespace {

// Four people (ids 0..3) in four towns (4..7): a passage is PERSON LIVES TOWN, the question WHERE PERSON.
constexpr ba::token lives = 8, where = 9;
std::vector<ba::token> passage(ba::token person, ba::token town) { return {person, lives, town, person, town}; }

// All passages in some order, then one branch for each person: what it is asked, and the answer.
ba::training_sample sample(const std::vector<ba::token>& order, const std::vector<ba::token>& town_of) {
  ba::training_sample s;
  for (const ba::token person : order) {
    const auto ids = passage(person, town_of[static_cast<std::size_t>(person)]);
    s.ids.insert(s.ids.end(), ids.begin(), ids.end());
    s.block_ends.push_back(static_cast<std::uint32_t>(s.ids.size()));
  }
  s.weights.assign(s.ids.size(), 1.0f);  // answers alone would leave a small model on a plateau
  for (ba::token person = 0; person < 4; ++person) {
    s.ids.insert(s.ids.end(), {where, person, town_of[static_cast<std::size_t>(person)]});
    s.weights.insert(s.weights.end(), {0.0f, 1.0f, 1.0f});
    s.branch_ends.push_back(static_cast<std::uint32_t>(s.ids.size()));
  }
  return s;
}

}  // namespace

int main() {
  const std::vector<std::vector<ba::token>> worlds = {{4, 5, 6, 7}, {7, 6, 5, 4}, {5, 4, 7, 6}, {6, 7, 4, 5}};
  const ba::model_config config{.layers = 2, .dim = 32, .heads = 4, .kv_heads = 2, .head_dim = 8, .ffn = 64,
                                .vocab = 10, .rope = {.rotary_dim = 8}};
  ba::thread_executor workers(2);
  const std::vector<ba::token> held_out = {1, 0, 3, 2};
  std::vector<ba::token> order = {0, 1, 2, 3};
  // A batch: the next order of the passages, in every world.
  const auto next_batch = [&] {
    do std::next_permutation(order.begin(), order.end());
    while (order == held_out);
    std::vector<ba::training_sample> samples;
    for (const auto& world : worlds) samples.push_back(sample(order, world));
    return samples;
  };

  // region: body
  ba::training_options options;
  options.lr = 0.004;
  options.warmup_steps = 20;
  auto run = ba::trainer<>::make(ba::parameters<>::random(config, 1).value(), options, workers).value();
  for (int step = 0; step < 1500; ++step) {
    const std::vector<ba::training_sample> samples = next_batch();
    std::vector<ba::training_item> items;  // every sample both ways, as the paper has it
    for (const ba::training_sample& s : samples)
      for (const ba::mask_mode mode : {ba::mask_mode::full, ba::mask_mode::block}) items.push_back({&s, mode});
    const ba::step_report report = run.step(items).value();
    if (step % 250 == 0) std::cout << "step " << step << ": loss " << report.loss_sum / report.weight_sum << "\n";
  }
  const auto model = ba::llama<>::bind(run.parameters()).value();  // parameters are a source of weights
  // endregion: body

  ba::session chat(model);
  int right = 0;
  for (const auto& world : worlds) {
    std::vector<ba::block_handle> blocks;
    for (const ba::token person : held_out)
      blocks.push_back(chat.encode(passage(person, world[static_cast<std::size_t>(person)])).value());
    for (ba::token person = 0; person < 4; ++person) {
      ba::context context(chat, {.room = 8});
      (void)context.assemble(blocks).value();
      chat.prefill(context, std::vector<ba::token>{where, person}).value();
      const auto logits = context.logits();
      const auto answer = std::max_element(logits.begin(), logits.end()) - logits.begin();
      right += answer == world[static_cast<std::size_t>(person)] ? 1 : 0;
    }
  }
  std::cout << right << " of 16 answers are right, over blocks in an order never seen\n";
  return right >= 12 ? 0 : 1;
}
