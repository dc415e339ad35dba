// Question: what do a build's actions pay for their directories, if each gets a
// fresh sandbox, one that an earlier action left (a stash), or a tree of links?
//
// The actions compile casement's own sources (g++ -fsyntax-only -MD), with all
// headers that the compiler may ask for as inputs: casement's and the system's.
// Each differs from the one before in its source file, and every fifth in one
// header too. Every way serves every action, in an order that changes.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bench/bench.h"
#include "bench/input_tree.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

constexpr int kActions = 60;
constexpr int kActionsPerHeader = 5;

struct Action {
  std::string source;  // From the tree's top.
  InputTree inputs;
  Digest root;
};

// The files that actions are made of: headers, and one source at a time.
class Project {
 public:
  // Without the system's headers it is small; the compiler then has its own.
  Project(const std::string& top, bool has_system_headers) : top_(top) {
    const fs::path repository = CASEMENT_SOURCE;
    for (const char* const part : {"src", "include", "tests"}) {
      Copy(repository / part, fs::path(top) / part);
    }
    if (has_system_headers) CopySystemHeaders();
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      const fs::path path = entry.path().lexically_relative(top);
      if (path.extension() != ".cc" || *path.begin() == "usr") continue;
      TakeSource(path);
    }
    std::sort(sources_.begin(), sources_.end());
  }

  // Makes the tree that of the `number`th action.
  std::string Become(int number) {
    if (!current_.empty()) fs::remove(fs::path(top_) / current_);
    current_ = sources_[static_cast<size_t>(number) % sources_.size()];
    fs::copy_file(fs::path(CASEMENT_SOURCE) / current_,
                  fs::path(top_) / current_);
    if (number % kActionsPerHeader == kActionsPerHeader - 1) {
      const fs::path header = fs::path(top_) / "src/base/status.h";
      const std::string bytes = ReadFile(header);
      fs::remove(header);  // Whoever has a link to it keeps what it was.
      WriteFile(header, absl::StrCat(bytes, "// Version ", number, ".\n"));
    }
    return current_;
  }

  // Compiles the source in one of the ways' directories.
  void Compile(const std::string& directory, const std::string& source) const {
    std::vector<std::string> words = {"env",
                                      "-C",
                                      directory,
                                      "g++",
                                      "-std=c++20",
                                      "-fsyntax-only",
                                      "-MD",
                                      "-MF",
                                      "out.d",
                                      "-Isrc",
                                      "-Iinclude",
                                      "-Itests",
                                      "-DCASEMENT_VERSION=\"\""};
    if (!system_headers_.empty()) words.push_back("-nostdinc");
    for (const std::string& path : system_headers_) {
      words.push_back("-isystem");
      words.push_back(path);
    }
    words.push_back(source);
    const ProgramResult result = RunProgram(words);
    if (result.exit_status == 0) return;
    std::fprintf(stderr, "%s", result.err.c_str());
    std::exit(1);
  }

 private:
  static void Copy(const fs::path& from, const fs::path& to) {
    fs::create_directories(to.parent_path());
    if (RunProgram({"cp", "-a", from, to}).exit_status != 0) std::exit(1);
  }

  // Where g++ looks by default, at the same paths below the tree's top.
  void CopySystemHeaders() {
    const ProgramResult said = RunProgram(
        {"env", "LC_ALL=C", "g++", "-E", "-v", "-x", "c++", "/dev/null"});
    bool listing = false;
    std::vector<std::pair<fs::path, fs::path>> found;
    for (absl::string_view line : absl::StrSplit(said.err, '\n')) {
      if (line.rfind("#include <", 0) == 0) {
        listing = true;
      } else if (line.rfind("End of search", 0) == 0) {
        listing = false;
      } else if (listing && fs::exists(std::string(line.substr(1)))) {
        const fs::path real = fs::canonical(std::string(line.substr(1)));
        const std::string path = real.relative_path();
        const fs::path to = fs::path(top_) / path;
        system_headers_.push_back(path);
        found.push_back({real, to});
      }
    }
    // /usr/include brings those below it: shorter paths first.
    std::sort(found.begin(), found.end());
    for (const auto& [from, to] : found) {
      if (!fs::exists(to)) Copy(from, to);
    }
  }

  // Takes a source out of the tree; keeps it if it needs nothing that the
  // build makes.
  void TakeSource(const fs::path& path) {
    fs::remove(fs::path(top_) / path);
    const std::string folder = path.parent_path();
    const bool plain = folder == "src/base" || folder == "src/model" ||
                       folder == "src/store" || folder == "src/vfs" ||
                       folder == "src/cli";
    if (plain && !NeedsBuild(path)) sources_.push_back(path);
  }

  // Whether a file includes, at whatever remove, what protoc makes.
  bool NeedsBuild(const fs::path& path) {
    const auto [known, is_new] = needs_build_.try_emplace(path, false);
    if (!is_new) return known->second;
    bool needs = false;
    std::ifstream file(fs::path(CASEMENT_SOURCE) / path);
    for (std::string line; std::getline(file, line);) {
      const std::vector<std::string> parts = absl::StrSplit(line, '"');
      if (parts.size() < 2 || parts[0] != "#include ") continue;
      needs |= absl::EndsWith(parts[1], ".pb.h");
      for (const char* const folder : {"src", "include", "tests"}) {
        needs |= NeedsBuild(fs::path(folder) / parts[1]);
      }
    }
    return known->second = needs;
  }

  const std::string top_;
  std::vector<std::string> system_headers_;
  std::vector<std::string> sources_;
  std::map<fs::path, bool> needs_build_;
  std::string current_;
};

