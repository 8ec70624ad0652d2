// SPDX-License-Identifier: MIT
/// Block distillation: a student under the block mask learns the distributions of a frozen teacher that attends fully
/// (arXiv 2605.15913 has the idea and names its parts; how they are made here is ours).
///
///     loss of a row = w (1 + focus k / (1 + k)) t^2 k + hard w CE,    k = KL(teacher || student) at temperature t
///
/// over the rows of branches. Rows that block attention hurts most weigh up to `1 + focus` times as much; that factor is
/// not differentiated. What else belongs to the method are samples: `without_blocks` (block dropout), and sinks, which the
/// student's samples have (text/sinks.hpp) and the teacher does not see.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "trainer.hpp"

namespace blockattn::inline v0 {

struct distillation_options {
  double temperature = 1;
  double focus = 0;  // 0: all rows weigh what their samples say
  double hard = 0;   // weight of the cross-entropy of the tokens themselves
  std::vector<token> unseen = {};  // left out of what the teacher is shown: sinks. They may stand in blocks alone
};

/// A sample without some blocks of its context: block i is left out if `dropped[i]`. Requires one flag for each block.
/// Drawn anew for each step this is block dropout: no block can be relied on, so each has to carry its own meaning.
[[nodiscard]] inline training_sample without_blocks(const training_sample& s, const std::vector<bool>& dropped) {
  BLOCKATTN_EXPECTS(dropped.size() == s.block_ends.size());
  training_sample out;
  const auto keep = [&](std::size_t first, std::size_t last) {
    const auto at = [](auto& v, std::size_t i) { return v.begin() + static_cast<std::ptrdiff_t>(i); };
    out.ids.insert(out.ids.end(), at(s.ids, first), at(s.ids, last));
    out.weights.insert(out.weights.end(), at(s.weights, first), at(s.weights, last));
    return static_cast<std::uint32_t>(out.ids.size());
  };
  std::size_t first = 0;
  for (std::size_t b = 0; b < dropped.size(); first = s.block_ends[b++])
    if (!dropped[b]) out.block_ends.push_back(keep(first, s.block_ends[b]));
  for (const std::uint32_t end : s.branch_ends) {
    out.branch_ends.push_back(keep(first, end));
    first = end;
  }
  return out;
}

/// A sample without the tokens that are in `unseen`, wherever they stand: what a teacher without sinks (text/sinks.hpp) is
/// shown. A block of which nothing is left stays as an empty one.
[[nodiscard]] inline training_sample without_tokens(const training_sample& s, std::span<const token> unseen) {
  training_sample out;
  std::size_t first = 0;
  const auto keep = [&](std::size_t last) {
    for (; first < last; ++first) {
      if (std::find(unseen.begin(), unseen.end(), s.ids[first]) != unseen.end()) continue;
      out.ids.push_back(s.ids[first]);
      out.weights.push_back(s.weights[first]);
    }
    return static_cast<std::uint32_t>(out.ids.size());
  };
  for (const std::uint32_t end : s.block_ends) out.block_ends.push_back(keep(end));
  for (const std::uint32_t end : s.branch_ends) out.branch_ends.push_back(keep(end));
  return out;
}

inline namespace BLOCKATTN_ISA {

/// The teacher and the loss. Move only; not thread-safe; the executor must outlive it.
template <class T = float>
class distiller {
 public:
  /// Errors: those of `validate_trainable`; `invalid_argument` for options.
  [[nodiscard]] static result<distiller> make(parameters<T> teacher, const distillation_options& options,
                                              executor_ref workers) {
    if (auto ok = validate_trainable(teacher.config()); !ok) return ok.error();
    if (!(options.temperature > 0 && std::isfinite(options.temperature)))
      return fail(errc::invalid_argument, "distillation: expected a temperature above 0, found ", options.temperature);
    for (const double x : {options.focus, options.hard})
      if (!(x >= 0 && std::isfinite(x)))
        return fail(errc::invalid_argument, "distillation: expected focus and hard of 0 or more, found ", x);
    return distiller(std::move(teacher), options, workers);
  }

  /// A step of the student, whose items have their own masks; the teacher sees each sample fully. Errors: those of
  /// `trainer::step`; `shape_mismatch` if the teacher has more tokens than the student, `invalid_argument` for a sample with a
  /// token that the teacher neither knows nor has in `unseen`. Tokens that only the student has are never wanted of it.
  [[nodiscard]] result<step_report> step(trainer<T>& student, std::span<const training_item> items) {
    if (auto ok = fits(student, items); !ok) return ok.error();
    return student.step_of(items, true, loss());
  }
  /// The gradient alone, to be read from the student.
  [[nodiscard]] result<step_report> gradients(trainer<T>& student, std::span<const training_item> items) {
    if (auto ok = fits(student, items); !ok) return ok.error();
    return student.gradients_of(items, true, loss());
  }

 private:
  distiller(parameters<T> teacher, const distillation_options& options, executor_ref workers)
      : teacher_(std::move(teacher)), options_(options), network_(teacher_.config(), workers) {}

  [[nodiscard]] result<void> fits(const trainer<T>& student, std::span<const training_item> items) const {
    const std::uint32_t here = teacher_.config().vocab, there = student.parameters().config().vocab;
    if (here > there)
      return fail(errc::shape_mismatch, "distillation: expected a student of at least ", here, " tokens, found one of ", there);
    if (here == there && options_.unseen.empty()) return {};
    const auto hidden = [&](token id) {
      return std::find(options_.unseen.begin(), options_.unseen.end(), id) != options_.unseen.end();
    };
    for (const training_item& item : items) {
      const training_sample& s = *item.sample;
      const std::size_t context = s.block_ends.empty() ? 0 : s.block_ends.back();
      for (std::size_t i = 0; i < s.ids.size(); ++i) {
        if (hidden(s.ids[i]) ? i >= context : s.ids[i] >= static_cast<token>(here))
          return fail(errc::invalid_argument, "distillation: sample: expected ",
                      hidden(s.ids[i]) ? "unseen tokens in blocks alone" : "tokens that the teacher knows or does not see",
                      ", found ", s.ids[i], " at ", i);
      }
    }
    return {};
  }

  [[nodiscard]] auto loss() noexcept {
    return [this](network<T>& net, const training_batch& batch, std::span<const training_item> items, const T* w, T factor,
                  T* gradient) { return loss_of(net, batch, items, w, factor, gradient); };
  }

  double loss_of(network<T>& net, const training_batch& batch, std::span<const training_item> items, const T* w, T factor,
                 T* gradient) {
    batch_.clear();
    for (const training_item& item : items) {
      const training_sample shown = options_.unseen.empty() ? training_sample() : without_tokens(*item.sample, options_.unseen);
      batch_.add({options_.unseen.empty() ? item.sample : &shown, mask_mode::full, item.scale});
    }
    batch_.keep_branches();
    BLOCKATTN_EXPECTS(batch_.targets.size() == batch.targets.size());
    const std::size_t known = teacher_.config().vocab, vocab = net.config().vocab;
    const T* const frozen = std::as_const(teacher_).all().data();
    network_.forward(batch_, frozen);
    net.forward(batch, w);
    std::size_t begin = 0;
    T *teacher = nullptr, *shares = nullptr;
    return net.run_head(
        batch, w, gradient,
        [&](std::size_t first, std::size_t n) {
          begin = first;
          teacher = logits_.take(n * known);
          shares = shares_.take(n * (known + vocab));
          network_.logits(first, n, frozen, teacher);
        },
        [&](std::size_t i, T* student, bool wanted) {
          return row(batch.targets[i], teacher + (i - begin) * known, shares + (i - begin) * (known + vocab), student, known,
                     vocab, factor, wanted);
        });
  }

  // One row: logits of the teacher over the tokens it knows, room for its distribution and then for the student's own, and the
  // student's logits, which become the gradient. What the teacher does not know has the share 0.
  double row(const training_target& target, T* t, T* shares, T* s, std::size_t known, std::size_t vocab, T factor,
             bool wanted) const noexcept {
    const auto temperature = static_cast<T>(options_.temperature);
    T* const own = shares + known;
    scale_row(t, known, T(1) / temperature);
    std::copy_n(t, known, shares);
    const T t_sum = softmax_row(shares, known), t_mean = dot_rows(shares, t, known);
    std::copy_n(s, vocab, own);
    const T expected = s[target.id];
    const T hard_loss = softmax_row(own, vocab) - expected;  // own: the student's distribution at temperature 1
    scale_row(s, vocab, T(1) / temperature);
    const T s_mean = dot_rows(shares, s, known), s_sum = softmax_row(s, vocab);
    const T divergence = std::max(T(0), (t_mean - t_sum) - (s_mean - s_sum));
    const auto focus = static_cast<T>(options_.focus), hard = static_cast<T>(options_.hard) * static_cast<T>(target.weight);
    const T weight = static_cast<T>(target.weight) * (T(1) + focus * divergence / (T(1) + divergence));
    if (wanted) {
      const T soft = factor * weight * temperature;
      for (std::size_t v = 0; v < vocab; ++v) s[v] = soft * (s[v] - (v < known ? shares[v] : T(0))) + factor * hard * own[v];
      s[target.id] -= factor * hard;
    }
    return static_cast<double>(weight * temperature * temperature * divergence + hard * hard_loss);
  }

  parameters<T> teacher_;
  distillation_options options_;
  network<T> network_;
  training_batch batch_;
  growing_array<T> logits_, shares_;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
