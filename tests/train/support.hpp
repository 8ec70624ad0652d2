// SPDX-License-Identifier: MIT
/// What the tests of training share: small shapes, seeded samples and weights, and the gradient by central differences.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/random_model.hpp"
#include "blockattn/train/trainer.hpp"

namespace blockattn_test {

namespace ba = blockattn;

/// A shape none of whose sizes is a multiple of a register.
inline ba::model_config odd_config() {
  ba::model_config c;
  c.layers = 2;
  c.dim = 21;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 6;
  c.ffn = 27;
  c.vocab = 37;
  c.rope.rotary_dim = 6;
  return c;
}

/// Weights far from where a run begins: norms and biases are not trivial, and attention is not flat.
template <class T>
ba::parameters<T> lively_parameters(const ba::model_config& config, std::uint64_t seed = 1) {
  auto out = ba::parameters<T>::random(config, seed, {.deviation = 0.3, .scale_residual = false}).value();
  random_numbers random(seed);
  for (const ba::parameter_place& p : out.places())
    if (p.is_vector())
      for (T& x : out.span(p)) x += static_cast<T>(static_cast<float>(random.symmetric(0.5)));
  return out;
}

/// Blocks and branches of these lengths; every fifth weight is zero, others differ.
inline ba::training_sample random_sample(const std::vector<std::size_t>& blocks, const std::vector<std::size_t>& branches,
                                         std::uint32_t vocab, std::uint64_t seed = 1) {
  ba::training_sample out;
  random_numbers random(seed);
  std::uint32_t end = 0;
  for (const std::size_t n : blocks) out.block_ends.push_back(end += static_cast<std::uint32_t>(n));
  for (const std::size_t n : branches) out.branch_ends.push_back(end += static_cast<std::uint32_t>(n));
  out.ids = random.tokens(end, vocab);
  for (std::size_t i = 0; i < end; ++i)
    out.weights.push_back(i % 5 == 4 ? 0.0f : static_cast<float>(0.5 + random.uniform()));
  return out;
}

/// Ten blocks and two kinds of branches: several tiles of rows, steps of depth and groups that share a tile.
inline ba::training_sample long_sample(std::uint32_t vocab) {
  return random_sample({61, 3, 90, 24, 25, 49, 48, 47, 10, 1}, {7, 24, 5, 60, 13}, vocab, 5);
}

/// A pass in one order of work: all logits of what an item predicts, as doubles.
template <class T>
std::vector<double> training_logits(const ba::parameters<T>& weights, const ba::training_item& item) {
  ba::inline_executor workers;
  auto run = ba::trainer<T>::make(weights, {}, workers).value();
  const auto logits = run.logits(item).value();
  return {logits.begin(), logits.end()};
}

/// The distance of two vectors by the size of the second.
inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double distance = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    distance += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  REQUIRE(size > 0);
  return std::sqrt(distance / size);
}

}  // namespace blockattn_test
