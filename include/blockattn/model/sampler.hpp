// SPDX-License-Identifier: MIT
/// From logits to a token: greedy, temperature, top-k, top-p, min-p, repetition penalty; seeded, the same on every
/// machine that computes the same logits.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "../core/result.hpp"

namespace blockattn::inline v0 {

/// Picks a token from the logits of one position; `history` holds the ids before it. The logits may be changed.
template <class S>
concept token_sampler = requires(S& s, std::span<float> logits, std::span<const token> history) {
  { s(logits, history) } -> std::same_as<token>;
};

/// The most likely token; the lowest id among equals. The sampler that documents the concept.
struct greedy {
  token operator()(std::span<float> logits, std::span<const token> = {}) const noexcept {
    BLOCKATTN_EXPECTS(!logits.empty());
    return static_cast<token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
};

static_assert(token_sampler<greedy>);

/// Settings of `sampler`, applied in this order: hook, repetition, temperature, top_k, top_p, min_p.
struct sampler_options {
  float temperature = 0.0f;         // 0: greedy
  std::size_t top_k = 0;            // keep the k best; 0: all
  float top_p = 1.0f;               // keep the smallest set whose probability reaches p
  float min_p = 0.0f;               // drop what is less likely than min_p times the best
  float repetition_penalty = 1.0f;  // logits of recent ids: divided if positive, multiplied if negative; 1: off
  std::size_t repetition_window = 64;
  std::uint64_t seed = 0;
  std::function<void(std::span<float>)> hook = {};  // sees and may change the raw logits: a grammar, a ban list
};

/// Draws from the filtered distribution. One object per conversation: it owns the random state and its work space.
/// After the first call it allocates nothing (a hook may). Complexity: O(V) plus sorting of what is kept.
class sampler {
 public:
  /// Errors: `invalid_argument` names the setting.
  [[nodiscard]] static result<sampler> make(sampler_options options) {
    const auto bad = [](const char* name, const char* expected, float found) {
      return fail(errc::invalid_argument, "sampler: ", name, " must be ", expected, ", found ", found);
    };
    if (!(options.temperature >= 0) || !(options.temperature <= 100)) return bad("temperature", "in [0, 100]", options.temperature);
    if (!(options.top_p > 0 && options.top_p <= 1)) return bad("top_p", "in (0, 1]", options.top_p);
    if (!(options.min_p >= 0 && options.min_p <= 1)) return bad("min_p", "in [0, 1]", options.min_p);
    if (!(options.repetition_penalty > 0 && options.repetition_penalty <= 100))
      return bad("repetition_penalty", "in (0, 100]", options.repetition_penalty);
    return sampler(std::move(options));
  }

  token operator()(std::span<float> logits, std::span<const token> history) {
    BLOCKATTN_EXPECTS(!logits.empty());
    if (options_.hook) options_.hook(logits);
    penalise(logits, history);
    if (options_.temperature == 0) return greedy{}(logits);

    candidates_.resize(logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) candidates_[i] = {comparable(logits[i]), static_cast<token>(i)};
    const auto better = [](const candidate& a, const candidate& b) {
      return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
    };
    std::size_t kept = candidates_.size();
    if (options_.top_k != 0 && options_.top_k < kept) {
      kept = options_.top_k;
      std::nth_element(candidates_.begin(), at(kept - 1), candidates_.end(), better);
    }
    std::sort(candidates_.begin(), at(kept), better);

    // Probabilities relative to the best, in double: the sum decides which token a random number falls on.
    const double best = candidates_[0].logit;
    double total = 0;
    for (std::size_t i = 0; i < kept; ++i) {
      candidates_[i].weight = std::exp((candidates_[i].logit - best) / static_cast<double>(options_.temperature));
      total += candidates_[i].weight;
    }
    if (options_.top_p < 1) {
      double sum = 0;
      std::size_t n = 0;
      while (n < kept && sum < static_cast<double>(options_.top_p) * total) sum += candidates_[n++].weight;
      kept = std::max<std::size_t>(n, 1);
    }
    if (options_.min_p > 0) {
      std::size_t n = 1;
      while (n < kept && candidates_[n].weight >= static_cast<double>(options_.min_p)) ++n;
      kept = n;
    }
    total = 0;
    for (std::size_t i = 0; i < kept; ++i) total += candidates_[i].weight;
    double left = uniform() * total;
    for (std::size_t i = 0; i + 1 < kept; ++i) {
      left -= candidates_[i].weight;
      if (left < 0) return candidates_[i].id;
    }
    return candidates_[kept - 1].id;
  }

  [[nodiscard]] const sampler_options& options() const noexcept { return options_; }

 private:
  struct candidate {
    float logit;
    token id;
    double weight = 0;
  };

  explicit sampler(sampler_options options) : options_(std::move(options)), random_(options_.seed) {}

  [[nodiscard]] std::vector<candidate>::iterator at(std::size_t i) {
    return candidates_.begin() + static_cast<std::ptrdiff_t>(i);
  }

  // A damaged model can produce NaN, which has no place in an order: it becomes the least likely. Bits are asked because
  // -ffast-math promises that there are no NaNs.
  static float comparable(float x) noexcept {
    const auto magnitude = std::bit_cast<std::uint32_t>(x) & 0x7fffffffu;
    return magnitude > 0x7f800000u ? std::numeric_limits<float>::lowest() : x;
  }

  // 53 random bits as a number in [0, 1). std::uniform_real_distribution differs between standard libraries.
  double uniform() noexcept { return static_cast<double>(random_() >> 11) * 0x1.0p-53; }

  void penalise(std::span<float> logits, std::span<const token> history) {
    if (options_.repetition_penalty == 1 || options_.repetition_window == 0) return;
    const std::size_t n = std::min(history.size(), options_.repetition_window);
    recent_.assign(history.end() - static_cast<std::ptrdiff_t>(n), history.end());
    std::sort(recent_.begin(), recent_.end());
    recent_.erase(std::unique(recent_.begin(), recent_.end()), recent_.end());
    for (const token id : recent_) {
      if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) continue;
      float& logit = logits[static_cast<std::size_t>(id)];
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    }
  }

  sampler_options options_;
  std::mt19937_64 random_;
  std::vector<candidate> candidates_;
  std::vector<token> recent_;
};

static_assert(token_sampler<sampler>);

}  // namespace blockattn::inline v0
