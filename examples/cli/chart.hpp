// SPDX-License-Identifier: MIT
/// Lines over two axes, as SVG text.
#pragma once

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

namespace cli {

struct chart_line {
  std::string name, color, dash;  // no dash: a solid line with a dot at each point
  std::vector<std::pair<double, double>> at;
};

/// Limits must differ, and be positive where scales are logarithmic. A line without points is left out.
struct chart {
  std::string title, x_label;
  bool logarithmic = false;  // both scales
  double x_low = 0, x_high = 1, y_low = 0, y_high = 1;
  std::vector<std::pair<double, std::string>> x_ticks, y_ticks;
  std::vector<chart_line> lines;
};

[[nodiscard]] inline std::string to_svg(const chart& c) {
  constexpr double width = 720, height = 480, left = 80, right = 150, top = 50, bottom = 60;
  const auto part = [&](double v, double low, double high) {
    return c.logarithmic ? std::log(v / low) / std::log(high / low) : (v - low) / (high - low);
  };
  const auto x = [&](double v) { return left + (width - left - right) * part(v, c.x_low, c.x_high); };
  const auto y = [&](double v) { return height - bottom - (height - top - bottom) * part(v, c.y_low, c.y_high); };
  const auto number = [](double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", v);
    return std::string(text);
  };
  const auto label = [&](double at_x, double at_y, const char* anchor, const std::string& text) {
    std::string safe;
    for (const char ch : text) safe += ch == '<' ? "&lt;" : ch == '&' ? "&amp;" : std::string(1, ch);
    return "<text x=\"" + number(at_x) + "\" y=\"" + number(at_y) + "\" text-anchor=\"" + anchor + "\">" + safe +
           "</text>\n";
  };
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"480\" font-family=\"sans-serif\" "
                    "font-size=\"12\">\n<rect width=\"720\" height=\"480\" fill=\"white\"/>\n";
  out += label(width / 2, 24, "middle", c.title);
  for (const auto& [v, text] : c.y_ticks) {
    out += "<path d=\"M" + number(left) + " " + number(y(v)) + "H" + number(width - right) + "\" stroke=\"#dddddd\"/>\n";
    out += label(left - 8, y(v) + 4, "end", text);
  }
  for (const auto& [v, text] : c.x_ticks) out += label(x(v), height - bottom + 20, "middle", text);
  out += label((left + width - right) / 2, height - 16, "middle", c.x_label);
  double legend = top + 12;
  for (const chart_line& l : c.lines) {
    if (l.at.empty()) continue;
    std::string path;
    for (const auto& [at_x, at_y] : l.at) path += (path.empty() ? "M" : "L") + number(x(at_x)) + " " + number(y(at_y));
    const std::string stroke = "\" fill=\"none\" stroke=\"" + l.color + "\" stroke-width=\"2\"" +
                               (l.dash.empty() ? "" : " stroke-dasharray=\"" + l.dash + "\"") + "/>\n";
    out += "<path d=\"" + path + stroke;
    if (l.dash.empty())
      for (const auto& [at_x, at_y] : l.at)
        out += "<circle cx=\"" + number(x(at_x)) + "\" cy=\"" + number(y(at_y)) + "\" r=\"3\" fill=\"" + l.color + "\"/>\n";
    out += "<path d=\"M" + number(width - right + 10) + " " + number(legend - 4) + "h24" + stroke;
    out += label(width - right + 40, legend, "start", l.name);
    legend += 20;
  }
  return out + "</svg>\n";
}

}  // namespace cli
