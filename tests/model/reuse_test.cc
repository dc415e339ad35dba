// G19: a sandbox on a reused stash cannot be told from a fresh one, whatever
// the action before did, and whatever it is to show now.
//
//   reuse_test [--first-seed=N] [--rounds=N]
//
// Each round makes random calls in a sandbox, keeps it, changes the tree, and
// compares what the next sandbox shows with what a fresh one shows, with all
// that the kernel remembers. Others work meanwhile.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "model/posix_call.h"
#include "model/posix_player.h"
#include "mount/data_paths.h"
#include "support/number_flags.h"
#include "support/running_daemon.h"

namespace casement {
namespace {

namespace fs = std::filesystem;

struct Flags {
  uint64_t first_seed = 1;
  int rounds = 60;
} flags;

// Not found, too, where symlinks go round in circles.
fs::file_status StatusOf(const std::string& path) {
  std::error_code error;
  return fs::symlink_status(path, error);
}

// A local tree that changes at random, by few names so that they meet.
class RandomTree {
 public:
  RandomTree(std::string folder, uint64_t seed)
      : folder_(std::move(folder)), random_(seed) {
    for (const char* const directory : {"d/s", "e", "n/m", "deep/a/b/c"}) {
      fs::create_directories(folder_ + "/" + directory);
    }
    for (int i = 0; i < 30; ++i) Change();
  }

  void Change() {
    const std::string path = folder_ + "/" + Path();
    const bool is_directory = fs::is_directory(StatusOf(path));
    switch (random_() % 8) {
      case 0:
        fs::remove_all(path);
        return;
      case 1:
        if (!fs::exists(StatusOf(path))) fs::create_directory(path);
        return;
      case 2:
        fs::remove_all(path);
        fs::create_symlink(random_() % 2 == 0 ? "a" : "../b", path);
        return;
      case 3:
        if (fs::is_regular_file(StatusOf(path))) {
          fs::permissions(path, fs::perms(random_() % 2 == 0 ? 0755 : 0644));
        }
        return;
      case 4: {  // From elsewhere: the same Directory at two places.
        const std::string from = folder_ + "/" + Path();
        if (!fs::is_directory(StatusOf(from)) || from == path ||
            path.compare(0, from.size(), from) == 0) {
          return;
        }
        fs::remove_all(path);
        if (fs::exists(StatusOf(from))) {
          fs::copy(
              from, path,
              fs::copy_options::recursive | fs::copy_options::copy_symlinks);
        }
        return;
      }
      default:
        if (is_directory) fs::remove_all(path);
        if (fs::is_symlink(StatusOf(path))) fs::remove(path);
        WriteFile(path, std::string(random_() % 9000, 'a' + random_() % 4));
    }
  }

  uint64_t Random() { return random_(); }

 private:
  std::string Path() {
    static const char* const kDirectories[] = {
        "", "", "d/", "d/s/", "e/", "n/", "n/m/", "deep/", "deep/a/b/c/"};
    static const char* const kNames[] = {"a", "b", "tool", "link", "x",
                                         "y", "z", "d",    "e",    "n",
                                         "m", "s", "big",  "none", "deep"};
    while (true) {
      const std::string directory = kDirectories[random_() % 9];
      const std::string path = folder_ + "/" + directory;
      if (!fs::is_directory(StatusOf(path.substr(0, path.size() - 1)))) {
        continue;
      }
      return directory + kNames[random_() % 15];
    }
  }

  const std::string folder_;
  std::mt19937_64 random_;
};

class Reuse : public testing::TestWithParam<std::string> {
 protected:
  std::string Make(const Digest& root, bool may_reuse, bool* reused = nullptr) {
    const auto made = daemon_.client().Create({.root = root}, nullptr,
                                              {.never_reuse = !may_reuse});
    EXPECT_TRUE(made.ok()) << made.status();
    if (!made.ok()) return "";
    if (reused != nullptr) *reused = made->reused.has_value();
    return made->info.path;
  }

  void Release(const std::string& path, bool stash) {
    const absl::Status released =
        daemon_.client().Release(fs::path(path).filename().string(), stash);
    EXPECT_TRUE(released.ok()) << released;
  }

  // As an action: by a process that ends.
  static void Act(const std::string& path, uint64_t seed, int calls) {
    const pid_t child = fork();
    if (child == 0) {
      signal(SIGPIPE, SIG_IGN);
      UnsyncedMaps unsynced;
      {
        Player player(path, unsynced, 0);
        for (const Call& call : MakeCalls({.seed = seed, .calls = calls})) {
          player.Play(call);
        }
      }
      _exit(0);
    }
    // In passthrough mode it can die of SIGBUS: a mapping made through an old
    // descriptor has the old length (casement(7)).
    waitpid(child, nullptr, 0);
  }

  RunningDaemon daemon_{{"--data-path", GetParam()}};
};

CASEMENT_IN_BOTH_DATA_PATHS(Reuse);

std::string Difference(const std::string& reused, const std::string& fresh) {
  std::map<std::string, std::string> expected = SnapshotOf(fresh);
  std::string text;
  for (const auto& [path, line] : SnapshotOf(reused)) {
    const std::string wanted = expected[path];
    expected.erase(path);
    if (line != wanted) {
      text += path + "\n  fresh:  " + wanted + "\n  reused: " + line + "\n";
    }
  }
  for (const auto& [path, line] : expected) text += "lacks " + path + "\n";
  return text;
}

TEST_P(Reuse, AReusedSandboxShowsWhatAFreshOneShows) {
  const std::string source = daemon_.folder() + "/source";
  fs::create_directory(source);
  RandomTree tree(source, flags.first_seed);
  std::string other;
  int reused_count = 0;
  for (int round = 0; round < flags.rounds; ++round) {
    const uint64_t seed =
        flags.first_seed * 1000003 + static_cast<uint64_t>(round);
    const auto root = daemon_.client().PutTree(source, {});
    ASSERT_TRUE(root.ok()) << root.status();
    bool reused = false;
    const std::string path = Make(root->root, /*may_reuse=*/true, &reused);
    const std::string fresh = Make(root->root, /*may_reuse=*/false);
    if (reused) ++reused_count;
    const std::string difference = Difference(path, fresh);
    ASSERT_EQ(difference, "") << "round " << round << " of seed "
                              << flags.first_seed << (reused ? " reused" : "");
    const auto changes =
        daemon_.client().Diff(fs::path(path).filename().string());
    ASSERT_TRUE(changes.ok() && changes->empty());
    Release(fresh, /*stash=*/false);
    Act(path, seed, static_cast<int>(tree.Random() % 60));
    if (other.empty()) other = Make(root->root, /*may_reuse=*/false);
    Act(other, seed + 1, 10);
    Release(path, /*stash=*/true);
    const uint64_t changes_to_make = tree.Random() % 4;
    for (uint64_t i = 0; i < changes_to_make; ++i) tree.Change();
  }
  std::cout << flags.rounds << " rounds, " << reused_count << " reused\n";
  EXPECT_GT(reused_count, flags.rounds / 4);
  Release(other, /*stash=*/false);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  casement::Flags& flags = casement::flags;
  if (!casement::ParseNumberFlags(
          argc, argv,
          {{"--first-seed", &flags.first_seed}, {"--rounds", &flags.rounds}})) {
    return 2;
  }
  return RUN_ALL_TESTS();
}
