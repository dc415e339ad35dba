#include "bench/lookup_keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "bench/bench.h"
#include "bench/file_keys.h"
#include "bench/input_tree.h"

namespace casement {
namespace {

// Each makes as many nodes as there are files.
constexpr int kLookupRoundsMax = 7;
// In which the daemon's upkeep gives memory back, at the latest.
constexpr unsigned kUpkeepSeconds = 3;

UniqueFd OpenPath(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  Require(fd.valid(), path);
  return fd;
}

double RequestsOf(KeyInputs& inputs, const std::string& kind) {
  return inputs.daemon().Metric("fuse_requests_total", kind);
}

// Microseconds that a LOOKUP takes its caller, over all files of "small" in a
// sandbox that the kernel has never seen.
double LookUpAll(KeyInputs& inputs) {
  const UniqueFd top = OpenPath(inputs.NewSandbox() + "/small");
  std::vector<std::string> names;
  for (int i = 0; i < inputs.sizes().small_files; ++i) {
    names.push_back(TreeFileName(i));
  }
  struct stat status {};
  const double before = RequestsOf(inputs, "lookup");
  const double seconds = Seconds([&] {
    for (const std::string& name : names) {
      Require(fstatat(top.get(), name.c_str(), &status, 0) == 0, name);
    }
  });
  // Each file's, and each directory's.
  const double lookups = RequestsOf(inputs, "lookup") - before;
  Require(lookups >= static_cast<double>(names.size()),
          "lookups: the kernel knew a name");
  return seconds * 1e6 / lookups;
}

// Microseconds of the smallest request that always is one: the attributes of
// the mount's root, with the kernel told not to answer by itself. The daemon
// finds one node and reads nothing, so that it costs what the transport does.
double AskForNothing(KeyInputs& inputs) {
  const UniqueFd root = OpenPath(inputs.daemon().mount());
  const int calls = inputs.sizes().small_files;
  struct statx status {};
  const double before = RequestsOf(inputs, "getattr");
  const double seconds = Seconds([&] {
    for (int i = 0; i < calls; ++i) {
      Require(statx(root.get(), "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC,
                    STATX_BASIC_STATS, &status) == 0,
              "statx");
    }
  });
  Require(RequestsOf(inputs, "getattr") - before >= calls,
          "getattr: the kernel answered");
  return seconds * 1e6 / calls;
}

}  // namespace

KeyResult MeasureLookup(KeyInputs& inputs, int rounds) {
  const auto took = TakeTurns(std::min(rounds, kLookupRoundsMax),
                              {[&inputs] { return LookUpAll(inputs); },
                               [&inputs] { return AskForNothing(inputs); }});
  inputs.Release();
  KeyResult result = RatioOf("lookup_cold_us", inputs.mode(), took);
  result.figures = {{"lookup_us", Median(took[0])},
                    {"null_request_us", Median(took[1])}};
  return result;
}

KeyResult MeasureNodeMemory(KeyInputs& inputs) {
  RunningDaemon& daemon = inputs.daemon();
  const size_t largest = inputs.sizes().known_files.size() - 1;
  const std::string sandbox = inputs.NewSandbox(inputs.known_root(largest));
  const double nodes_before = daemon.Metric("nodes");
  const int64_t before = MemoryBytes(daemon.pid());
  const int files = WalkTree(sandbox);
  Require(files == inputs.sizes().known_files[largest], "the walk's files");
  const double nodes = daemon.Metric("nodes") - nodes_before;
  const auto grown = [&] {
    return static_cast<double>(MemoryBytes(daemon.pid()) - before);
  };
  KeyResult result = {.key = "memory_per_node", .mode = inputs.mode()};
  result.values = {grown() / nodes};
  result.figures["nodes"] = nodes;
  inputs.Release();
  inputs.WaitUntilForgotten(nodes_before);
  sleep(kUpkeepSeconds);
  result.figures["nodes_after_forgetting"] =
      daemon.Metric("nodes") - nodes_before;
  result.figures["bytes_per_node_after_forgetting"] = grown() / nodes;
  return result;
}

}  // namespace casement
