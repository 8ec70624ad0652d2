// SPDX-License-Identifier: MIT
// Block distillation: its gradient, what it does to a student, and the samples it is made of.
#include "blockattn/train/distillation.hpp"
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

TEST_CASE("train: the gradient of distillation is that of central differences") {
  const ba::model_config c = odd_config();
  ba::model_config other = c;  // of another depth and width
  other.layers = 1;
  other.dim = 10;
  const auto first = random_sample({5, 8}, {4, 9}, c.vocab), second = random_sample({3}, {6}, c.vocab, 2);
  const ba::training_item items[] = {{&first, ba::mask_mode::block, 1}, {&second, ba::mask_mode::block, 0.5f}};
  ba::inline_executor workers;
  ba::training_options o;
  o.reduction = ba::loss_reduction::token_sum;
  o.tokens_per_pass = 20;  // two passes
  auto student = ba::trainer<double>::make(lively_parameters<double>(c), o, workers).value();
  auto teacher = ba::distiller<double>::make(lively_parameters<double>(other, 2), {.temperature = 2, .hard = 0.3}, workers).value();
  CHECK(teacher.gradients(student, items).value().tokens == first.ids.size() + second.ids.size());
  const auto exact = student.gradient();
  for (const ba::parameter_place& p : student.parameters().places()) {
    INFO(p.name);
    const std::span<double> w = student.parameters().span(p);
    std::vector<double> measured, found;
    for (std::size_t k = 0; k < 3; ++k) {
      const std::size_t i = k * (w.size() - 1) / 2;
      constexpr double h = 2e-5;
      const double keep = w[i];
      w[i] = keep + h;
      const double above = teacher.gradients(student, items).value().loss_sum;
      w[i] = keep - h;
      const double below = teacher.gradients(student, items).value().loss_sum;
      w[i] = keep;
      measured.push_back((above - below) / (2 * h));
      found.push_back(exact.span(p)[i]);
    }
    CHECK(relative_distance(found, measured) < 1e-5);
  }
}

TEST_CASE("train: a student that is its teacher has nothing to learn, and a block student comes near") {
  const ba::model_config c = odd_config();
  const auto sample = random_sample({9, 8}, {12}, c.vocab);
  const ba::training_item full[] = {{&sample, ba::mask_mode::full, 1}}, block[] = {{&sample, ba::mask_mode::block, 1}};
  ba::inline_executor workers;
  ba::training_options o;
  o.lr = 3e-3;
  auto student = ba::trainer<>::make(lively_parameters<float>(c), o, workers).value();
  auto teacher = ba::distiller<>::make(lively_parameters<float>(c), {.focus = 1}, workers).value();
  const auto same = teacher.gradients(student, full).value();
  CHECK(same.loss_sum < 1e-4);
  CHECK(same.gradient_norm < 1e-3);
  const double before = teacher.gradients(student, block).value().loss_sum;
  REQUIRE(before > 0.1);
  for (int i = 0; i < 80; ++i) (void)teacher.step(student, block).value();
  CHECK(teacher.gradients(student, block).value().loss_sum < 0.1 * before);
}

TEST_CASE("train: rows far from the teacher weigh more, up to the bound") {
  const ba::model_config c = odd_config();
  const auto sample = random_sample({9, 8}, {12}, c.vocab);
  const ba::training_item block[] = {{&sample, ba::mask_mode::block, 1}};
  ba::inline_executor workers;
  auto student = ba::trainer<>::make(lively_parameters<float>(c), {}, workers).value();
  const auto loss = [&](double focus) {
    return ba::distiller<>::make(lively_parameters<float>(c), {.focus = focus}, workers)
        .value().gradients(student, block).value().loss_sum;
  };
  CHECK(loss(1) > loss(0));
  CHECK(loss(1) < 2 * loss(0));
}

TEST_CASE("train: a teacher of another vocabulary and options that cannot be are refused") {
  ba::model_config other = odd_config();
  other.vocab = 38;
  const auto sample = random_sample({9}, {12}, 37);
  const ba::training_item block[] = {{&sample, ba::mask_mode::block, 1}};
  ba::inline_executor workers;
  auto student = ba::trainer<>::make(lively_parameters<float>(odd_config()), {}, workers).value();
  auto teacher = ba::distiller<>::make(lively_parameters<float>(other), {}, workers).value();
  CHECK(teacher.step(student, block).error().code == ba::errc::shape_mismatch);
  CHECK_FALSE(ba::distiller<>::make(lively_parameters<float>(other), {.temperature = 0}, workers).has_value());
  CHECK_FALSE(ba::distiller<>::make(lively_parameters<float>(other), {.focus = -1}, workers).has_value());
}

TEST_CASE("train: blocks are left out, and sinks put in, without moving anything else") {
  const auto sample = random_sample({2, 3, 1}, {2, 2}, 37);
  const auto fewer = ba::without_blocks(sample, {false, true, false});
  CHECK(ba::validate(fewer, odd_config()).has_value());
  CHECK(fewer.block_ends == std::vector<std::uint32_t>{2, 3});
  CHECK(fewer.branch_ends == std::vector<std::uint32_t>{5, 7});
  CHECK(fewer.ids == std::vector<ba::token>{sample.ids[0], sample.ids[1], sample.ids[5], sample.ids[6], sample.ids[7],
                                            sample.ids[8], sample.ids[9]});
  CHECK(fewer.weights[2] == sample.weights[5]);
  CHECK(ba::without_blocks(sample, {true, true, true}).block_ends.empty());

  const ba::token sinks[] = {35, 36};
  const auto more = ba::with_sinks(sample, sinks);
  CHECK(ba::validate(more, odd_config()).has_value());
  CHECK(more.block_ends == std::vector<std::uint32_t>{4, 9, 12});
  CHECK(more.branch_ends == std::vector<std::uint32_t>{14, 16});
  CHECK((more.ids[4] == 35 && more.ids[5] == 36 && more.ids[6] == sample.ids[2] && more.ids[12] == sample.ids[6]));
  CHECK((more.weights[4] == 0 && more.weights[6] == sample.weights[2]));
}
