// SPDX-License-Identifier: MIT
// Training may be included before the rest of the library: no name of one stands in the way of the other.
#include <blockattn/train/distillation.hpp>

#include <blockattn/blockattn.hpp>

#include "../support/catch.hpp"

namespace ba = blockattn;

TEST_CASE("train: its headers come before the library's as well as after them") {
  ba::model_config c;
  c.dim = 8, c.layers = 1, c.heads = 2, c.kv_heads = 1, c.head_dim = 4, c.ffn = 8, c.vocab = 11;
  c.rope.rotary_dim = 4;
  ba::inline_executor here;
  auto run = ba::trainer<>::make(ba::parameters<>::random(c, 1).value(), {}, here).value();
  const ba::training_sample s{.ids = {1, 2, 3, 4}, .block_ends = {2}, .branch_ends = {4}, .weights = {1, 1, 1, 1}};
  const ba::training_item item{&s, ba::mask_mode::block};
  CHECK(run.step({&item, 1}).value().tokens == 4);
  CHECK(ba::llama<>::bind(run.parameters()).has_value());
}
