// SPDX-License-Identifier: MIT
/// Masked attention in double, and the masks of the paper as predicates.
///
///     A(i, j) = softmax_j( <q_i, k_j> * scale )  over the j with allow(i, j)          o_i = sum_j A(i, j) v_j
///
/// A masked key is skipped, never read: whatever stands there cannot reach an output.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "../core/config.hpp"
#include "matrix.hpp"

namespace blockattn::inline v0::reference {

/// allow(i, j): may query i see key j?
using mask = std::function<bool(std::size_t query, std::size_t key)>;

/// Every token sees itself and what came before it.
[[nodiscard]] inline mask causal() {
  return [](std::size_t i, std::size_t j) { return j <= i; };
}

/// The paper's mask (section 2.1, figure 1) over blocks of these lengths: causal within a block, and the last block
/// sees everything before it. Empty blocks are allowed.
[[nodiscard]] inline mask block_mask(std::span<const std::size_t> lengths) {
  std::vector<std::size_t> block_of;
  for (std::size_t b = 0; b < lengths.size(); ++b) block_of.insert(block_of.end(), lengths[b], b);
  return [block_of, last = lengths.size() - 1](std::size_t i, std::size_t j) {
    return j <= i && (block_of[i] == last || block_of[i] == block_of[j]);
  };
}

/// softmax(scores), in place. No scores, no weights. The largest is subtracted first, so that exp cannot overflow.
/// Returns log(sum(exp(scores))), minus infinity for none.
inline double softmax(std::span<double> scores) {
  double largest = -std::numeric_limits<double>::infinity();
  for (const double s : scores) largest = std::fmax(largest, s);
  double sum = 0;
  for (double& s : scores) {
    s = std::exp(s - largest);
    sum += s;
  }
  for (double& s : scores) s /= sum;
  return largest + std::log(sum);
}

/// The attention of one query over some keys, with what is needed to join it with the attention over others.
struct partial {
  std::vector<double> out;                                // [head_dim] sum_j A(j) v_j
  double lse = -std::numeric_limits<double>::infinity();  // log sum_j exp(score_j)
};

/// softmax(scores) times the rows of values; `values[j]` belongs to `scores[j]`. No rows: zero.
[[nodiscard]] inline partial average(std::vector<double> scores, std::span<const std::span<const double>> values,
                                     std::size_t head_dim) {
  BLOCKATTN_EXPECTS(scores.size() == values.size());
  partial result;
  result.out.assign(head_dim, 0.0);
  result.lse = softmax(scores);
  for (std::size_t j = 0; j < scores.size(); ++j)
    for (std::size_t d = 0; d < head_dim; ++d) result.out[d] += scores[j] * values[j][d];
  return result;
}

/// The attention over two disjoint sets of keys, from the attention over each. Commutative and associative up to
/// rounding: this law is what lets blocks be read one at a time, in any order.
[[nodiscard]] inline partial merge(const partial& a, const partial& b) {
  if (a.lse == -std::numeric_limits<double>::infinity()) return b;
  if (b.lse == -std::numeric_limits<double>::infinity()) return a;
  const double largest = std::fmax(a.lse, b.lse);
  const double weight_a = std::exp(a.lse - largest);
  const double weight_b = std::exp(b.lse - largest);
  partial result{std::vector<double>(a.out.size()), largest + std::log(weight_a + weight_b)};
  for (std::size_t d = 0; d < a.out.size(); ++d)
    result.out[d] = (weight_a * a.out[d] + weight_b * b.out[d]) / (weight_a + weight_b);
  return result;
}

/// One query against the keys `visible(j)`; keys and values are [n][head_dim].
[[nodiscard]] inline partial attend(std::span<const double> query, const matrix& keys, const matrix& values,
                                    double scale, const std::function<bool(std::size_t)>& visible) {
  std::vector<double> scores;
  std::vector<std::span<const double>> rows;
  for (std::size_t j = 0; j < keys.rows(); ++j) {
    if (!visible(j)) continue;
    scores.push_back(dot(query, keys.row(j)) * scale);
    rows.push_back(values.row(j));
  }
  return average(std::move(scores), rows, values.cols());
}

/// Dense masked attention of one head: queries [n][d], keys [m][d], values [m][e] -> [n][e]. O(n m (d + e)).
[[nodiscard]] inline matrix attention(const matrix& queries, const matrix& keys, const matrix& values,
                                      const mask& allow, double scale) {
  matrix out(queries.rows(), values.cols());
  for (std::size_t i = 0; i < queries.rows(); ++i) {
    const partial p = attend(queries.row(i), keys, values, scale, [&](std::size_t j) { return allow(i, j); });
    for (std::size_t d = 0; d < values.cols(); ++d) out(i, d) = p.out[d];
  }
  return out;
}

/// The share A(i, j) of each key, [n][m]: zero where masked, and every row with a visible key sums to one.
[[nodiscard]] inline matrix attention_shares(const matrix& queries, const matrix& keys, const mask& allow,
                                             double scale) {
  matrix identity(keys.rows(), keys.rows());
  for (std::size_t j = 0; j < keys.rows(); ++j) identity(j, j) = 1.0;
  return attention(queries, keys, identity, allow, scale);
}

}  // namespace blockattn::inline v0::reference
