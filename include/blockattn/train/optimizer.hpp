// SPDX-License-Identifier: MIT
/// AdamW (Loshchilov and Hutter 2019, algorithm 2) with a schedule of the learning rate and a bound on the gradient's norm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/executor.hpp"
#include "../core/result.hpp"
#include "lanes.hpp"
#include "parameters.hpp"
#include "product_type.hpp"

namespace blockattn::inline v0 {

/// How the learning rate moves after its warm-up: not at all, or in a line to zero at `total_steps`.
enum class rate_schedule : std::uint8_t { constant, linear_decay };

/// What the gradient is that of: the sum over predicted tokens, or their weighted mean.
enum class loss_reduction : std::uint8_t { token_sum, mean };

struct training_options {
  double lr = 3e-4;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  // of matrices; biases and the weights of norms have none
  double clip_norm = 1;     // 0: none
  rate_schedule schedule = rate_schedule::constant;
  std::uint64_t warmup_steps = 0;  // the rate grows in a line to lr
  std::uint64_t total_steps = 0;   // linear_decay: where the rate is 0
  loss_reduction reduction = loss_reduction::mean;
  std::size_t tokens_per_pass = 4096;  // a step over more runs in several passes; a longer sample runs alone
  bool recompute = false;              // keep only the inputs of layers; about a third more time
  product_type products = product_type::f32;
};

/// Errors: `invalid_argument` names the option.
[[nodiscard]] inline result<void> validate(const training_options& o) {
  const auto need = [](bool ok, const char* what, double found) -> result<void> {
    if (ok) return {};
    return fail(errc::invalid_argument, "training options: expected ", what, ", found ", found);
  };
  if (auto r = need(o.lr >= 0 && std::isfinite(o.lr), "lr to be 0 or more", o.lr); !r) return r;
  if (auto r = need(o.beta1 >= 0 && o.beta1 < 1, "beta1 in [0, 1)", o.beta1); !r) return r;
  if (auto r = need(o.beta2 >= 0 && o.beta2 < 1, "beta2 in [0, 1)", o.beta2); !r) return r;
  if (auto r = need(o.epsilon > 0 && std::isfinite(o.epsilon), "epsilon above 0", o.epsilon); !r) return r;
  if (auto r = need(o.weight_decay >= 0 && std::isfinite(o.weight_decay), "weight_decay of 0 or more", o.weight_decay); !r) return r;
  if (auto r = need(o.clip_norm >= 0 && std::isfinite(o.clip_norm), "clip_norm of 0 or more", o.clip_norm); !r) return r;
  if (auto r = need(o.schedule == rate_schedule::constant || o.total_steps > o.warmup_steps,
                    "total_steps beyond warmup_steps", static_cast<double>(o.total_steps));
      !r)
    return r;
  return need(o.tokens_per_pass > 0, "tokens_per_pass above 0", 0);
}

/// The rate of step `step`, counted from 0.
[[nodiscard]] inline double learning_rate(const training_options& o, std::uint64_t step) noexcept {
  if (step < o.warmup_steps) return o.lr * static_cast<double>(step + 1) / static_cast<double>(o.warmup_steps);
  if (o.schedule == rate_schedule::constant) return o.lr;
  const double left = step < o.total_steps ? static_cast<double>(o.total_steps - step) : 0;
  return o.lr * left / static_cast<double>(o.total_steps - o.warmup_steps);
}

inline namespace BLOCKATTN_ISA {

/// The moments of all weights. The same bits for any number of workers: sums are of fixed parts, in order.
template <class T>
class adamw {
 public:
  explicit adamw(const model_config& config) : first_(config), second_(config) {}

  [[nodiscard]] parameters<T>& first() noexcept { return first_; }
  [[nodiscard]] parameters<T>& second() noexcept { return second_; }
  [[nodiscard]] const parameters<T>& first() const noexcept { return first_; }
  [[nodiscard]] const parameters<T>& second() const noexcept { return second_; }

  /// The Euclidean norm of a gradient.
  [[nodiscard]] double norm(executor_ref workers, std::span<const T> gradient) {
    const std::size_t tasks = ceil_div(gradient.size(), part);
    sums_.assign(tasks, 0.0);
    workers.for_each(tasks, [&](std::size_t, std::size_t task) {
      using l = lanes<T>;
      const std::size_t end = std::min(gradient.size(), (task + 1) * part);
      double sum = 0;
      for (std::size_t i = task * part; i < end; i += 256) {  // short sums in T, long ones in double
        auto squares = l::zero();
        l::for_each(std::min<std::size_t>(256, end - i), [&](std::size_t k, auto n) BLOCKATTN_LAMBDA_INLINE {
          const auto g = l::load(gradient.data() + i + k, n);
          squares = fma(g, g, squares);
        });
        sum += static_cast<double>(l::sum(squares));
      }
      sums_[task] = sum;
    });
    double sum = 0;
    for (const double s : sums_) sum += s;
    return std::sqrt(sum);
  }

  /// Step `step`, counted from 0, of weights by `factor` times the gradient.
  void step(executor_ref workers, const training_options& o, std::uint64_t step, T factor, parameters<T>& weights,
            std::span<const T> gradient) {
    const double rate = learning_rate(o, step), n = static_cast<double>(step + 1);
    const double first_left = 1 - std::pow(o.beta1, n), second_left = 1 - std::pow(o.beta2, n);
    // w -= rate * (m / first_left) / (sqrt(v / second_left) + epsilon), with both constants moved to the front.
    const T size = static_cast<T>(rate * std::sqrt(second_left) / first_left);
    const T epsilon = static_cast<T>(o.epsilon * std::sqrt(second_left));
    for (const parameter_place& p : weights.places()) {
      const T keep = static_cast<T>(p.is_vector() ? 1.0 : 1.0 - rate * o.weight_decay);
      workers.for_each(ceil_div(p.size(), part), [&](std::size_t, std::size_t task) {
        const std::size_t at = p.offset + task * part, count = std::min(part, p.size() - task * part);
        apply(o, factor, size, epsilon, keep, count, gradient.data() + at, first_.all().data() + at,
              second_.all().data() + at, weights.all().data() + at);
      });
    }
  }

 private:
  static constexpr std::size_t part = 16384;  // elements of a task

  static void apply(const training_options& o, T factor, T size, T epsilon, T keep, std::size_t count, const T* g, T* m,
                    T* v, T* w) noexcept {
    using l = lanes<T>;
    const auto b1 = l::broadcast(static_cast<T>(o.beta1)), c1 = l::broadcast(static_cast<T>(1 - o.beta1));
    const auto b2 = l::broadcast(static_cast<T>(o.beta2)), c2 = l::broadcast(static_cast<T>(1 - o.beta2));
    const auto f = l::broadcast(factor), s = l::broadcast(-size), e = l::broadcast(epsilon), k = l::broadcast(keep);
    l::for_each(count, [&](std::size_t i, auto n) BLOCKATTN_LAMBDA_INLINE {
      const auto grad = l::load(g + i, n) * f;
      const auto mean = fma(l::load(m + i, n), b1, grad * c1);
      const auto square = fma(l::load(v + i, n), b2, grad * grad * c2);
      l::store(m + i, mean, n);
      l::store(v + i, square, n);
      l::store(w + i, fma(s, mean / (square_root(square) + e), l::load(w + i, n) * k), n);
    });
  }

  parameters<T> first_, second_;
  std::vector<double> sums_;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
