// SPDX-License-Identifier: MIT
/// Rotary position embedding as data: which pairs turn, how fast, and how a context extension changes that.
/// No SIMD here: caches and readers include this file.
///
/// Pair m of a head turns by `position * frequency(m)`; unscaled, `frequency(m) = theta^(-2m/rotary_dim)` (paper,
/// section 2.4; RoFormer, equation 15). Every scaling supported here changes frequencies by a rule that does not look
/// at the length of the prompt, which is what lets a block move.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "../core/config.hpp"
#include "../core/result.hpp"

namespace blockattn::inline v0 {

/// Which two dims of a head form pair m: (m, m + rotary_dim/2), or the neighbours (2m, 2m + 1).
enum class rope_layout : std::uint8_t { half_split, interleaved };

/// How frequencies were changed for a longer context.
enum class rope_scaling : std::uint8_t { none, linear, llama3, yarn };

/// How an angle is computed: in double, or in float as the common Python framework does (off by 1e-3 rad at 32k).
enum class rope_angles : std::uint8_t { exact, hf_f32 };

struct rope_config {
  double theta = 10000.0;
  std::uint32_t rotary_dim = 0;  // even, <= head size; dims beyond it do not turn
  rope_layout layout = rope_layout::half_split;
  rope_angles angles = rope_angles::exact;

  rope_scaling scaling = rope_scaling::none;
  double factor = 1.0;              // linear, llama3, yarn: how much longer the context became
  double original_context = 0;      // llama3, yarn: the length the model was first trained on
  double low_frequency_factor = 1;  // llama3
  double high_frequency_factor = 4; // llama3
  double beta_fast = 32;            // yarn
  double beta_slow = 1;             // yarn
  double attention_factor = 0;      // yarn: the magnitude of q and k; 0 means 0.1 ln(factor) + 1
  double extrapolation = 1;         // yarn: 1 blends as published, 0 is linear everywhere

  /// Divides the frequency of each pair, if not empty: GGUF's `rope_freqs.weight`. rotary_dim/2 values.
  std::vector<float> frequency_divisors = {};

  friend bool operator==(const rope_config&, const rope_config&) = default;
};

/// The angle per position of each pair, in radians, rotary_dim/2 values; and the factor that YaRN puts on q and k,
/// once each, never on a move. Models whose layers with a window have a base of their own (Gemma 3) bring the angles of
/// both kinds of layers.
struct rope_frequencies {
  std::vector<double> per_position;
  std::vector<double> local_per_position = {};  // of the layers with a window; empty: the same
  double magnitude = 1.0;
  double local_magnitude = 1.0;
  rope_layout layout = rope_layout::half_split;
  rope_angles angles = rope_angles::exact;

  [[nodiscard]] std::size_t pairs() const noexcept { return per_position.size(); }

  /// Floats of a turn table: [pairs] cosines and [pairs] sines, and as many again for local layers that differ.
  [[nodiscard]] std::size_t table_floats() const noexcept { return 2 * (pairs() + local_per_position.size()); }
  /// Where the table of a kind of layers begins in it.
  [[nodiscard]] std::size_t table_offset(bool local) const noexcept {
    return local && !local_per_position.empty() ? 2 * pairs() : 0;
  }

  /// The turn table of a position, of any sign: `out` holds table_floats(). Computed in double unless `hf_f32` (PAPER:
  /// float angles are off by 1e-3 rad at 32k).
  void cos_sin(std::int64_t position, float* out) const noexcept {
    cos_sin(per_position, position, out);
    if (!local_per_position.empty()) cos_sin(local_per_position, position, out + 2 * pairs());
  }

 private:
  void cos_sin(const std::vector<double>& frequencies, std::int64_t position, float* out) const noexcept {
    const std::size_t n = frequencies.size();
    for (std::size_t m = 0; m < n; ++m) {
      if (angles == rope_angles::hf_f32) {
        const float angle = static_cast<float>(position) * static_cast<float>(frequencies[m]);
        out[m] = std::cos(angle);
        out[n + m] = std::sin(angle);
      } else {
        const double angle = static_cast<double>(position) * frequencies[m];
        out[m] = static_cast<float>(std::cos(angle));
        out[n + m] = static_cast<float>(std::sin(angle));
      }
    }
  }
};

namespace detail {
// The pair at which `rotations` full turns fit into the original context (YaRN, section 3.2).
inline double yarn_pair(double rotations, double dim, double theta, double original_context) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  return dim * std::log(original_context / (rotations * two_pi)) / (2 * std::log(theta));
}
}  // namespace detail

