// SPDX-License-Identifier: MIT
// Samples: what is refused, and which tokens a pass predicts from which rows.
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

TEST_CASE("train: a sample that does not fit is refused with a reason") {
  const ba::model_config c = odd_config();
  const auto good = random_sample({3, 4}, {5, 2}, c.vocab);
  CHECK(ba::validate(good, c).has_value());
  const auto refused = [&](auto&& change, const char* word) {
    ba::training_sample bad = good;
    change(bad);
    const auto outcome = ba::validate(bad, c);
    REQUIRE_FALSE(outcome.has_value());
    CHECK(outcome.error().code == ba::errc::invalid_argument);
    INFO(outcome.error().message);
    CHECK(outcome.error().message.find(word) != std::string::npos);
  };
  refused([](auto& s) { s = {}; }, "tokens");
  refused([](auto& s) { s.weights.pop_back(); }, "weights");
  refused([](auto& s) { s.branch_ends.back() = 13; }, "branches");
  refused([](auto& s) { s.branch_ends.clear(); }, "branches");
  refused([](auto& s) { s.branch_ends = {12, 12, 14}; }, "branches");
  refused([](auto& s) { s.branch_ends = {7, 14}; }, "branches");
  refused([](auto& s) { s.block_ends = {3, 3}; }, "blocks");
  refused([](auto& s) { s.block_ends = {0, 7}; }, "blocks");
  refused([](auto& s) { s.ids[4] = 37; }, "token 4");
  refused([](auto& s) { s.ids[0] = -1; }, "token 0");
  refused([](auto& s) { s.weights[2] = std::numeric_limits<float>::infinity(); }, "weight 2");
}

TEST_CASE("train: a token is predicted from the row before it that sees the same") {
  ba::training_sample s;
  s.ids = {10, 11, 12, 13, 14, 15, 16, 17, 18};
  s.block_ends = {2, 5};
  s.branch_ends = {7, 9};
  s.weights = {1, 1, 1, 1, 0, 1, 1, 1, 0.5f};
  ba::training_batch batch;
  batch.add({&s, ba::mask_mode::block, 2});
  batch.add({&s, ba::mask_mode::full, 1});
  const auto rows = [&](std::size_t item) {
    std::vector<std::pair<std::size_t, ba::token>> out;
    for (const auto& t : batch.targets)
      if (t.item == item) out.emplace_back(t.row, t.id);
    return out;
  };
  using list = std::vector<std::pair<std::size_t, ba::token>>;
  CHECK(rows(0) == list{{0, 11}, {2, 13}, {5, 16}, {7, 18}});
  CHECK(rows(1) == list{{9, 11}, {10, 12}, {11, 13}, {14, 16}, {16, 18}});
  CHECK(batch.positions == std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 5, 6, 0, 1, 2, 3, 4, 5, 6, 5, 6});
  CHECK(ba::predicted_weight({&s, ba::mask_mode::block, 2}) == 7);
  CHECK(ba::predicted_weight({&s, ba::mask_mode::full, 1}) == 4.5);
}
