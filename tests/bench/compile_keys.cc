#include "bench/compile_keys.h"

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "bench/bench.h"

namespace casement {
namespace {

// A compile takes seconds, and there are many of them.
constexpr int kColdRoundsMax = 5;
constexpr int kFewWarmRounds = 2;

// `subject` is the sandbox's way, next to those of the controls.
KeyResult Measure(KeyInputs& inputs, const char* name, int rounds,
                  std::function<double()> subject,
                  const std::function<double(const std::string&)>& control) {
  std::vector<std::function<double()>> ways = {std::move(subject)};
  std::vector<std::string> others;
  for (const KeyPlace& place : inputs.controls()) {
    if (place.is_links && inputs.sizes().few_slow_rounds) continue;
    ways.push_back([&] { return control(place.directory); });
    if (ways.size() > 2) others.push_back(place.name);
  }
  return RatioOf(name, inputs.mode(), TakeTurns(rounds, ways), others);
}

}  // namespace

std::vector<KeyResult> MeasureCompileKeys(KeyInputs& inputs, int rounds) {
  const bool few = inputs.sizes().few_slow_rounds;
  const auto warm = [&](const std::string& directory) {
    return inputs.toolchain().Compile(directory);
  };
  const auto cold = [&](const std::string& directory) {
    DropAllCaches();
    return inputs.toolchain().Compile(directory);
  };
  std::string sandbox;
  std::vector<KeyResult> results;
  results.push_back(Measure(
      inputs, "compile_cold", few ? 1 : std::min(rounds, kColdRoundsMax),
      [&] {
        sandbox = inputs.NewSandbox();
        return cold(sandbox);
      },
      cold));
  // Each dropped what the others had read.
  if (!few) {
    warm(sandbox);
    for (const KeyPlace& place : inputs.controls()) warm(place.directory);
  }
  results.push_back(Measure(
      inputs, "compile_warm", few ? kFewWarmRounds : rounds,
      [&] { return warm(sandbox); }, warm));
  inputs.Release();
  return results;
}

}  // namespace casement
