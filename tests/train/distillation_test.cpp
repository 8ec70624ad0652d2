// SPDX-License-Identifier: MIT
// Block distillation: its gradient, what it does to a student, and the samples it is made of.
#include "blockattn/train/distillation.hpp"

#include <numeric>

#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

namespace {

// The gradient that the student holds, against central differences in the first, the middle and the last element of each tensor.
void check_gradient(ba::distiller<double>& teacher, ba::trainer<double>& student, std::span<const ba::training_item> items) {
  const auto exact = student.gradient();
  std::size_t moved = 0;
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
      moved += found.back() != 0;
    }
    CHECK(relative_distance(found, measured) < 1e-5);
  }
  CHECK(moved > student.parameters().places().size());
}

}  // namespace

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
  check_gradient(teacher, student, items);
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

TEST_CASE("train: blocks and tokens are left out without moving anything else") {
  auto sample = random_sample({2, 3, 1}, {2, 2}, 37);
  std::iota(sample.ids.begin(), sample.ids.end(), 5);
  const auto fewer = ba::without_blocks(sample, {false, true, false});
  CHECK(ba::validate(fewer, odd_config()).has_value());
  CHECK(fewer.block_ends == std::vector<std::uint32_t>{2, 3});
  CHECK(fewer.branch_ends == std::vector<std::uint32_t>{5, 7});
  CHECK(fewer.ids == std::vector<ba::token>{sample.ids[0], sample.ids[1], sample.ids[5], sample.ids[6], sample.ids[7],
                                            sample.ids[8], sample.ids[9]});
  CHECK(fewer.weights[2] == sample.weights[5]);
  CHECK(ba::without_blocks(sample, {true, true, true}).block_ends.empty());

  const ba::token unseen[] = {sample.ids[0], sample.ids[4]};
  const auto shown = ba::without_tokens(sample, unseen);
  CHECK(ba::validate(shown, odd_config()).has_value());
  CHECK(shown.block_ends == std::vector<std::uint32_t>{1, 3, 4});
  CHECK(shown.branch_ends == std::vector<std::uint32_t>{6, 8});
  CHECK(shown.ids == std::vector<ba::token>{sample.ids[1], sample.ids[2], sample.ids[3], sample.ids[5], sample.ids[6],
                                            sample.ids[7], sample.ids[8], sample.ids[9]});
  CHECK((shown.weights[0] == sample.weights[1] && shown.weights[3] == sample.weights[5]));
  CHECK(ba::without_tokens(sample, {}).ids == sample.ids);
}

TEST_CASE("train: a teacher does not see a student's sinks, and does not know them") {
  const ba::model_config c = odd_config();
  const auto plain = random_sample({9, 8}, {12}, c.vocab);
  const auto sinks = std::vector<ba::token>{static_cast<ba::token>(c.vocab), static_cast<ba::token>(c.vocab + 1)};
  ba::training_sample with;
  for (std::size_t i = 0, block = 0; i < plain.ids.size(); ++i) {
    if (i == 0 || (block < 2 && i == plain.block_ends[block - 1])) {
      with.ids.insert(with.ids.end(), sinks.begin(), sinks.end());
      with.weights.insert(with.weights.end(), 2, 0.0f);
      ++block;
    }
    with.ids.push_back(plain.ids[i]);
    with.weights.push_back(plain.weights[i]);
  }
  with.block_ends = {plain.block_ends[0] + 2, plain.block_ends[1] + 4};
  with.branch_ends = {plain.branch_ends[0] + 4};
  REQUIRE(ba::without_tokens(with, sinks).ids == plain.ids);
  REQUIRE(ba::without_tokens(with, sinks).branch_ends == plain.branch_ends);

  ba::inline_executor workers;
  const auto known = lively_parameters<double>(c);
  auto student = ba::trainer<double>::make(known.with_vocabulary(c.vocab + 2), {.reduction = ba::loss_reduction::token_sum}, workers).value();
  auto teacher = ba::distiller<double>::make(known, {.hard = 0.3, .unseen = sinks}, workers).value();
  const ba::training_item item[] = {{&with, ba::mask_mode::block, 1}};
  (void)teacher.gradients(student, item).value();
  check_gradient(teacher, student, item);  // the last row of the embedding is a sink's

  // The loss by hand: what the teacher says to the sample without sinks, over the tokens it knows.
  auto soft = ba::distiller<double>::make(known, {.unseen = sinks}, workers).value();
  auto seen = ba::trainer<double>::make(known, {}, workers).value();
  const auto wanted = seen.logits({&plain, ba::mask_mode::full}).value(), said = student.logits({&with, ba::mask_mode::block}).value();
  const auto log_sum = [](const double* x, std::size_t n) {
    double sum = 0;
    for (std::size_t v = 0; v < n; ++v) sum += std::exp(x[v]);
    return std::log(sum);
  };
  double expected = 0;
  std::size_t left = 0;  // rows of the branch, which are the last
  for (std::size_t i = plain.block_ends.back() + 1; i < plain.ids.size(); ++i) left += plain.weights[i] != 0;
  REQUIRE(left > 5);
  for (std::size_t i = plain.block_ends.back() + 1; i < plain.ids.size(); ++i) {
    if (plain.weights[i] == 0) continue;
    const double* t = wanted.data() + wanted.size() - left * c.vocab;
    const double* s = said.data() + said.size() - left-- * (c.vocab + 2);
    const double of_t = log_sum(t, c.vocab), of_s = log_sum(s, c.vocab + 2);
    for (std::size_t v = 0; v < c.vocab; ++v)
      expected += static_cast<double>(plain.weights[i]) * std::exp(t[v] - of_t) * ((t[v] - of_t) - (s[v] - of_s));
  }
  CHECK(soft.gradients(student, item).value().loss_sum == Approx(expected).epsilon(1e-9));

  // Tokens that are neither known nor hidden, and hidden ones where rows are wanted.
  auto blind = ba::distiller<double>::make(known, {}, workers).value();
  CHECK(blind.step(student, item).error().code == ba::errc::invalid_argument);
  auto asked = with;
  asked.ids[with.block_ends.back()] = sinks[0];
  const ba::training_item bad[] = {{&asked, ba::mask_mode::block, 1}};
  CHECK(teacher.step(student, bad).error().code == ba::errc::invalid_argument);
  auto grown = ba::distiller<double>::make(known.with_vocabulary(c.vocab + 3), {}, workers).value();
  CHECK(grown.step(student, item).error().code == ba::errc::shape_mismatch);
}