// A way to give an action its directory.
class Way {
 public:
  explicit Way(std::string name) : name_(std::move(name)) {}
  virtual ~Way() = default;
  const std::string& name() const { return name_; }
  virtual std::string SetUp(const Action& action) = 0;
  virtual void TearDown() = 0;
  virtual RunningDaemon* daemon() { return nullptr; }

 private:
  const std::string name_;
};

class Sandboxes final : public Way {
 public:
  Sandboxes(std::string name, RunningDaemon& daemon, bool stash)
      : Way(std::move(name)), daemon_(daemon), stash_(stash) {}

  std::string SetUp(const Action& action) override {
    const CreatedSandbox made = Must(daemon_.client().Create(
        {.root = action.root}, nullptr, {.never_reuse = !stash_}));
    sandbox_ = made.info.name;
    return made.info.path;
  }
  void TearDown() override {
    if (!daemon_.client().Release(sandbox_, stash_).ok()) std::exit(1);
  }
  RunningDaemon* daemon() override { return &daemon_; }

 private:
  RunningDaemon& daemon_;
  const bool stash_;
  std::string sandbox_;
};

class Links final : public Way {
 public:
  using Make = void (*)(const InputTree&, const std::string&);
  Links(std::string name, Make make, std::string directory)
      : Way(std::move(name)), make_(make), directory_(std::move(directory)) {}

  std::string SetUp(const Action& action) override {
    make_(action.inputs, directory_);
    return directory_;
  }
  void TearDown() override { fs::remove_all(directory_); }

 private:
  const Make make_;
  const std::string directory_;
};

class StashedLinks final : public Way {
 public:
  StashedLinks(std::string name, std::string directory)
      : Way(std::move(name)), directory_(std::move(directory)) {}

  std::string SetUp(const Action& action) override {
    if (rename(stash().c_str(), directory_.c_str()) == 0) {
      FixSymlinkTree(action.inputs, directory_);
    } else {
      MakeSymlinkTree(action.inputs, directory_);
    }
    return directory_;
  }
  void TearDown() override {
    if (rename(directory_.c_str(), stash().c_str()) != 0) std::exit(1);
  }

 private:
  std::string stash() const { return directory_ + ".stash"; }
  const std::string directory_;
};

// The inputs themselves: nothing to set up.
class Plain final : public Way {
 public:
  Plain(std::string name, std::string directory)
      : Way(std::move(name)), directory_(std::move(directory)) {}
  std::string SetUp(const Action& /*action*/) override { return directory_; }
  void TearDown() override { fs::remove(directory_ + "/out.d"); }

 private:
  const std::string directory_;
};

using Requests = std::map<std::string, double>;

Requests RequestsTo(RunningDaemon& daemon) {
  Requests requests;
  for (const Metric& metric : Must(daemon.client().Stats()).metrics) {
    if (metric.name == "fuse_requests_total") {
      requests[metric.labels[0].second] = metric.value;
    } else if (metric.name == "fuse_notifications_total") {
      requests["notifications"] += metric.value;
    }
  }
  return requests;
}

struct Measured {
  std::unique_ptr<Way> way;
  std::vector<double> set_up;
  std::vector<double> run;
  std::vector<double> tear_down;
  std::vector<double> overhead;       // Set-up and tear-down of an action.
  std::vector<double> against_plain;  // Run times of the same action.
  std::map<std::string, std::vector<double>> requests;
  int64_t calls = -1;         // Of an action's set-up and tear-down,
  int64_t daemon_calls = -1;  // and of the daemon meanwhile.
};

void Serve(const Project& project, const Action& action, Measured& measured) {
  Way& way = *measured.way;
  RunningDaemon* const daemon = way.daemon();
  Requests before;
  if (daemon != nullptr) before = RequestsTo(*daemon);
  std::string directory;
  const double set_up = Seconds([&] { directory = way.SetUp(action); });
  const double run =
      Seconds([&] { project.Compile(directory, action.source); });
  const double tear_down = Seconds([&] { way.TearDown(); });
  measured.set_up.push_back(set_up);
  measured.run.push_back(run);
  measured.tear_down.push_back(tear_down);
  measured.overhead.push_back(set_up + tear_down);
  if (daemon == nullptr) return;
  for (const auto& [kind, count] : RequestsTo(*daemon)) {
    measured.requests[kind].push_back(count - before[kind]);
  }
}

