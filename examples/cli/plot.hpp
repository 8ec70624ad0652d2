// SPDX-License-Identifier: MIT
/// A drawing of time to first token against context, both in logarithmic scales, as SVG text.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

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
  constexpr double width = 720, height = 480, left = 80, right = 150, top = 50, bottom = 60;
  struct line {
    std::string name, color, dash;
    std::vector<std::pair<double, double>> at;
  };
  std::vector<line> lines = {{"full attention", "#555555", "", {}},
                             {"blocks, cold", "#c0504d", "", {}},
                             {"blocks, warm", "#1f77b4", "", {}},
                             {"the paper's ratio", "#1f77b4", "4 4", {}}};
  double x_low = 1e30, x_high = 0, y_low = 1e30, y_high = 0;
  const auto add = [&](line& to, double tokens, double ms) {
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
  const auto x = [&](double v) {
    return left + (width - left - right) * std::log(v / x_low) / std::log(x_high / x_low);
  };
  const auto y = [&](double v) {
    return height - bottom - (height - top - bottom) * std::log(v / y_low) / std::log(y_high / y_low);
  };
  const auto number = [](double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", v);
    return std::string(text);
  };
  const auto label = [&](double at_x, double at_y, const char* anchor, const std::string& text) {
    return "<text x=\"" + number(at_x) + "\" y=\"" + number(at_y) + "\" text-anchor=\"" + anchor + "\">" + text +
           "</text>\n";
  };
  std::string safe;
  for (const char c : title) safe += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"480\" font-family=\"sans-serif\" "
                    "font-size=\"12\">\n<rect width=\"720\" height=\"480\" fill=\"white\"/>\n";
  out += label(width / 2, 24, "middle", safe);
  for (double v = y_low; v <= y_high * 1.01; v *= 10) {
    out += "<path d=\"M" + number(left) + " " + number(y(v)) + "H" + number(width - right) + "\" stroke=\"#dddddd\"/>\n";
    char text[32];
    std::snprintf(text, sizeof text, v < 1000 ? "%g ms" : "%g s", v < 1000 ? v : v / 1000);
    out += label(left - 8, y(v) + 4, "end", text);
  }
  for (const plot_point& p : points) {
    char text[32];
    std::snprintf(text, sizeof text, "%.0f", p.tokens);
    out += label(x(p.tokens), height - bottom + 20, "middle", text);
  }
  out += label((left + width - right) / 2, height - 16, "middle", "tokens of cached passages");
  double legend = top + 12;
  for (const line& l : lines) {
    if (l.at.empty()) continue;
    std::string path;
    for (const auto& [tokens, ms] : l.at) path += (path.empty() ? "M" : "L") + number(x(tokens)) + " " + number(y(ms));
    const std::string stroke = "\" fill=\"none\" stroke=\"" + l.color + "\" stroke-width=\"2\"" +
                               (l.dash.empty() ? "" : " stroke-dasharray=\"" + l.dash + "\"") + "/>\n";
    out += "<path d=\"" + path + stroke;
    if (l.dash.empty())
      for (const auto& [tokens, ms] : l.at)
        out += "<circle cx=\"" + number(x(tokens)) + "\" cy=\"" + number(y(ms)) + "\" r=\"3\" fill=\"" + l.color + "\"/>\n";
    out += "<path d=\"M" + number(width - right + 10) + " " + number(legend - 4) + "h24" + stroke;
    out += label(width - right + 40, legend, "start", l.name);
    legend += 20;
  }
  return out + "</svg>\n";
}

}  // namespace cli
