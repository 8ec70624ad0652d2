// SPDX-License-Identifier: MIT
// Training under the block mask equals inference with assembled blocks: the loss of a batch is the negative
// log-likelihood that a session gives through store and context.
#include "support.hpp"

#include "blockattn/cache/kv_store.hpp"
#include "blockattn/model/session.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

// -log p of what a branch predicts, weighted, by assembling blocks (mode block) or one long prompt (mode full).
double branch_loss(ba::session<>& chat, ba::kv_store<>& store, const ba::training_sample& s, ba::mask_mode mode) {
  const std::uint32_t vocab = chat.model().config().vocab;
  double sum = 0;
  std::size_t first = s.context();
  for (const std::size_t end : s.branch_ends) {
    std::vector<ba::token> prompt;
    std::vector<std::vector<ba::token>> blocks;
    std::size_t begin = 0;
    for (const std::size_t stop : s.block_ends) {
      blocks.emplace_back(s.ids.begin() + static_cast<std::ptrdiff_t>(begin), s.ids.begin() + static_cast<std::ptrdiff_t>(stop));
      begin = stop;
    }
    ba::context context(chat, {.room = 512});
    std::size_t before = 0;
    if (mode == ba::mask_mode::block) {
      const auto handles = store.find_or_encode(blocks, chat).value();
      (void)context.assemble(handles).value();
    } else {
      prompt.assign(s.ids.begin(), s.ids.begin() + static_cast<std::ptrdiff_t>(s.context()));
      before = prompt.size();
    }
    prompt.insert(prompt.end(), s.ids.begin() + static_cast<std::ptrdiff_t>(first), s.ids.begin() + static_cast<std::ptrdiff_t>(end));
    std::vector<float> logits(prompt.size() * vocab);
    chat.prefill_logits(context, prompt, logits).value();
    for (std::size_t i = first; i + 1 < end; ++i) {
      const float* row = logits.data() + (before + i - first) * vocab;
      double top = -1e30, all = 0;
      for (std::size_t v = 0; v < vocab; ++v) top = std::max(top, static_cast<double>(row[v]));
      for (std::size_t v = 0; v < vocab; ++v) all += std::exp(static_cast<double>(row[v]) - top);
      sum += static_cast<double>(s.weights[i + 1]) * (top + std::log(all) - static_cast<double>(row[s.ids[i + 1]]));
    }
    first = end;
  }
  return sum;
}

}  // namespace

TEST_CASE("train: the loss is that of inference with assembled blocks") {
  for (const ba::rope_layout layout : {ba::rope_layout::half_split, ba::rope_layout::interleaved}) {
    ba::model_config c = small_config();
    c.qkv_bias = c.qk_norm = true;
    c.rope.layout = layout;
    ba::inline_executor workers;
    auto run = ba::trainer<>::make(lively_parameters<float>(c), {}, workers).value();
    const auto model = ba::llama<>::bind(run.parameters()).value();
    ba::session<> chat(model, {}, {.kv = ba::dtype::f32});
    ba::kv_store<> store({.budget_bytes = 32u << 20});
    auto sample = random_sample({40, 7, 25}, {20, 9}, c.vocab);
    std::fill_n(sample.weights.begin(), sample.context(), 0.0f);
    for (const ba::mask_mode mode : {ba::mask_mode::block, ba::mask_mode::full}) {
      const ba::training_item items[] = {{&sample, mode, 1}};
      const auto report = run.loss(items).value();
      CHECK(std::abs(report.loss_sum - branch_loss(chat, store, sample, mode)) / report.weight_sum < 1e-4);
    }
    CHECK(store.counters().misses == 3);
  }
}
