// SPDX-License-Identifier: MIT
/// Rotary position embedding in double, as the papers write it. The oracle of `kernel/rope.hpp`: of the library's
/// other code it takes the plain struct `rope_config` and computes its own frequencies.
///
/// R(p) turns pair m of a head, seen as a point of the plane, by the angle p * f(m):
///
///     R(0) = 1        R(a) R(b) = R(a + b)        R(p)^T = R(-p)        <R(p) q, R(s) k> = <R(p - s) q, k>
///
/// The last law is why a block can move: only the distance of two tokens enters a score (RoFormer, equation 16).
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "../core/config.hpp"
#include "../kernel/rope_config.hpp"

namespace blockattn::inline v0::reference {

/// The rotations of one configuration. Requires a configuration that `validate` accepts.
class rope {
 public:
  explicit rope(const rope_config& config) : layout_(config.layout), angles_(config.angles) {
    BLOCKATTN_EXPECTS(config.rotary_dim % 2 == 0 && config.rotary_dim > 0);
    frequencies_.resize(config.rotary_dim / 2);
    for (std::size_t m = 0; m < pairs(); ++m) {
      double f = unscaled(config, m);
      switch (config.scaling) {
        case rope_scaling::none: break;
        case rope_scaling::linear: f = f / config.factor; break;
        case rope_scaling::llama3: f = llama3(config, f); break;
        case rope_scaling::yarn: f = yarn(config, f, m); break;
      }
      if (!config.frequency_divisors.empty()) f /= static_cast<double>(config.frequency_divisors[m]);
      frequencies_[m] = f;
    }
    if (config.scaling == rope_scaling::yarn)  // YaRN, equation 22: softmax at temperature t, 1/sqrt(t) on q and on k
      magnitude_ = config.attention_factor > 0 ? config.attention_factor : 1.0 + 0.1 * std::log(config.factor);
  }

  [[nodiscard]] std::size_t pairs() const noexcept { return frequencies_.size(); }

  /// Radians per position of pair m.
  [[nodiscard]] double frequency(std::size_t m) const { return frequencies_[m]; }

  /// What `embed` multiplies with: 1, except with YaRN.
  [[nodiscard]] double magnitude() const noexcept { return magnitude_; }

  /// The two dims of pair m.
  [[nodiscard]] std::pair<std::size_t, std::size_t> dims(std::size_t m) const noexcept {
    if (layout_ == rope_layout::interleaved) return {2 * m, 2 * m + 1};
    return {m, m + pairs()};
  }

  /// x <- R(position) x, of any sign. Dims past the rotary ones stay. A pure rotation: this is what moves a block, and
  /// the paper's equations 1 to 3 are calls of it with i, -i and i_delta.
  void rotate(std::span<double> head, std::int64_t position) const {
    for (std::size_t m = 0; m < pairs(); ++m) {
      const auto [first, second] = dims(m);
      const double a = angle(m, position);
      const double x = head[first];
      const double y = head[second];
      head[first] = x * std::cos(a) - y * std::sin(a);
      head[second] = x * std::sin(a) + y * std::cos(a);
    }
  }

  /// What a model does once to a fresh query or key: R(position), and YaRN's magnitude on the dims that turn.
  /// A move must not repeat the magnitude, or scores grow with every move.
  void embed(std::span<double> head, std::int64_t position) const {
    rotate(head, position);
    for (std::size_t d = 0; d < 2 * pairs(); ++d) head[d] *= magnitude_;
  }

 private:
  static constexpr double two_pi = 2 * 3.14159265358979323846;

  // RoFormer, equation 15: theta^(-2m/d).
  static double unscaled(const rope_config& c, std::size_t m) {
    return 1.0 / std::pow(c.theta, static_cast<double>(2 * m) / static_cast<double>(c.rotary_dim));
  }

  // Llama 3.1: by its wavelength against the original context, a pair is interpolated, left alone, or between.
  static double llama3(const rope_config& c, double f) {
    const double wavelength = two_pi / f;
    const double longest = c.original_context / c.low_frequency_factor;
    const double shortest = c.original_context / c.high_frequency_factor;
    if (wavelength > longest) return f / c.factor;
    if (wavelength < shortest) return f;
    const double kept =
        (c.original_context / wavelength - c.low_frequency_factor) / (c.high_frequency_factor - c.low_frequency_factor);
    return kept * f + (1 - kept) * f / c.factor;
  }

  // YaRN, "NTK by parts" as published with its code: the blend is linear in the index of the pair, between the last
  // pair that makes `beta_fast` turns within the original context and the first that makes at most `beta_slow`.
  static double yarn(const rope_config& c, double f, std::size_t m) {
    const auto turns = [&c](std::size_t pair) { return c.original_context * unscaled(c, pair) / two_pi; };
    const std::size_t end = c.rotary_dim - 1;  // the published code bounds the index by the dims, not by the pairs
    std::size_t low = 0;
    while (low < end && turns(low + 1) >= c.beta_fast) ++low;
    std::size_t high = 0;
    while (high < end && turns(high) > c.beta_slow) ++high;

    const double length = high > low ? static_cast<double>(high - low) : 0.001;
    double interpolated = (static_cast<double>(m) - static_cast<double>(low)) / length;
    if (interpolated < 0) interpolated = 0;
    if (interpolated > 1) interpolated = 1;
    const double kept = (1 - interpolated) * c.extrapolation;
    return kept * f + (1 - kept) * f / c.factor;
  }

  [[nodiscard]] double angle(std::size_t m, std::int64_t position) const {
    if (angles_ == rope_angles::hf_f32)  // the rounding of frameworks that multiply in float
      return static_cast<double>(static_cast<float>(position) * static_cast<float>(frequencies_[m]));
    return static_cast<double>(position) * frequencies_[m];
  }

  std::vector<double> frequencies_;
  double magnitude_ = 1.0;
  rope_layout layout_;
  rope_angles angles_;
};

}  // namespace blockattn::inline v0::reference