/// Frequencies of a configuration. Errors: `invalid_argument` names the field that cannot be used.
[[nodiscard]] inline result<rope_frequencies> make_frequencies(const rope_config& config) {
  const auto bad = [](const char* what, double found) {
    return fail(errc::invalid_argument, "rope: ", what, ", found ", found);
  };
  if (config.rotary_dim == 0 || config.rotary_dim % 2 != 0)
    return bad("rotary_dim must be even and positive", config.rotary_dim);
  if (!(config.theta > 0) || !std::isfinite(config.theta)) return bad("theta must be positive", config.theta);
  if (!(config.factor > 0) || !std::isfinite(config.factor)) return bad("factor must be positive", config.factor);
  const std::size_t pairs = config.rotary_dim / 2;
  if (!config.frequency_divisors.empty() && config.frequency_divisors.size() != pairs)
    return bad("frequency divisors must be one for each pair", static_cast<double>(config.frequency_divisors.size()));

  rope_frequencies out;
  out.layout = config.layout;
  out.angles = config.angles;
  out.per_position.resize(pairs);
  const double dim = config.rotary_dim;
  for (std::size_t m = 0; m < pairs; ++m) out.per_position[m] = std::pow(config.theta, -2.0 * static_cast<double>(m) / dim);

  switch (config.scaling) {
    case rope_scaling::none: break;
    case rope_scaling::linear:
      for (double& f : out.per_position) f /= config.factor;
      break;
    case rope_scaling::llama3: {
      if (!(config.original_context > 0)) return bad("llama3 scaling needs original_context", config.original_context);
      if (!(config.high_frequency_factor > config.low_frequency_factor))
        return bad("llama3 scaling needs high_frequency_factor above low", config.high_frequency_factor);
      constexpr double two_pi = 6.283185307179586476925286766559;
      for (double& f : out.per_position) {
        const double wavelength = two_pi / f;
        const double turns = config.original_context / wavelength;
        if (turns < config.low_frequency_factor) {
          f /= config.factor;
        } else if (turns <= config.high_frequency_factor) {
          const double smooth =
              (turns - config.low_frequency_factor) / (config.high_frequency_factor - config.low_frequency_factor);
          f = (1 - smooth) * f / config.factor + smooth * f;
        }
      }
      break;
    }
    case rope_scaling::yarn: {
      if (!(config.original_context > 0)) return bad("yarn scaling needs original_context", config.original_context);
      const double fast = detail::yarn_pair(config.beta_fast, dim, config.theta, config.original_context);
      const double slow = detail::yarn_pair(config.beta_slow, dim, config.theta, config.original_context);
      const double low = std::fmax(0, std::floor(fast));
      const double high = std::fmin(dim - 1, std::ceil(slow));
      for (std::size_t m = 0; m < pairs; ++m) {
        double ramp = (static_cast<double>(m) - low) / std::fmax(0.001, high - low);
        ramp = 1 - std::fmin(1, std::fmax(0, ramp));
        const double keep = ramp * config.extrapolation;  // 1: high frequency, untouched; 0: interpolated
        const double f = out.per_position[m];
        out.per_position[m] = f / config.factor * (1 - keep) + f * keep;
      }
      out.magnitude = config.attention_factor > 0 ? config.attention_factor : 0.1 * std::log(config.factor) + 1.0;
      break;
    }
  }
  for (std::size_t m = 0; m < config.frequency_divisors.size(); ++m) {
    if (!(config.frequency_divisors[m] > 0)) return bad("a frequency divisor must be positive", config.frequency_divisors[m]);
    out.per_position[m] /= config.frequency_divisors[m];
  }
  // A file's numbers may pass each check above and still overflow together; an infinite angle would be a NaN logit.
  for (const double f : out.per_position)
    if (!std::isfinite(f)) return bad("frequencies must be finite", f);
  if (!std::isfinite(out.magnitude)) return bad("the magnitude of yarn must be finite", out.magnitude);
  return out;
}

/// Floats of one turn table.
[[nodiscard]] inline std::size_t table_floats(const rope_frequencies& rope) noexcept { return rope.table_floats(); }

/// The table of a position, with the magnitude on both halves: what rotates a fresh query or key.
inline void scaled_table(const rope_frequencies& rope, std::int64_t position, float* out) noexcept {
  rope.cos_sin(position, out);
  const auto scale = [](float* from, float* to, double magnitude) {
    if (magnitude != 1.0)
      for (const auto m = static_cast<float>(magnitude); from != to; ++from) *from *= m;
  };
  scale(out, out + 2 * rope.pairs(), rope.magnitude);
  scale(out + 2 * rope.pairs(), out + table_floats(rope), rope.local_magnitude);
}

}  // namespace blockattn::inline v0
