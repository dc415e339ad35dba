#include "bench/creation_keys.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "bench/bench.h"
#include "bench/input_tree.h"

namespace casement {
namespace {

// A tree of links is a thousand times slower to make than a sandbox.
constexpr int kSandboxesPerTree = 10;
constexpr int kTreesMax = 5;

// Of the known trees.
constexpr size_t kOf100 = 0;
constexpr size_t kOf10k = 2;
constexpr size_t kOf100k = 3;

// One sandbox, as its client saw it; and its release, which is not measured.
double CreateOnce(KeyInputs& inputs, size_t tree) {
  std::string path;
  const double seconds =
      Seconds([&] { path = inputs.NewSandbox(inputs.known_root(tree)); });
  Require(std::filesystem::exists(path + "/" + TreeFileName(0)), path);
  inputs.Release();
  return seconds;
}

using MakeLinks = void (*)(const InputTree&, const std::string&);

struct LinkWay {
  const char* name;
  MakeLinks make;
};

constexpr LinkWay kLinkWays[] = {{"hard links", MakeHardLinkTree},
                                 {"symlinks", MakeSymlinkTree},
                                 {"full copy", MakeCopy}};

double MakeOnce(KeyInputs& inputs, const InputTree& tree, MakeLinks make) {
  const std::string to = inputs.daemon().folder() + "/made";
  const double seconds = Seconds([&] { make(tree, to); });
  std::filesystem::remove_all(to);
  return seconds;
}

// A sandbox over a known tree, and a tree of links of each kind, or hard links
// alone; seconds.
std::vector<std::vector<double>> AgainstLinks(KeyInputs& inputs, size_t tree,
                                              int rounds, bool all_kinds) {
  const InputTree scanned = ScanTree(inputs.known_directory(tree));
  std::vector<std::function<double()>> ways = {
      [&inputs, tree] { return CreateOnce(inputs, tree); }};
  for (const LinkWay& way : kLinkWays) {
    ways.push_back([&inputs, &scanned, &way] {
      return MakeOnce(inputs, scanned, way.make);
    });
    if (!all_kinds) break;
  }
  // From here on it is known.
  CreateOnce(inputs, tree);
  return TakeTurns(
      inputs.sizes().few_slow_rounds ? 1 : std::min(rounds, kTreesMax), ways);
}

}  // namespace

std::vector<KeyResult> MeasureCreationKeys(KeyInputs& inputs, int rounds) {
  std::vector<KeyResult> results;
  CreateOnce(inputs, kOf100k);
  CreateOnce(inputs, kOf100);
  const auto took =
      TakeTurns(rounds * kSandboxesPerTree,
                {[&inputs] { return CreateOnce(inputs, kOf100k); },
                 [&inputs] { return CreateOnce(inputs, kOf100); }});
  results.push_back(RatioOf("sandbox_create_100k", inputs.mode(), took));
  KeyResult small = {.key = "sandbox_create_100", .mode = inputs.mode()};
  for (const double seconds : took[1]) small.values.push_back(seconds * 1e3);
  results.push_back(std::move(small));
  std::vector<std::string> others;
  if (inputs.has_links()) others = {kLinkWays[1].name, kLinkWays[2].name};
  results.push_back(RatioOf(
      "sandbox_create_10k", inputs.mode(),
      AgainstLinks(inputs, kOf10k, rounds, inputs.has_links()), others));
  return results;
}

std::vector<CreationCosts> CostsByTreeSize(KeyInputs& inputs, int rounds) {
  std::vector<CreationCosts> costs = {{"a sandbox over a known tree", {}}};
  for (const LinkWay& way : kLinkWays) costs.push_back({way.name, {}});
  const std::vector<int>& files = inputs.sizes().known_files;
  for (size_t tree = 0; tree < files.size(); ++tree) {
    const auto took = AgainstLinks(inputs, tree, rounds, /*all_kinds=*/true);
    for (size_t way = 0; way < took.size(); ++way) {
      costs[way].seconds.emplace_back(files[tree], Median(took[way]));
    }
  }
  return costs;
}

}  // namespace casement
