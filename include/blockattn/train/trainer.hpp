// SPDX-License-Identifier: MIT
/// Training: steps of AdamW over packed batches of samples, under any block layout.
///
///     auto run = trainer<>::make(*parameters<>::random(config, 1), {.lr = 1e-3}, workers).value();
///     training_item both[] = {{&sample, mask_mode::full}, {&sample, mask_mode::block}};
///     run.step(both).value();
///     auto model = llama<>::bind(run.parameters()).value();
///
/// The same weights, samples and options give the same bits for any number of workers, and a run that was saved and
/// loaded goes on as if nothing had been.
#pragma once

#include <filesystem>
#include <span>
#include <utility>
#include <vector>

#include "../core/mapped_file.hpp"
#include "../core/whole_file.hpp"
#include "checkpoint.hpp"
#include "network.hpp"
#include "optimizer.hpp"

namespace blockattn::inline v0 {

/// What a step did. Losses are in nats: `loss_sum / weight_sum` is the mean.
struct step_report {
  double loss_sum = 0;       // over predicted tokens, of weight times -log p; weights include the scale of items
  double weight_sum = 0;     // of those weights
  double gradient_norm = 0;  // before clipping
  double learning_rate = 0;
  std::uint64_t tokens = 0;  // rows that were run
};

/// The same without a gradient.
struct loss_report {
  double loss_sum = 0;
  double weight_sum = 0;
  std::uint64_t tokens = 0;
  [[nodiscard]] double mean() const noexcept { return weight_sum != 0 ? loss_sum / weight_sum : 0; }
};

inline namespace BLOCKATTN_ISA {

/// A run: weights, moments and the number of steps. Move only; not thread-safe; the executor must outlive it.
template <class T = float>
class trainer {
 public:
  /// Errors: those of `validate_trainable` and of `validate(options)`; `unsupported` for bf16 products of doubles.
  [[nodiscard]] static result<trainer> make(v0::parameters<T> weights, const training_options& options, executor_ref workers) {
    if (auto ok = validate_trainable(weights.config()); !ok) return ok.error();
    if (auto ok = validate(options); !ok) return ok.error();
    if (!std::is_same_v<T, float> && options.products != product_type::f32)
      return fail(errc::unsupported, "training options: expected products of f32 for doubles, found ", to_string(options.products));
    return trainer(std::move(weights), options, workers);
  }

  /// One step of the optimizer over a batch. Errors: those of `validate(sample)`; `invalid_argument` if nothing is to be
  /// predicted, or if the gradient is not finite. The weights are as before then.
  [[nodiscard]] result<step_report> step(std::span<const training_item> items) { return finish(gradients(items)); }

  /// The gradient alone, to be read from `gradient()`. Errors: as `step`, but a gradient that is not finite is none.
  [[nodiscard]] result<step_report> gradients(std::span<const training_item> items) {
    return gradients_of(items, false, [](network<T>& net, const training_batch& batch, auto, const T* w, T factor, T* gradient) {
      net.forward(batch, w);
      return net.loss_and_gradient(batch, w, factor, gradient);
    });
  }

  /// The same for a loss of the caller's, `loss(network, batch, items of this batch, weights, factor, gradient)`: it adds to
  /// the gradient the derivative of `factor` times what it returns. Over all that is predicted, or what branches predict.
  template <class Loss>
  [[nodiscard]] result<step_report> gradients_of(std::span<const training_item> items, bool branches_only, Loss&& loss) {
    step_report report;
    if (auto ok = weigh(items, branches_only, report.weight_sum); !ok) return ok.error();
    std::fill(gradient_.all().begin(), gradient_.all().end(), T(0));
    const T factor = options_.reduction == loss_reduction::mean ? static_cast<T>(1 / report.weight_sum) : T(1);
    for_passes(items, branches_only, [&](const training_batch& batch, std::span<const training_item> part) {
      report.loss_sum += loss(network_, batch, part, std::as_const(weights_).all().data(), factor, gradient_.all().data());
      report.tokens += batch.rows();
    });
    report.gradient_norm = optimizer_.norm(workers_, std::as_const(gradient_).all());
    report.learning_rate = learning_rate(options_, steps_);
    return report;
  }
  template <class Loss>
  [[nodiscard]] result<step_report> step_of(std::span<const training_item> items, bool branches_only, Loss&& loss) {
    return finish(gradients_of(items, branches_only, loss));
  }

  /// The loss alone. Errors: as `gradients`.
  [[nodiscard]] result<loss_report> loss(std::span<const training_item> items) {
    loss_report report;
    if (auto ok = weigh(items, false, report.weight_sum); !ok) return ok.error();
    for_passes(items, false, [&](const training_batch& batch, auto) {
      network_.forward(batch, weights_.all().data());
      report.loss_sum += network_.loss(batch, weights_.all().data());
      report.tokens += batch.rows();
    });
    return report;
  }

  /// Logits of what an item predicts, (targets, vocab) in the order of `training_batch`. Errors: as `gradients`.
  [[nodiscard]] result<std::vector<T>> logits(const training_item& item) {
    double weight = 0;
    if (auto ok = weigh({&item, 1}, false, weight); !ok) return ok.error();
    batch_.clear();
    batch_.add(item);
    std::vector<T> out(batch_.targets.size() * weights_.config().vocab);
    network_.forward(batch_, weights_.all().data());
    network_.logits(0, batch_.targets.size(), weights_.all().data(), out.data());
    return out;
  }

  [[nodiscard]] const v0::parameters<T>& parameters() const noexcept { return weights_; }
  [[nodiscard]] v0::parameters<T>& parameters() noexcept { return weights_; }
  [[nodiscard]] const v0::parameters<T>& gradient() const noexcept { return gradient_; }
  [[nodiscard]] const adamw<T>& optimizer() const noexcept { return optimizer_; }
  [[nodiscard]] const training_options& options() const noexcept { return options_; }
  /// Steps taken.
  [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

  /// Replaces the options: another phase of a run. Errors: those of `validate(options)`. `recompute` and `products` stay.
  [[nodiscard]] result<void> set_options(const training_options& options) {
    if (auto ok = validate(options); !ok) return ok;
    const bool recompute = options_.recompute;
    const product_type products = options_.products;
    options_ = options;
    options_.recompute = recompute;
    options_.products = products;
    return {};
  }

  /// Writes a checkpoint, atomically. Errors: `io`.
  [[nodiscard]] result<void> save(const std::filesystem::path& path) const {
    auto file = whole_file::create(path);
    if (!file) return file.error();
    const auto bytes = write_checkpoint<T>(weights_.config(), steps_, weights_.all(), optimizer_.first().all(),
                                           optimizer_.second().all());
    if (auto written = file->write(bytes); !written) return written;
    return file->commit();
  }
  /// Goes on from a checkpoint of the same configuration; options are the caller's. Errors: `io`, and those of
  /// `read_checkpoint`; the run is as before then.
  [[nodiscard]] result<void> load(const std::filesystem::path& path) {
    const auto file = mapped_file::open(path);
    if (!file) return file.error();
    const auto view = read_checkpoint<T>(file->bytes(), weights_.config(), weights_.all().size());
    if (!view) return fail(view.error().code, path.string(), ": ", view.error().message);
    const auto take = [](std::span<T> to, std::span<const std::byte> from) {
      std::memcpy(to.data(), from.data(), from.size());
    };
    take(weights_.all(), view->weights);
    take(optimizer_.first().all(), view->first);
    take(optimizer_.second().all(), view->second);
    steps_ = view->step;
    return {};
  }

 private:
  trainer(v0::parameters<T> weights, const training_options& options, executor_ref workers)
      : weights_(std::move(weights)),
        gradient_(weights_.config()),
        options_(options),
        workers_(workers),
        optimizer_(weights_.config()),
        network_(weights_.config(), workers, options.recompute, options.products) {}

  // The step of the optimizer, if there is a gradient.
  [[nodiscard]] result<step_report> finish(result<step_report> report) {
    if (!report) return report;
    const double norm = report->gradient_norm;
    if (!std::isfinite(norm) || !std::isfinite(report->loss_sum))
      return fail(errc::invalid_argument, "training step ", steps_, ": expected a finite gradient, found a loss of ",
                  report->loss_sum, " and a norm of ", norm);
    const double factor = options_.clip_norm > 0 && norm > options_.clip_norm ? options_.clip_norm / norm : 1.0;
    optimizer_.step(workers_, options_, steps_, static_cast<T>(factor), weights_, std::as_const(gradient_).all());
    ++steps_;
    return report;
  }

  // Checks all items, and adds up what they predict.
  [[nodiscard]] result<void> weigh(std::span<const training_item> items, bool branches_only, double& sum) const {
    bool any = false;
    for (const training_item& item : items) {
      if (item.sample == nullptr) return fail(errc::invalid_argument, "training item: expected a sample, found none");
      if (auto ok = validate(*item.sample, weights_.config()); !ok) return ok;
      if (!std::isfinite(item.scale)) return fail(errc::invalid_argument, "training item: expected a finite scale");
      const double weight = predicted_weight(item, branches_only);
      any = any || weight != 0;
      sum += weight;
    }
    if (!any || sum == 0) return fail(errc::invalid_argument, "training batch: expected a token to predict, found none");
    return {};
  }

  // Calls f for packed batches of at most `tokens_per_pass` rows, or of one item, and for the items in them.
  template <class F>
  void for_passes(std::span<const training_item> items, bool branches_only, F&& f) {
    for (std::size_t i = 0; i < items.size();) {
      const std::size_t first = i;
      batch_.clear();
      do batch_.add(items[i]), ++i;
      while (i < items.size() && batch_.rows() + items[i].sample->ids.size() <= options_.tokens_per_pass);
      if (branches_only) batch_.keep_branches();
      if (!batch_.targets.empty()) f(batch_, items.subspan(first, i - first));
    }
  }

  v0::parameters<T> weights_, gradient_;
  training_options options_;
  executor_ref workers_;
  std::uint64_t steps_ = 0;
  adamw<T> optimizer_;
  network<T> network_;
  training_batch batch_;
};

}  // namespace BLOCKATTN_ISA
}  // namespace blockattn::inline v0
