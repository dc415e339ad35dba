// Question: how far from a plain directory is each thing that a build does
// most, in every mode that this kernel has; and what else do issue 6's targets
// speak of?
//
//   keys_bench [--quick] [--rounds N] [--json] [--plot DIR] [--other DIR]
//
//   --json       for programs: key_report.h has its form
//   --plot DIR   also SVG files: costs by tree size, and latency distributions
//   --other DIR  the same in another file system, mounted there
//
// A key is measured in a sandbox and in its controls in turn, beginning with
// another one each round. Its value is the median of the rounds' ratios; of
// times below 1, and of throughputs above 1, is where the sandbox is faster.
// With --quick there are fewer rounds on smaller inputs, as it prints.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "bench/compile_keys.h"
#include "bench/creation_keys.h"
#include "bench/file_keys.h"
#include "bench/key.h"
#include "bench/key_inputs.h"
#include "bench/key_plots.h"
#include "bench/key_report.h"
#include "bench/lookup_keys.h"
#include "bench/sharing_keys.h"

namespace casement {
namespace {

struct Wishes {
  bool json = false;
  std::string plot;
  std::string other;
};

KeySizes SizesFor(bool quick) {
  KeySizes sizes = {.walk_files = 50000,
                    .small_files = 10000,
                    .calls = 20000,
                    .big_bytes = int64_t{1} << 30,
                    .known_files = {100, 1000, 10000, 100000},
                    .exec_views = 1000,
                    .source = "src/base/arguments.cc"};
  if (!quick) return sizes;
  constexpr int kSmaller = 10;
  sizes.walk_files /= kSmaller;
  sizes.small_files /= kSmaller;
  sizes.calls /= kSmaller;
  sizes.big_bytes = int64_t{64} << 20;
  sizes.known_files = {100, 1000, 10000, 20000};
  sizes.source = "src/base/mount_info.cc";
  sizes.few_slow_rounds = true;
  return sizes;
}

// For whoever waits; what it took too, so that it can be seen what to shorten.
std::vector<KeyResult> Watched(
    const KeyInputs& inputs, const char* what,
    const std::function<std::vector<KeyResult>()>& measure) {
  const bool is_watched = isatty(STDERR_FILENO) == 1;
  if (is_watched) {
    std::fprintf(stderr, "%s: %s...", inputs.mode().c_str(), what);
  }
  std::vector<KeyResult> results;
  const double seconds = Seconds([&] { results = measure(); });
  if (is_watched) std::fprintf(stderr, " %.1f s\n", seconds);
  return results;
}

void MeasureMode(KeyInputs& inputs, int rounds,
                 std::vector<KeyResult>& results) {
  const auto add = [&](const char* what,
                       const std::function<std::vector<KeyResult>()>& measure) {
    for (KeyResult& one : Watched(inputs, what, measure)) {
      results.push_back(std::move(one));
    }
  };
  using Results = std::vector<KeyResult>;
  // First, while the daemon's memory is all in use.
  add("memory", [&] { return Results{MeasureNodeMemory(inputs)}; });
  add("lookups", [&] { return Results{MeasureLookup(inputs, rounds)}; });
  add("files", [&] { return MeasureFileKeys(inputs, rounds); });
  add("creation", [&] { return MeasureCreationKeys(inputs, rounds); });
  add("collecting", [&] { return MeasureCollect(inputs, rounds); });
  add("page cache", [&] { return Results{MeasurePageCache(inputs)}; });
  add("exec views", [&] { return Results{MeasureExecViews(inputs)}; });
  add("compiles", [&] { return MeasureCompileKeys(inputs, rounds); });
}

int Main(const BenchOptions& options, const Wishes& wishes) {
  KeyReport report = {.quick = options.quick,
                      .rounds = options.rounds,
                      .sizes = SizesFor(options.quick),
                      .other = wishes.other};
  KeyInputs inputs(report.sizes, wishes.other);
  std::unique_ptr<KeyPlots> plots;
  if (!wishes.plot.empty()) plots = std::make_unique<KeyPlots>(wishes.plot);
  for (const KeyMode& mode :
       {KeyMode{"passthrough", "dev"}, KeyMode{"passthrough", "io_uring"},
        KeyMode{"cached", "dev"}, KeyMode{"cached", "io_uring"}}) {
    if (!inputs.Enter(mode)) continue;
    report.modes.push_back(inputs.mode());
    MeasureMode(inputs, options.rounds, report.results);
    if (plots != nullptr) plots->Measure(inputs, options.rounds);
  }
  wishes.json ? PrintJson(report) : PrintTable(report);
  if (plots != nullptr) plots->Write();
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  casement::Wishes wishes;
  std::vector<char*> others;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      wishes.json = true;
    } else if (word == "--plot" && i + 1 < argc) {
      wishes.plot = argv[++i];
    } else if (word == "--other" && i + 1 < argc) {
      wishes.other = argv[++i];
    } else {
      others.push_back(argv[i]);
    }
  }
  return casement::Main(
      casement::ParseBenchOptions(static_cast<int>(others.size()),
                                  others.data(), /*rounds=*/11,
                                  /*quick_rounds=*/3),
      wishes);
}
