// SPDX-License-Identifier: MIT
// The pass of training against the reference transformer: full attention, blocks, and branches that share a context.
#include "support.hpp"

#include "blockattn/reference/transformer.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

// Logits of every token that a sample predicts, each branch by the reference alone, in the order of training targets.
std::vector<double> reference_logits(const ba::reference::transformer& model, const ba::training_sample& s,
                                     ba::mask_mode mode) {
  std::vector<double> out;
  const auto part = [&](std::size_t first, std::size_t last) {
    return std::vector<ba::token>(s.ids.begin() + static_cast<std::ptrdiff_t>(first),
                                  s.ids.begin() + static_cast<std::ptrdiff_t>(last));
  };
  const auto take = [&](const ba::reference::forward_pass& pass, std::size_t first, std::size_t n) {
    for (std::size_t i = 0; i + 1 < n; ++i)
      if (s.weights[first + i + 1] != 0.0f)
        for (std::size_t v = 0; v < pass.logits.cols(); ++v) out.push_back(pass.logits(i, v));
  };
  std::vector<std::vector<ba::token>> blocks;
  if (mode == ba::mask_mode::full) {
    if (s.context() != 0) {
      blocks.push_back(part(0, s.context()));
      take(model.forward(blocks[0], ba::reference::causal()), 0, s.context());
    }
  } else {
    std::size_t first = 0;
    for (const std::size_t end : s.block_ends) {
      blocks.push_back(part(first, end));
      take(model.forward(blocks.back(), ba::reference::causal()), first, end - first);
      first = end;
    }
  }
  std::size_t first = s.context();
  for (const std::size_t end : s.branch_ends) {
    auto all = blocks;
    all.push_back(part(first, end));
    take(model.answer(all, ba::reference::position::key_side).value(), first, end - first);
    first = end;
  }
  return out;
}

template <class T>
void check(ba::model_config c, double bound) {
  const auto weights = lively_parameters<float>(c);
  const auto model = ba::reference::transformer::from(weights).value();
  ba::parameters<T> same(c);
  for (const ba::parameter_place& p : same.places()) std::ranges::copy(weights.span(p.name), same.span(p).begin());
  const auto several = random_sample({5, 17, 1}, {4, 30, 2}, c.vocab), none = random_sample({}, {50, 3}, c.vocab, 2);
  for (const auto* sample : {&several, &none})
    for (const ba::mask_mode mode : {ba::mask_mode::full, ba::mask_mode::block}) {
      const auto expected = reference_logits(model, *sample, mode);
      const auto found = training_logits<T>(same, {sample, mode, 1});
      CHECK(relative_distance(found, expected) < bound);
    }
}

}  // namespace

TEST_CASE("train: logits are those of the reference transformer") {
  ba::model_config c = odd_config();
  check<double>(c, 1e-12);
  check<float>(c, 1e-5);
  c.qkv_bias = c.qk_norm = c.tied_embeddings = true;
  c.rope.layout = ba::rope_layout::interleaved;
  c.rope.rotary_dim = 4;
  c.rope.scaling = ba::rope_scaling::yarn;
  c.rope.factor = 4;
  c.rope.original_context = 32;
  c.embedding_scale = 2;
  c.attention_scale = 0.3f;
  check<double>(c, 1e-6);  // scales are floats in one and doubles in the other
  check<float>(c, 1e-5);
}

TEST_CASE("train: branches do not see each other, and blocks do not see blocks") {
  const ba::model_config c = odd_config();
  const auto weights = lively_parameters<float>(c);
  auto sample = random_sample({6, 6}, {5, 5}, c.vocab);
  std::fill(sample.weights.begin(), sample.weights.end(), 1.0f);
  const auto before = training_logits<float>(weights, {&sample, ba::mask_mode::block, 1});
  sample.ids[1] = (sample.ids[1] + 1) % 37;   // of the first block
  sample.ids[13] = (sample.ids[13] + 1) % 37;  // of the first branch
  const auto after = training_logits<float>(weights, {&sample, ba::mask_mode::block, 1});
  const auto same = [&](std::size_t first, std::size_t last) {
    return std::equal(before.begin() + static_cast<std::ptrdiff_t>(first * c.vocab),
                      before.begin() + static_cast<std::ptrdiff_t>(last * c.vocab),
                      after.begin() + static_cast<std::ptrdiff_t>(first * c.vocab));
  };
  CHECK(same(0, 1));         // targets: five of each block, four of each branch
  CHECK_FALSE(same(1, 5));
  CHECK(same(5, 10));        // the second block
  CHECK_FALSE(same(10, 14));
  CHECK_FALSE(same(14, 18));  // the second branch sees the first block
  sample.ids[1] = (sample.ids[1] + 36) % 37;
  const auto again = training_logits<float>(weights, {&sample, ba::mask_mode::block, 1});
  CHECK(std::equal(before.end() - 4 * 37, before.end(), again.end() - 4 * 37));  // but not the first branch
}
