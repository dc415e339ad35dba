// Question: does reusing a sandbox cost what differs, not what is there? A tree
// of 50,000 files in which 10 changed, against one of 500 in which 10 did. And
// what do 100 stashes of one 15,000-file tree, in each of which 500 files were
// touched, take of the daemon's memory?
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/bench.h"
#include "bench/input_tree.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int kChanges = 10;
constexpr int kSmallFiles = 500;

// A tree that changes from action to action, always served by the same stash.
class ChangingTree {
 public:
  ChangingTree(RunningDaemon& daemon, std::string name, int files)
      : daemon_(daemon),
        source_(absl::StrCat(daemon.folder(), "/", name)),
        files_(files) {
    MakeTree(source_, files);
    const CreatedSandbox made = Create();
    // From here on the kernel knows every name.
    if (RunProgram({"find", made.info.path, "-size", "+1000000c"})
            .exit_status != 0) {
      std::exit(1);
    }
    Stash(made);
  }

  // One action more; seconds that its client waited for its sandbox.
  double ServeOne() {
    ++version_;
    for (int i = 0; i < kChanges; ++i) {
      WriteFile(absl::StrCat(source_, "/", Changed(i)),
                absl::StrFormat("%-100d", version_));
    }
    root_ = Must(daemon_.client().PutTree(source_, {})).root;
    CreatedSandbox made;
    const double seconds = Seconds([&] { made = Create(); });
    if (!made.reused.has_value()) {
      std::fprintf(stderr, "no stash served %s\n", source_.c_str());
      std::exit(1);
    }
    reused_ = *made.reused;
    daemon_seconds_.push_back(absl::ToDoubleSeconds(reused_.time));
    for (int i = 0; i < kChanges; ++i) {
      const std::string path = absl::StrCat(made.info.path, "/", Changed(i));
      if (std::atoi(ReadFile(path).c_str()) != version_) std::exit(1);
    }
    Stash(made);
    return seconds;
  }

  const std::vector<double>& daemon_seconds() const { return daemon_seconds_; }
  void PrintLatest(const char* name) const {
    std::printf(
        "    %s: %lld notifications, %lld directories compared, %lld skipped\n",
        name, static_cast<long long>(reused_.notifications),   // NOLINT
        static_cast<long long>(reused_.directories_visited),   // NOLINT
        static_cast<long long>(reused_.directories_skipped));  // NOLINT
  }

 private:
  // Two in a directory: a stash is found by a Directory that did not change.
  std::string Changed(int i) const {
    return TreeFileName(i / 2 * (files_ / (kChanges / 2)) + i % 2);
  }
  CreatedSandbox Create() {
    if (version_ == 0) root_ = Must(daemon_.client().PutTree(source_, {})).root;
    return Must(daemon_.client().Create({.root = root_}));
  }
  void Stash(const CreatedSandbox& made) {
    if (!daemon_.client().Release(made.info.name, /*stash=*/true).ok()) {
      std::exit(1);
    }
  }

  RunningDaemon& daemon_;
  const std::string source_;
  const int files_;
  int version_ = 0;
  Digest root_;
  ReusedSandbox reused_;
  std::vector<double> daemon_seconds_;
};

void MeasureTime(const BenchOptions& options) {
  const int files = options.quick ? 1000 : 50000;
  RunningDaemon daemon(options.daemon);
  ChangingTree big(daemon, "big", files);
  ChangingTree small(daemon, "small", kSmallFiles);
  const Series series = Alternate(
      options.rounds, [&] { return big.ServeOne(); },
      [&] { return small.ServeOne(); });
  std::printf("  %d changes in %d files, in %d files, ratio\n", kChanges, files,
              kSmallFiles);
  std::printf("    create, to its client: %s s, %s s, %.3g\n",
              Spread(series.subject).c_str(), Spread(series.control).c_str(),
              Median(series.subject) / Median(series.control));
  std::printf("    choose and retarget:   %s s, %s s, %.3g\n",
              Spread(big.daemon_seconds()).c_str(),
              Spread(small.daemon_seconds()).c_str(),
              Median(big.daemon_seconds()) / Median(small.daemon_seconds()));
  big.PrintLatest("big");
  small.PrintLatest("small");
}

// Reads nine of ten files that an action touches, and writes to the tenth.
void Touch(const std::string& sandbox, int files, int touched) {
  for (int i = 0; i < touched; ++i) {
    const std::string path =
        absl::StrCat(sandbox, "/", TreeFileName(i * (files / touched)));
    if (i % 10 == 9) {
      WriteFile(path, "written");
    } else if (ReadFile(path).size() != 100) {
      std::exit(1);
    }
  }
}

void MeasureMemory(const BenchOptions& options) {
  const int stashes = options.quick ? 10 : 100;
  const int files = options.quick ? 1500 : 15000;
  const int touched = options.quick ? 50 : 500;
  RunningDaemon daemon(options.daemon);
  const std::string source = daemon.folder() + "/source";
  MakeTree(source, files);
  const Digest root = Must(daemon.client().PutTree(source, {})).root;
  std::vector<std::string> names;
  int64_t before = 0;
  for (int i = -1; i < stashes; ++i) {
    const CreatedSandbox made = Must(
        daemon.client().Create({.root = root}, nullptr, {.never_reuse = true}));
    Touch(made.info.path, files, touched);
    if (i >= 0) {
      names.push_back(made.info.name);
      continue;
    }
    // What the tree itself takes, and a first sandbox, does not count.
    if (!daemon.client().Release(made.info.name).ok()) std::exit(1);
    before = MemoryBytes(daemon.pid());
  }
  const int64_t live = MemoryBytes(daemon.pid()) - before;
  for (const std::string& name : names) {
    if (!daemon.client().Release(name, /*stash=*/true).ok()) std::exit(1);
  }
  const double grown = static_cast<double>(MemoryBytes(daemon.pid()) - before);
  const double nodes = daemon.Metric("stash_nodes");
  if (daemon.Metric("stashes") != stashes) std::exit(1);
  std::printf(
      "  %d stashes of one tree of %d files, %d touched in each: %.4g MB (%.4g "
      "MB before they were released), %.0f nodes, %.4g bytes a node\n",
      stashes, files, touched, grown / 1e6, static_cast<double>(live) / 1e6,
      nodes, grown / nodes);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  const casement::BenchOptions options =
      casement::ParseBenchOptions(argc, argv);
  casement::PrintHeading("Reuse costs what differs, not what is there");
  casement::MeasureTime(options);
  casement::MeasureMemory(options);
  return 0;
}
