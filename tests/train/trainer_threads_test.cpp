// SPDX-License-Identifier: MIT
// The same seed gives the same weights for any number of workers.
#include "blockattn/core/thread_executor.hpp"
#include "support.hpp"

namespace ba = blockattn;
using namespace blockattn_test;

TEST_CASE("train: one, two and three workers give the same bits") {
  ba::model_config c = odd_config();
  c.qkv_bias = c.qk_norm = true;
  c.dim = 96;
  c.vocab = 300;
  const auto first = long_sample(c.vocab), second = random_sample({40, 12}, {9, 9, 9}, c.vocab, 3);
  const ba::training_item items[] = {{&first, ba::mask_mode::block, 1}, {&second, ba::mask_mode::full, 1}};
  ba::training_options o;
  o.lr = 0.01;
  o.tokens_per_pass = 600;
  for (const ba::product_type type : {ba::product_type::f32, ba::product_type::bf16}) {
    o.products = type;
    std::vector<float> expected;
    for (const std::size_t n : {std::size_t{1}, std::size_t{2}, std::size_t{3}}) {
      ba::thread_executor workers(n);
      auto run = ba::trainer<>::make(lively_parameters<float>(c), o, workers).value();
      for (int i = 0; i < 2; ++i) (void)run.step(items).value();
      const auto all = run.parameters().all();
      if (expected.empty()) expected.assign(all.begin(), all.end());
      CHECK(std::memcmp(expected.data(), all.data(), all.size_bytes()) == 0);
    }
  }
}
