// SPDX-License-Identifier: MIT
// The gradient of every weight against central differences of the loss, in double; and in float against double.
#include "support.hpp"

#include "blockattn/core/executor.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

ba::training_options summing() {
  ba::training_options o;
  o.reduction = ba::loss_reduction::token_sum;
  return o;
}

// The largest relative error over the tensors; of each some elements, the first and the last among them.
double worst_error(const ba::model_config& config, std::span<const ba::training_item> items,
                   ba::training_options options = summing()) {
  ba::inline_executor workers;
  auto run = ba::trainer<double>::make(lively_parameters<double>(config), options, workers).value();
  (void)run.gradients(items).value();
  const bool mean = options.reduction == ba::loss_reduction::mean;
  const auto loss = [&] {
    const auto report = run.loss(items).value();
    return mean ? report.mean() : report.loss_sum;
  };
  double worst = 0;
  for (const ba::parameter_place& p : run.parameters().places()) {
    INFO(p.name);
    const std::span<double> w = run.parameters().span(p);
    std::vector<double> exact, measured;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t i = k * (w.size() - 1) / 3;
      constexpr double h = 2e-5;
      const double keep = w[i];
      w[i] = keep + h;
      const double above = loss();
      w[i] = keep - h;
      const double below = loss();
      w[i] = keep;
      measured.push_back((above - below) / (2 * h));
      exact.push_back(run.gradient().span(p)[i]);
    }
    const double error = relative_distance(exact, measured);
    CHECK(error < 1e-5);
    worst = std::max(worst, error);
  }
  return worst;
}

}  // namespace

TEST_CASE("train: gradients are those of central differences, for every kind of parameter") {
  ba::model_config c = odd_config();
  c.qkv_bias = c.qk_norm = true;
  const auto sample = random_sample({5, 1, 7}, {4, 3, 26}, c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}, {&sample, ba::mask_mode::full, 0.5f}};
  CHECK(worst_error(c, items) < 1e-5);
}

TEST_CASE("train: gradients hold for tied embeddings, both layouts of rotation, part of a head, and scales") {
  ba::model_config c = odd_config();
  c.tied_embeddings = true;
  c.rope.layout = ba::rope_layout::interleaved;
  c.rope.rotary_dim = 4;
  c.embedding_scale = 1.5f;
  c.attention_scale = 0.7f;
  const auto sample = random_sample({9, 4}, {6, 2}, c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}};
  ba::training_options mean = summing();
  mean.reduction = ba::loss_reduction::mean;
  CHECK(worst_error(c, items, mean) < 1e-5);
}

TEST_CASE("train: gradients hold over tiles, steps and groups of every size") {
  ba::model_config c = odd_config();
  c.layers = 1;
  c.heads = 2;
  c.kv_heads = 1;
  const auto sample = long_sample(c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}, {&sample, ba::mask_mode::full, 1}};
  CHECK(worst_error(c, items) < 1e-5);
}

TEST_CASE("train: gradients in float are those in double") {
  ba::model_config c = odd_config();
  c.qkv_bias = c.qk_norm = true;
  const auto sample = long_sample(c.vocab), other = random_sample({4, 9}, {3}, c.vocab, 9);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}, {&other, ba::mask_mode::full, 2}};
  ba::inline_executor workers;
  auto exact = ba::trainer<double>::make(lively_parameters<double>(c), {}, workers).value();
  auto run = ba::trainer<float>::make(lively_parameters<float>(c), {}, workers).value();
  const auto a = exact.gradients(items).value(), b = run.gradients(items).value();
  CHECK(std::abs(a.loss_sum - b.loss_sum) < 1e-5 * a.loss_sum);
  CHECK(std::abs(a.gradient_norm - b.gradient_norm) < 1e-3 * a.gradient_norm);
  for (const ba::parameter_place& p : exact.parameters().places()) {
    INFO(p.name);
    const auto x = run.gradient().span(p.name);
    const auto y = exact.gradient().span(p);
    CHECK(relative_distance({x.begin(), x.end()}, {y.begin(), y.end()}) < 1e-3);
  }
}

TEST_CASE("train: recomputing layers changes no bit") {
  ba::model_config c = odd_config();
  c.qk_norm = true;
  const auto sample = long_sample(c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}};
  ba::inline_executor workers;
  ba::training_options options;
  auto kept = ba::trainer<float>::make(lively_parameters<float>(c), options, workers).value();
  options.recompute = true;
  auto again = ba::trainer<float>::make(lively_parameters<float>(c), options, workers).value();
  CHECK(kept.gradients(items).value().loss_sum == again.gradients(items).value().loss_sum);
  CHECK(std::ranges::equal(kept.gradient().all(), again.gradient().all()));
  CHECK(ba::activation_bytes(c, 1000, true) < ba::activation_bytes(c, 1000, false));
}
