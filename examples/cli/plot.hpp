// SPDX-License-Identifier: MIT
/// The drawings of `bench` and `finetune`: time to first token against context, both in logarithmic scales; accuracy against
/// steps of training.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "chart.hpp"

namespace cli {

/// What was measured at one context. Zero: not measured.
struct plot_point {
  double tokens = 0, full_ms = 0, cold_ms = 0, warm_ms = 0;
};

/// The paper's table 3, measured on a GPU: its full and block times by context.
struct paper_time {
  double tokens, full_ms, block_ms;
};
inline constexpr paper_time paper_times[] = {{512, 50, 26},   {1024, 87, 26},  {2048, 167, 26},   {4096, 330, 26},
                                             {8192, 691, 27}, {16384, 1515, 29}, {32768, 3638, 45}};

/// The lines full, cold and warm, and the paper's block curve as a share of its full one, drawn from our full times:
/// where that share would lie on this machine. Points must ascend in context.
[[nodiscard]] inline std::string ttft_svg(const std::string& title, const std::vector<plot_point>& points) {
  std::vector<chart_line> lines = {{"full attention", "#555555", "", {}},
                             {"blocks, cold", "#c0504d", "", {}},
                             {"blocks, warm", "#1f77b4", "", {}},
                             {"the paper's ratio", "#1f77b4", "4 4", {}}};
  double x_low = 1e30, x_high = 0, y_low = 1e30, y_high = 0;
  const auto add = [&](chart_line& to, double tokens, double ms) {
    if (!(ms > 0)) return;
    to.at.emplace_back(tokens, ms);
    x_low = std::min(x_low, tokens), x_high = std::max(x_high, tokens);
    y_low = std::min(y_low, ms), y_high = std::max(y_high, ms);
  };
  for (const plot_point& p : points) {
    add(lines[0], p.tokens, p.full_ms);
    add(lines[1], p.tokens, p.cold_ms);
    add(lines[2], p.tokens, p.warm_ms);
    // Between two contexts of the table, the ratio is interpolated in the logarithm.
    for (std::size_t i = 0; i + 1 < std::size(paper_times); ++i) {
      const paper_time &a = paper_times[i], &b = paper_times[i + 1];
      if (p.tokens < a.tokens || p.tokens > b.tokens) continue;
      const double part = std::log(p.tokens / a.tokens) / std::log(b.tokens / a.tokens);
      const double from = std::log(a.block_ms / a.full_ms), to = std::log(b.block_ms / b.full_ms);
      add(lines[3], p.tokens, p.full_ms * std::exp(from + part * (to - from)));
      break;
    }
  }
  if (x_high <= x_low) x_low /= 2, x_high *= 2;
  y_low = std::pow(10, std::floor(std::log10(std::max(y_low, 1e-6))));
  y_high = std::pow(10, std::ceil(std::log10(std::max(y_high, y_low * 10))));
  chart out{title, "tokens of cached passages", true, x_low, x_high, y_low, y_high, {}, {}, std::move(lines)};
  for (double v = y_low; v <= y_high * 1.01; v *= 10) {
    char text[32];
    std::snprintf(text, sizeof text, v < 1000 ? "%g ms" : "%g s", v < 1000 ? v : v / 1000);
    out.y_ticks.emplace_back(v, text);
  }
  for (const plot_point& p : points) {
    char text[32];
    std::snprintf(text, sizeof text, "%.0f", p.tokens);
    out.x_ticks.emplace_back(p.tokens, text);
  }
  return to_svg(out);
}

/// Accuracy in both modes after a number of steps.
struct accuracy_point {
  double step = 0, full = 0, block = 0;
};

/// How accuracy in both modes grows with training: the paper's figure 4, on other data. Points must ascend in steps.
[[nodiscard]] inline std::string accuracy_svg(const std::string& title, const std::vector<accuracy_point>& points) {
  chart out{title, "steps", false, 0, 1, 0, 1, {}, {}, {{"full attention", "#555555", "", {}}, {"blocks", "#1f77b4", "", {}}}};
  for (const accuracy_point& p : points) {
    out.lines[0].at.emplace_back(p.step, p.full);
    out.lines[1].at.emplace_back(p.step, p.block);
    out.x_high = std::max(out.x_high, p.step);
  }
  for (int percent = 0; percent <= 100; percent += 20) out.y_ticks.emplace_back(percent / 100.0, std::to_string(percent) + " %");
  for (int i = 0; i <= 4; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%.0f", out.x_high * i / 4);
    out.x_ticks.emplace_back(out.x_high * i / 4, text);
  }
  return to_svg(out);
}

}  // namespace cli
