// SPDX-License-Identifier: MIT
// A run of training: it learns, it goes on from a checkpoint to the same bits, and what it cannot do it says.
#include "../support/temporary_folder.hpp"
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

struct batch_of_two {
  ba::training_sample first, second;
  std::vector<ba::training_item> items;
  explicit batch_of_two(std::uint32_t vocab)
      : first(random_sample({5, 9}, {6, 3}, vocab, 1)), second(random_sample({7}, {11}, vocab, 2)),
        items{{&first, ba::mask_mode::block, 1}, {&second, ba::mask_mode::full, 1}, {&first, ba::mask_mode::full, 1}} {}
  batch_of_two(const batch_of_two&) = delete;
};

bool same(const ba::parameters<float>& a, const ba::parameters<float>& b) {
  return std::memcmp(a.all().data(), b.all().data(), a.all().size_bytes()) == 0;
}

}  // namespace

TEST_CASE("train: a model learns a batch by heart") {
  const ba::model_config c = odd_config();
  const batch_of_two batch(c.vocab);
  ba::inline_executor workers;
  ba::training_options o;
  o.lr = 0.02;
  auto run = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), o, workers).value();
  const double before = run.loss(batch.items).value().mean();
  CHECK(std::abs(before - std::log(37.0)) < 0.1);
  for (int i = 0; i < 150; ++i) (void)run.step(batch.items).value();
  // The first token of a block and of the whole cannot be told apart by what they predict: that much stays.
  CHECK(run.loss(batch.items).value().mean() < 0.2 * before);
  CHECK(run.steps() == 150);
}

TEST_CASE("train: a run that was saved goes on to the same bits") {
  ba::model_config c = odd_config();
  c.qk_norm = true;
  const batch_of_two batch(c.vocab);
  ba::inline_executor workers;
  const temporary_folder folder;
  ba::training_options o;
  o.lr = 0.01;
  o.weight_decay = 0.01;
  o.warmup_steps = 4;
  auto whole = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), o, workers).value();
  for (int i = 0; i < 3; ++i) (void)whole.step(batch.items).value();
  REQUIRE(whole.save(folder / "run").has_value());
  REQUIRE(whole.save(folder / "run").has_value());  // over itself
  CHECK_FALSE(std::filesystem::exists(folder / "run.new"));
  for (int i = 0; i < 3; ++i) (void)whole.step(batch.items).value();

  auto again = ba::trainer<>::make(ba::parameters<>::random(c, 2).value(), o, workers).value();
  REQUIRE(again.load(folder / "run").has_value());
  CHECK(again.steps() == 3);
  for (int i = 0; i < 3; ++i) (void)again.step(batch.items).value();
  CHECK(same(whole.parameters(), again.parameters()));
}

TEST_CASE("train: passes of few tokens give the gradient of one") {
  const ba::model_config c = odd_config();
  const batch_of_two batch(c.vocab);
  ba::inline_executor workers;
  ba::training_options o;
  auto one = ba::trainer<double>::make(lively_parameters<double>(c), o, workers).value();
  o.tokens_per_pass = 1;
  auto many = ba::trainer<double>::make(lively_parameters<double>(c), o, workers).value();
  const auto a = one.gradients(batch.items).value(), b = many.gradients(batch.items).value();
  CHECK(a.tokens == b.tokens);
  CHECK(a.tokens == 2 * batch.first.ids.size() + batch.second.ids.size());
  CHECK(std::abs(a.loss_sum - b.loss_sum) < 1e-9);
  const auto x = one.gradient().all(), y = many.gradient().all();
  CHECK(relative_distance({x.begin(), x.end()}, {y.begin(), y.end()}) < 1e-12);
}

TEST_CASE("train: the sum over tokens is the mean times the weights, and a scale counts") {
  const ba::model_config c = odd_config();
  const batch_of_two batch(c.vocab);
  ba::inline_executor workers;
  ba::training_options o;
  auto mean = ba::trainer<double>::make(lively_parameters<double>(c), o, workers).value();
  o.reduction = ba::loss_reduction::token_sum;
  auto sum = ba::trainer<double>::make(lively_parameters<double>(c), o, workers).value();
  const auto a = mean.gradients(batch.items).value(), b = sum.gradients(batch.items).value();
  CHECK(std::abs(a.gradient_norm * a.weight_sum - b.gradient_norm) < 1e-9 * b.gradient_norm);

  const ba::training_item once[] = {{&batch.first, ba::mask_mode::block, 3}};
  const ba::training_item thrice[] = {{&batch.first, ba::mask_mode::block, 1}, {&batch.first, ba::mask_mode::block, 2}};
  const double at_once = sum.gradients(once).value().gradient_norm, apart = sum.gradients(thrice).value().gradient_norm;
  CHECK(std::abs(at_once - apart) < 1e-7 * apart);  // weights are floats
}

TEST_CASE("train: what cannot be trained is refused, and a step that fails changes nothing") {
  const ba::model_config c = odd_config();
  batch_of_two batch(c.vocab);
  ba::inline_executor workers;
  auto run = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), {}, workers).value();
  const ba::parameters<> before = run.parameters();
  const auto refused = [&](std::span<const ba::training_item> items) {
    const auto outcome = run.step(items);
    REQUIRE_FALSE(outcome.has_value());
    CHECK(outcome.error().code == ba::errc::invalid_argument);
    CHECK_FALSE(outcome.error().message.empty());
  };
  refused({});
  const ba::training_item nobody[] = {{nullptr, ba::mask_mode::full, 1}};
  refused(nobody);
  const ba::training_item endless[] = {{&batch.first, ba::mask_mode::full, std::numeric_limits<float>::quiet_NaN()}};
  refused(endless);
  const ba::training_item nothing[] = {{&batch.first, ba::mask_mode::full, 0}};
  refused(nothing);
  batch.second.ids[3] = 99;
  refused(batch.items);
  batch.second.ids[3] = 1;
  CHECK(run.steps() == 0);
  CHECK(same(run.parameters(), before));
  run.parameters().span("model.norm.weight")[0] = std::numeric_limits<float>::infinity();
  const ba::parameters<> broken = run.parameters();
  refused(batch.items);
  CHECK(same(run.parameters(), broken));

  const auto unsupported = [](auto&& change) {
    ba::model_config other = odd_config();
    change(other);
    const auto outcome = ba::parameters<>::random(other, 1);
    REQUIRE_FALSE(outcome.has_value());
    CHECK(outcome.error().code == ba::errc::unsupported);
  };
  unsupported([](auto& o) { o.post_norms = true; });
  unsupported([](auto& o) { o.gate = ba::gate_function::gelu_tanh; });
  unsupported([](auto& o) { o.windows = {0, 8}; });
}
