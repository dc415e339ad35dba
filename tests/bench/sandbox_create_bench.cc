// Question: what does it cost to make a sandbox over a known tree of 50,000
// files, against a tree of hard links to the same files (cp -al)?
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/str_format.h"
#include "bench/bench.h"
#include "bench/input_tree.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

// Makes and releases one sandbox; seconds of the making, as its client saw it.
double CreateOnce(RunningDaemon& daemon, const Digest& root) {
  CreatedSandbox made;
  const double seconds =
      Seconds([&] { made = Must(daemon.client().Create({.root = root})); });
  if (!fs::exists(made.info.path + "/d0000/f00.h")) std::exit(1);
  if (!daemon.client().Release(made.info.name).ok()) std::exit(1);
  return seconds;
}

double CopyLinks(const std::string& from, const std::string& to) {
  const double seconds = Seconds([&] {
    if (RunProgram({"cp", "-al", from, to}).exit_status != 0) std::exit(1);
  });
  fs::remove_all(to);
  return seconds;
}

int Main(const BenchOptions& options) {
  const int files = options.quick ? 500 : 50000;
  PrintHeading(absl::StrFormat(
      "A sandbox over a known tree of %d files, against cp -al of it", files));
  RunningDaemon daemon;
  const std::string tree = daemon.folder() + "/tree";
  const std::string small = daemon.folder() + "/small";
  MakeTree(tree, files);
  MakeTree(small, 100);
  const Digest root = Must(daemon.client().PutTree(tree, {})).root;
  const Digest small_root = Must(daemon.client().PutTree(small, {})).root;
  const double first = CreateOnce(daemon, root);  // From here on it is known.
  CreateOnce(daemon, small_root);
  const Series against_links = Alternate(
      options.rounds, [&] { return CreateOnce(daemon, root); },
      [&] { return CopyLinks(tree, daemon.folder() + "/links"); });
  const Series against_small = Alternate(
      10 * options.rounds, [&] { return CreateOnce(daemon, root); },
      [&] { return CreateOnce(daemon, small_root); });
  std::printf("  the first sandbox over it   %.4g s\n", first);
  std::printf("  a sandbox                   %s s\n",
              Spread(against_links.subject).c_str());
  std::printf("  cp -al                      %s s\n",
              Spread(against_links.control).c_str());
  std::printf("  ratio                       1/%.0f\n",
              Median(against_links.control) / Median(against_links.subject));
  std::printf("  a sandbox over 100 files    %s s, ratio %.3g\n",
              Spread(against_small.control).c_str(),
              Median(against_small.subject) / Median(against_small.control));
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main(casement::ParseBenchOptions(argc, argv));
}
