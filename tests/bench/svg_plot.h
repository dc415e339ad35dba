// Lines over two axes, as an SVG file that any browser shows.
#ifndef CASEMENT_TESTS_BENCH_SVG_PLOT_H_
#define CASEMENT_TESTS_BENCH_SVG_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace casement {

struct SvgLine {
  std::string name;
  std::vector<std::pair<double, double>> points;  // By x.
};

struct SvgPlot {
  std::string title;
  std::string note;  // Below the title: where it was measured.
  std::string x_axis;
  std::string y_axis;
  bool y_is_logarithmic = false;  // x always is.
  std::vector<SvgLine> lines;     // Values on logarithmic axes: above 0.
};

// The whole file.
std::string SvgOf(const SvgPlot& plot);

}  // namespace casement

#endif  // CASEMENT_TESTS_BENCH_SVG_PLOT_H_
