// SPDX-License-Identifier: MIT
/// The output head and the loss over it, a few rows at a time: logits of all rows never exist at once.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "../model/config.hpp"
#include "batch.hpp"
#include "product.hpp"
#include "row_steps.hpp"

namespace blockattn::inline v0 {

/// Rows whose logits are computed together: about 2 million logits, and enough rows that packing the head costs little.
[[nodiscard]] constexpr std::size_t head_rows(std::size_t vocab) noexcept {
  return std::max<std::size_t>(480, (std::size_t{1} << 21) / std::max<std::size_t>(vocab, 1) / 48 * 48);
}

inline namespace BLOCKATTN_ISA {

/// x <- softmax(x); returns log(sum(exp(x))).
template <class T>
inline T softmax_row(T* x, std::size_t n) noexcept {
  const T top = largest_of(x, n, std::numeric_limits<T>::lowest());
  const T sum = exp_row(x, n, T(1), top);
  scale_row(x, n, T(1) / sum);
  return top + std::log(sum);
}

/// Buffers of the head; one for each trainer.
template <class T>
class head_loss {
 public:
  /// Runs the head, `head` (vocab, dim), over `normed` (rows, dim). `prepare(first, n)` is called before each part;
  /// `step(i, logits, gradient)` for each row, on some worker: it returns the row's loss and, if `gradient`, replaces the
  /// logits by the derivative of what is to be minimised. That goes on to `d_normed` (rows, dim), written, and to `d_head`
  /// (vocab, dim), added to; both may be null. Returns the sum of losses, in order of rows.
  template <class Prepare, class Step>
  double run(executor_ref workers, growing_array<T>& space, product_type products, std::size_t vocab, std::size_t dim,
             const T* normed, std::size_t rows, const T* head, T* d_normed, T* d_head, Prepare&& prepare, Step&& step) {
    losses_.assign(rows, 0.0);
    const std::size_t part = std::min(head_rows(vocab), rows);
    for (std::size_t first = 0; first < rows; first += part) {
      const std::size_t n = std::min(part, rows - first);
      const T* const x = normed + first * dim;
      prepare(first, n);
      T* const logits = logits_.take(part * vocab);
      multiply<T>(workers, space, {x, dim}, {head, dim, true}, n, vocab, dim, logits, vocab, false, products);
      workers.for_each(ceil_div(n, together), [&](std::size_t, std::size_t task) {
        for (std::size_t i = task * together; i < std::min(n, (task + 1) * together); ++i)
          losses_[first + i] = step(first + i, logits + i * vocab, d_normed != nullptr);
      });
      if (d_normed == nullptr) continue;
      multiply<T>(workers, space, {logits, vocab}, {head, dim}, n, dim, vocab, d_normed + first * dim, dim, false,
                  products);
      multiply<T>(workers, space, {logits, vocab, true}, {x, dim}, vocab, dim, n, d_head, dim, true, products);
    }
    double sum = 0;
    for (const double loss : losses_) sum += loss;
    return sum;
  }

  /// Cross-entropy: the sum over targets of weight times -log p(id); the derivative is that of `factor` times the sum.
  double cross_entropy(executor_ref workers, growing_array<T>& space, product_type products, const model_config& c,
                       std::span<const training_target> targets, const T* normed, const T* head, T factor, T* d_normed,
                       T* d_head) {
    return run(
        workers, space, products, c.vocab, c.dim, normed, targets.size(), head, d_normed, d_head, [](std::size_t, std::size_t) {},
        [&](std::size_t i, T* logits, bool gradient) {
          const training_target& target = targets[i];
          const T wanted = logits[target.id];
          const double loss = static_cast<double>(target.weight) * static_cast<double>(softmax_row(logits, c.vocab) - wanted);
          if (gradient) {
            const T scale = factor * static_cast<T>(target.weight);
            scale_row(logits, c.vocab, scale);
            logits[target.id] -= scale;
          }
          return loss;
        });
  }

 private:
  static constexpr std::size_t together = 8;  // rows of a task

  growing_array<T> logits_;
  std::vector<double> losses_;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
