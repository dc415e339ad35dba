#include "bench/key_plots.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/bench.h"
#include "bench/svg_plot.h"

namespace casement {
namespace {

std::string Note() {
  const Machine machine = ThisMachine();
  return absl::StrFormat("Linux %s, %d CPUs, %s, commit %s", machine.kernel,
                         machine.cpus, machine.file_system, machine.commit);
}

// How many of the calls were faster, in percent, by microseconds. The slowest
// thousandth is left out: it would take half of the axis.
SvgLine Distribution(const std::string& name, std::vector<double> seconds) {
  constexpr double kShown = 0.999;
  constexpr size_t kPointsMax = 500;
  std::sort(seconds.begin(), seconds.end());
  SvgLine line = {.name = name};
  const auto shown =
      static_cast<size_t>(static_cast<double>(seconds.size()) * kShown);
  const size_t step = std::max<size_t>(1, shown / kPointsMax);
  for (size_t i = 0; i < shown; i += step) {
    line.points.emplace_back(
        seconds[i] * 1e6,
        100.0 * static_cast<double>(i) / static_cast<double>(seconds.size()));
  }
  return line;
}

std::string FileNameOf(const std::string& call) {
  std::string name = "latency_";
  for (const char letter : call) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(letter))) {
      name += letter;
    } else if (name.back() != '_') {
      name += '_';
    }
  }
  return name + ".svg";
}

}  // namespace

KeyPlots::KeyPlots(std::string folder) : folder_(std::move(folder)) {
  std::error_code failed;
  std::filesystem::create_directories(folder_, failed);
  Require(std::filesystem::is_directory(folder_), folder_);
}

void KeyPlots::Measure(KeyInputs& inputs, int rounds) {
  const int calls = inputs.sizes().small_files;
  for (CallTimes& times : TimeCalls(inputs.NewSandbox(), calls)) {
    times_[times.call][inputs.mode()] = std::move(times.seconds);
  }
  inputs.Release();
  // Neither depends on the mode.
  if (!costs_.empty()) return;
  for (const KeyPlace& place : inputs.controls()) {
    for (CallTimes& times : TimeCalls(place.directory, calls)) {
      times_[times.call][place.name] = std::move(times.seconds);
    }
  }
  costs_ = CostsByTreeSize(inputs, rounds);
}

void KeyPlots::Write() const {
  SvgPlot costs = {.title = "What an action's directory costs, by its size",
                   .note = Note(),
                   .x_axis = "files in the tree",
                   .y_axis = "milliseconds to make it",
                   .y_is_logarithmic = true};
  for (const CreationCosts& one : costs_) {
    SvgLine line = {.name = one.way};
    for (const auto& [files, seconds] : one.seconds) {
      line.points.emplace_back(files, seconds * 1e3);
    }
    costs.lines.push_back(std::move(line));
  }
  WriteFile(folder_ + "/cost_by_tree_size.svg", SvgOf(costs));
  for (const auto& [call, by_name] : times_) {
    SvgPlot plot = {.title = absl::StrCat("How long it takes: ", call),
                    .note = Note(),
                    .x_axis = "microseconds",
                    .y_axis = "percent of calls that were faster"};
    for (const auto& [name, seconds] : by_name) {
      plot.lines.push_back(Distribution(name, seconds));
    }
    WriteFile(folder_ + "/" + FileNameOf(call), SvgOf(plot));
  }
}

}  // namespace casement
