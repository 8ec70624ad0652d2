// SPDX-License-Identifier: MIT
// AdamW against its definition, the schedule, and the bound on the gradient's norm.
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

TEST_CASE("train: AdamW follows its definition") {
  const ba::model_config c = odd_config();
  ba::training_options o;
  o.lr = 0.01;
  o.weight_decay = 0.1;
  o.beta2 = 0.95;
  ba::inline_executor workers;
  auto weights = lively_parameters<float>(c);
  ba::adamw<float> optimizer(c);
  std::vector<double> w(weights.all().begin(), weights.all().end()), m(w.size()), v(w.size());
  random_numbers random(1);
  ba::parameters<float> gradient(c);
  for (std::uint64_t step = 0; step < 5; ++step) {
    for (const auto& p : gradient.places())
      for (float& g : gradient.span(p)) g = static_cast<float>(random.symmetric());
    optimizer.step(workers, o, step, 0.5f, weights, std::as_const(gradient).all());
    for (const auto& p : gradient.places())
      for (std::size_t i = p.offset; i < p.offset + p.size(); ++i) {
        const double g = 0.5 * static_cast<double>(gradient.all()[i]), n = static_cast<double>(step + 1);
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.95 * v[i] + 0.05 * g * g;
        if (!p.is_vector()) w[i] -= 0.01 * 0.1 * w[i];
        w[i] -= 0.01 * (m[i] / (1 - std::pow(0.9, n))) / (std::sqrt(v[i] / (1 - std::pow(0.95, n))) + 1e-8);
      }
  }
  double worst = 0;
  for (std::size_t i = 0; i < w.size(); ++i) worst = std::max(worst, std::abs(w[i] - static_cast<double>(weights.all()[i])));
  CHECK(worst < 1e-6);
  std::size_t vectors = 0;
  for (const auto& p : weights.places()) vectors += p.is_vector() ? 1u : 0u;
  CHECK(vectors == 5);
}

TEST_CASE("train: the learning rate warms up, stays or falls") {
  ba::training_options o;
  o.lr = 2;
  o.warmup_steps = 4;
  CHECK(ba::learning_rate(o, 0) == 0.5);
  CHECK(ba::learning_rate(o, 3) == 2);
  CHECK(ba::learning_rate(o, 1000) == 2);
  o.schedule = ba::rate_schedule::linear_decay;
  o.total_steps = 14;
  CHECK(ba::learning_rate(o, 4) == 2);
  CHECK(ba::learning_rate(o, 9) == 1);
  CHECK(ba::learning_rate(o, 14) == 0);
  CHECK(ba::learning_rate(o, 20) == 0);
}

TEST_CASE("train: options that cannot be are refused by name") {
  const auto refused = [](auto&& change, const char* word) {
    ba::training_options o;
    change(o);
    const auto outcome = ba::validate(o);
    REQUIRE_FALSE(outcome.has_value());
    CHECK(outcome.error().message.find(word) != std::string::npos);
  };
  refused([](auto& o) { o.lr = -1; }, "lr");
  refused([](auto& o) { o.beta1 = 1; }, "beta1");
  refused([](auto& o) { o.beta2 = -0.1; }, "beta2");
  refused([](auto& o) { o.epsilon = 0; }, "epsilon");
  refused([](auto& o) { o.weight_decay = -1; }, "weight_decay");
  refused([](auto& o) { o.clip_norm = -1; }, "clip_norm");
  refused([](auto& o) { o.schedule = ba::rate_schedule::linear_decay; }, "total_steps");
  refused([](auto& o) { o.tokens_per_pass = 0; }, "tokens_per_pass");
}

TEST_CASE("train: a gradient beyond the bound is scaled to it") {
  const ba::model_config c = odd_config();
  const auto sample = random_sample({5}, {9}, c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::full, 1}};
  ba::inline_executor workers;
  ba::training_options o;
  o.beta1 = 0;  // the first moment is the scaled gradient
  o.lr = 0;
  o.clip_norm = 0.25;
  auto run = ba::trainer<float>::make(lively_parameters<float>(c), o, workers).value();
  const auto report = run.step(items).value();
  REQUIRE(report.gradient_norm > 0.25);
  ba::adamw<float> measure(c);
  CHECK(std::abs(measure.norm(workers, run.optimizer().first().all()) - 0.25) < 1e-6);
  double squares = 0;
  for (const float g : run.gradient().all()) squares += static_cast<double>(g) * static_cast<double>(g);
  CHECK(std::abs(std::sqrt(squares) - report.gradient_norm) < 1e-6 * report.gradient_norm);
}
