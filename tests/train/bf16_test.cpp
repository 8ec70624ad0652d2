// SPDX-License-Identifier: MIT
// Training in products of bf16: gradients near those of float, the same loss in the end, and the same bits where they are
// promised. (Products: product_test; workers: trainer_threads_test.)
#include "../support/temporary_folder.hpp"
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

ba::training_options with(ba::product_type type) {
  ba::training_options o;
  o.products = type;
  return o;
}

ba::model_config even_config() {
  ba::model_config c = odd_config();
  c.dim = 64;
  c.heads = 4;
  c.head_dim = 16;
  c.rope.rotary_dim = 16;
  c.ffn = 96;
  return c;
}

// The largest relative distance of a tensor's gradient from that in float, and that of all of it.
struct distances {
  double tensor = 0, whole = 0;
};
distances gradient_distances(const ba::model_config& c, std::span<const ba::training_item> items) {
  ba::inline_executor workers;
  const auto weights = ba::parameters<float>::random(c, 3, {.deviation = 0.1}).value();
  auto exact = ba::trainer<>::make(weights, {}, workers).value();
  auto rounded = ba::trainer<>::make(weights, with(ba::product_type::bf16), workers).value();
  const auto a = exact.gradients(items).value(), b = rounded.gradients(items).value();
  CHECK(std::abs(a.loss_sum - b.loss_sum) < 2e-3 * a.loss_sum);
  CHECK(a.loss_sum != b.loss_sum);  // it does round
  distances out;
  const auto distance = [](std::span<const float> x, std::span<const float> y) {
    return relative_distance({x.begin(), x.end()}, {y.begin(), y.end()});
  };
  for (const ba::parameter_place& p : exact.parameters().places()) {
    const double d = distance(rounded.gradient().span(p.name), exact.gradient().span(p.name));
    INFO(p.name << ": " << d);
    CHECK(d < (p.is_vector() ? 5e-2 : 2e-2));  // what vectors add up nearly cancels over all rows
    out.tensor = std::max(out.tensor, d);
  }
  out.whole = distance(rounded.gradient().all(), exact.gradient().all());
  return out;
}

}  // namespace

TEST_CASE("train: gradients in products of bf16 are near those of float") {
  for (ba::model_config c : {odd_config(), even_config()}) {
    c.qk_norm = c.qkv_bias = c.dim == 64;
    const auto sample = long_sample(c.vocab), other = random_sample({4, 9}, {3}, c.vocab, 9);
    const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}, {&other, ba::mask_mode::full, 2}};
    const distances d = gradient_distances(c, items);
    CHECK(d.whole < 2e-2);
    CHECK(d.tensor > 1e-4);
  }
}

TEST_CASE("train: a run in products of bf16 learns what one in float learns") {
  const ba::model_config c = odd_config();
  const auto first = random_sample({5, 9}, {6, 3}, c.vocab, 1), second = random_sample({7}, {11}, c.vocab, 2);
  const ba::training_item items[] = {{&first, ba::mask_mode::block, 1}, {&second, ba::mask_mode::full, 1}};
  ba::inline_executor workers;
  double losses[2];
  for (const ba::product_type type : {ba::product_type::f32, ba::product_type::bf16}) {
    ba::training_options o = with(type);
    o.lr = 0.01;
    auto run = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), o, workers).value();
    for (int i = 0; i < 100; ++i) (void)run.step(items).value();
    losses[type == ba::product_type::bf16] = run.loss(items).value().mean();
  }
  CHECK(losses[0] < 0.01);
  CHECK(std::abs(losses[1] - losses[0]) < 1e-3);
}

TEST_CASE("train: products of bf16 keep the bits of a run that is saved, or computes layers again") {
  const ba::model_config c = odd_config();
  const auto sample = long_sample(c.vocab);
  const ba::training_item items[] = {{&sample, ba::mask_mode::block, 1}};
  ba::inline_executor workers;
  const temporary_folder folder;
  ba::training_options o = with(ba::product_type::bf16);
  o.lr = 0.01;
  auto whole = ba::trainer<>::make(lively_parameters<float>(c), o, workers).value();
  (void)whole.step(items).value();
  REQUIRE(whole.save(folder / "run").has_value());
  (void)whole.step(items).value();
  o.recompute = true;
  auto again = ba::trainer<>::make(lively_parameters<float>(c, 2), o, workers).value();
  REQUIRE(again.load(folder / "run").has_value());
  (void)again.step(items).value();
  CHECK(std::memcmp(whole.parameters().all().data(), again.parameters().all().data(), whole.parameters().all().size_bytes()) == 0);
}

TEST_CASE("train: doubles have no products of bf16, and a run keeps its products") {
  const ba::model_config c = odd_config();
  ba::inline_executor workers;
  const auto refused = ba::trainer<double>::make(lively_parameters<double>(c), with(ba::product_type::bf16), workers);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == ba::errc::unsupported);
  auto run = ba::trainer<>::make(lively_parameters<float>(c), with(ba::product_type::bf16), workers).value();
  REQUIRE(run.set_options({}).has_value());
  CHECK(run.options().products == ba::product_type::bf16);
}