// One action more, for its system calls alone.
void CountCalls(const Project& project, const Action& action,
                Measured& measured) {
  Way& way = *measured.way;
  const auto count = [&](pid_t pid) {
    const SystemCallCounter counter(pid);
    const std::string directory = way.SetUp(action);
    int64_t calls = counter.Read();
    project.Compile(directory, action.source);
    const SystemCallCounter again(pid);
    way.TearDown();
    return calls < 0 ? calls : calls + again.Read();
  };
  measured.calls = count(getpid());
  if (way.daemon() != nullptr) {
    measured.daemon_calls = count(way.daemon()->pid());
  }
}

std::string CountOf(int64_t calls) {
  return calls < 0 ? "-" : absl::StrCat(calls);
}

void Print(const std::vector<Measured>& all) {
  std::printf("  %-32s %9s %9s %9s   %-24s %6s %7s\n", "medians", "set-up",
              "run", "tear-down", "run, to plain directory's", "calls",
              "daemon's");
  const Measured* stashed = nullptr;
  const Measured* rival = nullptr;
  for (const Measured& one : all) {
    std::printf("  %-32s %6.2f ms %6.1f ms %6.2f ms   %-24s %6s %7s\n",
                one.way->name().c_str(), Median(one.set_up) * 1e3,
                Median(one.run) * 1e3, Median(one.tear_down) * 1e3,
                Spread(one.against_plain).c_str(), CountOf(one.calls).c_str(),
                CountOf(one.daemon_calls).c_str());
    const auto better = [&one](const Measured* best) {
      return best == nullptr || Median(one.overhead) < Median(best->overhead);
    };
    if (one.way->daemon() == nullptr) {
      if (&one != &all[0] && better(rival)) rival = &one;
    } else if (one.way->name().rfind("stash", 0) == 0 && better(stashed)) {
      stashed = &one;
    }
  }
  std::printf("  set-up and tear-down: %s %s s, %s %s s, ratio 1/%.3g\n",
              stashed->way->name().c_str(), Spread(stashed->overhead).c_str(),
              rival->way->name().c_str(), Spread(rival->overhead).c_str(),
              Median(rival->overhead) / Median(stashed->overhead));
  for (const Measured& one : all) {
    if (one.way->daemon() == nullptr) continue;
    std::printf("  FUSE requests an action, %s:", one.way->name().c_str());
    for (const auto& [kind, counts] : one.requests) {
      if (Median(counts) > 0) {
        std::printf(" %s %.0f", kind.c_str(), Median(counts));
      }
    }
    std::printf("\n");
  }
}

std::vector<Measured> AllWays(const std::string& folder,
                              const std::string& plain, RunningDaemon& daemon) {
  std::vector<std::unique_ptr<Way>> ways;
  ways.push_back(std::make_unique<Plain>("plain directory", plain));
  ways.push_back(std::make_unique<Sandboxes>("fresh sandboxes", daemon,
                                             /*stash=*/false));
  ways.push_back(std::make_unique<Sandboxes>("stashed sandboxes", daemon,
                                             /*stash=*/true));
  ways.push_back(std::make_unique<Links>("hard links", MakeHardLinkTree,
                                         folder + "/hard-links"));
  ways.push_back(std::make_unique<Links>("symlinks", MakeSymlinkTree,
                                         folder + "/symlinks"));
  ways.push_back(std::make_unique<StashedLinks>("symlinks, reused after a scan",
                                                folder + "/reused-symlinks"));
  std::vector<Measured> all(ways.size());
  for (size_t i = 0; i < ways.size(); ++i) all[i].way = std::move(ways[i]);
  return all;
}

int Main(const BenchOptions& options) {
  RunningDaemon daemon(options.daemon);
  const int actions = options.quick ? 1 : options.rounds;
  const std::string folder = daemon.folder();
  const std::string plain = folder + "/project";
  fs::create_directory(plain);
  Project project(plain, !options.quick);
  std::vector<Measured> all = AllWays(folder, plain, daemon);
  Action action;
  for (int i = 0; i <= actions; ++i) {
    action.source = project.Become(i);
    action.inputs = ScanTree(plain);
    action.root = Must(daemon.client().PutTree(plain, {})).root;
    if (i == actions) break;  // It is for counting.
    for (size_t k = 0; k < all.size(); ++k) {
      Serve(project, action, all[(k + static_cast<size_t>(i)) % all.size()]);
    }
    for (Measured& one : all) {
      one.against_plain.push_back(one.run.back() / all[0].run.back());
    }
  }
  if (!options.quick) {
    for (Measured& one : all) CountCalls(project, action, one);
  }
  PrintHeading(absl::StrFormat(
      "%d compiles, each with %d input files and one source: what their "
      "directories cost (%s)",
      actions, action.inputs.links.size(),
      daemon.Metric("fuse_passthrough") > 0 ? "passthrough" : "cached"));
  Print(all);
  return 0;
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main(
      casement::ParseBenchOptions(argc, argv, casement::kActions));
}
