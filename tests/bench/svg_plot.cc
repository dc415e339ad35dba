#include "bench/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace casement {
namespace {

// In pixels: the picture, and what is between its edges and the axes.
constexpr double kWidth = 860;
constexpr double kHeight = 480;
constexpr double kLeft = 80;
constexpr double kRight = 250;
constexpr double kTop = 64;
constexpr double kBottom = 56;
constexpr double kLegendLine = 20;

// Told apart by those who see no red or green, too (Okabe and Ito).
constexpr std::array<const char*, 8> kColours = {
    "#0072b2", "#e69f00", "#009e73", "#cc79a7",
    "#56b4e9", "#d55e00", "#000000", "#999999"};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

std::string Text(double x, double y, const std::string& text,
                 const std::string& attributes = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y,
                         attributes, Escape(text));
}

// From values to pixels.
class Axis {
 public:
  Axis(bool is_logarithmic, double from, double to)
      : is_logarithmic_(is_logarithmic), from_(from), to_(to) {}

  void Include(double value) {
    low_ = std::min(low_, Scaled(value));
    high_ = std::max(high_, Scaled(value));
  }
  // To whole powers of ten, or from 0.
  void Round() {
    low_ = is_logarithmic_ ? std::floor(low_) : 0;
    if (is_logarithmic_) high_ = std::ceil(high_);
    if (high_ <= low_) high_ = low_ + 1;
  }
  double At(double value) const {
    return from_ + (Scaled(value) - low_) / (high_ - low_) * (to_ - from_);
  }
  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    constexpr int kLinearTicks = 5;
    if (is_logarithmic_) {
      for (double power = low_; power <= high_; ++power) {
        ticks.push_back(std::pow(10, power));
      }
    } else {
      for (int i = 0; i <= kLinearTicks; ++i) {
        ticks.push_back(low_ + (high_ - low_) * i / kLinearTicks);
      }
    }
    return ticks;
  }

 private:
  double Scaled(double value) const {
    return is_logarithmic_ ? std::log10(value) : value;
  }

  const bool is_logarithmic_;
  const double from_;
  const double to_;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

std::string Grid(const SvgPlot& plot, const Axis& x, const Axis& y) {
  std::string svg = "<g stroke=\"#ddd\">\n";
  const double right = kWidth - kRight;
  const double bottom = kHeight - kBottom;
  const auto line = [&svg](double x1, double y1, double x2, double y2) {
    absl::StrAppendFormat(
        &svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x1,
        y1, x2, y2);
  };
  for (const double tick : x.Ticks()) {
    line(x.At(tick), kTop, x.At(tick), bottom);
  }
  for (const double tick : y.Ticks()) {
    line(kLeft, y.At(tick), right, y.At(tick));
  }
  svg += "</g>\n";
  for (const double tick : x.Ticks()) {
    svg += Text(x.At(tick), bottom + 18, absl::StrFormat("%g", tick),
                "text-anchor=\"middle\"");
  }
  for (const double tick : y.Ticks()) {
    svg += Text(kLeft - 8, y.At(tick) + 4, absl::StrFormat("%g", tick),
                "text-anchor=\"end\"");
  }
  svg += Text((kLeft + right) / 2, kHeight - 16, plot.x_axis,
              "text-anchor=\"middle\"");
  svg += Text(0, 0, plot.y_axis,
              absl::StrFormat("text-anchor=\"middle\" "
                              "transform=\"translate(20 %.1f) rotate(-90)\"",
                              (kTop + bottom) / 2));
  return svg;
}

std::string Line(const SvgLine& line, size_t number, const Axis& x,
                 const Axis& y) {
  const char* const colour = kColours[number % kColours.size()];
  std::string svg = absl::StrFormat(
      "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"",
      colour);
  for (const auto& [at_x, at_y] : line.points) {
    absl::StrAppendFormat(&svg, "%.1f,%.1f ", x.At(at_x), y.At(at_y));
  }
  svg += "\"/>\n";
  const double legend = kTop + 8 + kLegendLine * static_cast<double>(number);
  absl::StrAppendFormat(
      &svg,
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
      "stroke-width=\"2\"/>\n",
      kWidth - kRight + 16, legend, kWidth - kRight + 36, legend, colour);
  return svg + Text(kWidth - kRight + 42, legend + 4, line.name);
}

}  // namespace

std::string SvgOf(const SvgPlot& plot) {
  Axis x(/*is_logarithmic=*/true, kLeft, kWidth - kRight);
  Axis y(plot.y_is_logarithmic, kHeight - kBottom, kTop);
  for (const SvgLine& line : plot.lines) {
    for (const auto& [at_x, at_y] : line.points) {
      x.Include(at_x);
      y.Include(at_y);
    }
  }
  x.Round();
  y.Round();
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += Text(kLeft, 26, plot.title, "font-size=\"16\"");
  svg += Text(kLeft, 46, plot.note, "fill=\"#555\"");
  svg += Grid(plot, x, y);
  for (size_t i = 0; i < plot.lines.size(); ++i) {
    svg += Line(plot.lines[i], i, x, y);
  }
  return svg + "</svg>\n";
}

}  // namespace casement
