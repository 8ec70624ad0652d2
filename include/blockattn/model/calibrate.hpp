// SPDX-License-Identifier: MIT
/// Factors of int8 keys from keys that a model really makes (model/key_factors.hpp says what they are for).
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <vector>

#include "key_factors.hpp"
#include "session.hpp"

namespace blockattn::inline v0 {

/// Root mean squares of each key dim over all tokens of `lists`, each encoded alone. A rotation changes no pair's
/// length, so keys may be measured where they stand. `workers` run the passes. Errors: `invalid_argument` if there is
/// no token or one outside the vocabulary.
template <class Model>
[[nodiscard]] result<std::shared_ptr<const key_factors>> calibrate(const Model& model,
                                                                   std::span<const std::vector<token>> lists,
                                                                   executor_ref workers) {
  session<Model, executor_ref> exact(model, workers, {.kv = dtype::f32});
  const kv_shape kv = exact.shape();
  const std::size_t d = kv.head_dim, width = kv.kv_heads * d;
  std::vector<double> squares(kv.layers * width);
  std::size_t tokens = 0;
  for (const std::vector<token>& ids : lists) {
    const auto block = exact.encode(ids);
    if (!block) return block.error();
    tokens += ids.size();
    for (std::size_t l = 0; l < kv.layers; ++l)
      for (std::size_t h = 0; h < kv.kv_heads; ++h) {
        const auto* keys = reinterpret_cast<const float*>((*block)->layer(l) + kv.key_offset(h, ids.size()));
        for (std::size_t t = 0; t < ids.size(); ++t)
          for (std::size_t i = 0; i < d; ++i) {
            const double x = keys[kv.key_index(t, i)];
            squares[l * width + h * d + i] += x * x;
          }
      }
  }
  if (tokens == 0) return fail(errc::invalid_argument, "calibrate: expected at least one token, found none");
  std::vector<float> sizes(squares.size());
  for (std::size_t i = 0; i < sizes.size(); ++i)
    sizes[i] = static_cast<float>(std::sqrt(squares[i] / static_cast<double>(tokens)));
  auto made = key_factors::from_sizes(model.config(), sizes);
  if (!made) return std::move(made).error();
  return std::make_shared<const key_factors>(*std::move(made));
}

}  // namespace blockattn::inline v0
