// G2, G3, G4, G6, G8, G9, G11, G12: the store and the vfs, interleaved in every
// way that few preemptions allow, and in many others.
//
//   race_test [--preemptions=N] [--first-seed=N] [--seeds=N] [--seconds=N]
//
// A preemption is leaving a task that could go on; who has to wait gives way
// for nothing. Two find most races there are (Musuvathi and Qadeer, "Iterative
// context bounding", 2007) but take minutes: scripts/stress. A schedule that
// breaks something is printed as the steps of each task; a random one with its
// seed as well, which belongs into race_seeds.txt once it is fixed.
#include <gtest/gtest.h>

#include <chrono>  // NOLINT
#include <csignal>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "model/race_world.h"
#include "support/number_flags.h"

namespace casement {
namespace {

struct Flags {
  int preemptions = 1;
  uint64_t first_seed = 1;
  int seeds = 200;
  int seconds = 0;  // 0: by seeds.
} flags;

// What a crash is to be blamed on: written where abort() can still print it.
std::string playing;  // NOLINT

using Tasks = std::vector<std::pair<std::string, std::function<void()>>>;

// Enumerates schedules, depth first.
class Explorer {
 public:
  explicit Explorer(int preemptions_max) : preemptions_max_(preemptions_max) {}

  Scheduler::Chooser Chooser() {
    at_ = 0;
    return [this](size_t count, bool can_go_on) {
      if (at_ == path_.size()) path_.push_back({count, 0, can_go_on});
      Choice& choice = path_[at_++];
      // The same choices lead to the same steps.
      EXPECT_EQ(choice.count, count);
      EXPECT_EQ(choice.can_go_on, can_go_on);
      return choice.chosen;
    };
  }

  // False if that was the last schedule.
  bool Next() {
    int preemptions = 0;
    for (const Choice& choice : path_) preemptions += Cost(choice);
    while (!path_.empty()) {
      Choice& last = path_.back();
      preemptions -= Cost(last);
      ++last.chosen;
      if (last.chosen < last.count &&
          preemptions + Cost(last) <= preemptions_max_) {
        return true;
      }
      path_.pop_back();
    }
    return false;
  }

 private:
  struct Choice {
    size_t count;
    size_t chosen;
    bool can_go_on;
  };
  static int Cost(const Choice& choice) {
    return choice.can_go_on && choice.chosen > 0 ? 1 : 0;
  }

  const int preemptions_max_;
  std::vector<Choice> path_;
  size_t at_ = 0;
};

class StoreRaces : public testing::Test {
 protected:
  // Plays all schedules of these tasks, each in a new world.
  void Explore(const RaceWorld::Options& options,
               const std::function<Tasks(RaceWorld&)>& tasks) {
    Explorer explorer(flags.preemptions);
    int schedules = 0;
    int64_t steps = 0;
    do {
      playing = "schedule " + std::to_string(schedules);
      RaceWorld world(options);
      world.Run(tasks(world), explorer.Chooser());
      ++schedules;
      steps += world.steps();
      if (HasFailure()) {
        std::cout << "in this schedule:" << world.History() << "\n";
        return;
      }
    } while (explorer.Next());
    std::cout << schedules << " schedules, " << steps << " steps\n";
  }
};

class Races : public StoreRaces,
              public testing::WithParamInterface<DataPath> {};

INSTANTIATE_TEST_SUITE_P(
    DataPath, Races, testing::Values(DataPath::kPassthrough, DataPath::kCached),
    [](const auto& info) {
      return info.param == DataPath::kCached ? "cached" : "passthrough";
    });

// The published race: peers make the executable copy while its blob is evicted,
// and the copy stays for ever.
TEST_P(Races, EvictionOfADigestWhileItsExecViewIsBeingOpenedLeavesNothing) {
  Explore({.data_path = GetParam()}, [](RaceWorld& world) -> Tasks {
    return {
        {"opener", [&] { world.Close(world.Open(world.CasPath(0, true), 0)); }},
        {"evictor", [&] { world.Evict(0); }}};
  });
}

TEST_P(Races, EvictionAndPublicationWhileTheExecViewIsBeingOpened) {
  Explore({.data_path = GetParam()}, [](RaceWorld& world) -> Tasks {
    return {
        {"opener", [&] { world.Close(world.Open(world.CasPath(0, true), 0)); }},
        {"evictor", [&] {
           world.Evict(0);
           world.Put(0);
           // Who has put a blob finds it.
           world.Close(world.Open(world.CasPath(0, true), 0, true));
         }}};
  });
}

TEST_P(Races, MappingOfOneViewWhileTheOtherComesAndGoes) {
  Explore({.data_path = GetParam()}, [](RaceWorld& world) -> Tasks {
    return {{"mapper",
             [&] {
               const auto held = world.Open(world.CasPath(0, false), 0);
               world.Map(held);
               world.Evict(0);
               world.Read(held);
               world.Close(held);
             }},
            {"opener",
             [&] { world.Close(world.Open(world.CasPath(0, true), 0)); }}};
  });
}

TEST_F(StoreRaces, TwoEvictionsAndAPublication) {
  Explore({}, [](RaceWorld& world) -> Tasks {
    return {{"evictor 1", [&] { world.Evict(0); }},
            {"evictor 2", [&] { world.EvictUnleased(); }},
            {"putter", [&] { world.Put(0); }}};
  });
}

TEST_F(StoreRaces, RetriedUploadAndAnEvictionOfTheSameBlob) {
  Explore({.is_fine = true}, [](RaceWorld& world) -> Tasks {
    return {{"uploader",
             [&] {
               world.Evict(0);
               world.UploadTwice(0);
             }},
            {"evictor", [&] {
               world.Evict(0);
               world.Put(0);
             }}};
  });
}

TEST_P(Races, LookUpsThatAreForgottenWhileTheirBlobIsEvicted) {
  Explore({.data_path = GetParam()}, [](RaceWorld& world) -> Tasks {
    return {{"looker",
             [&] {
               world.Stat(world.CasPath(0, false));
               world.Shrink();
               world.InterruptedStat(world.CasPath(0, true));
             }},
            {"evictor", [&] { world.Evict(0); }}};
  });
}

TEST_F(StoreRaces, LeaseWhileItsBlobIsEvictedAndStoredAgain) {
  Explore({}, [](RaceWorld& world) -> Tasks {
    return {{"holder", [&] { const Lease lease = world.LeaseBlob(0); }},
            {"evictor", [&] {
               world.Evict(0);
               world.Put(0);
             }}};
  });
}

TEST_P(Races, SandboxOverATreeWhoseBlobsAreEvicted) {
  Explore({.data_path = GetParam(), .has_tree = true},
          [](RaceWorld& world) -> Tasks {
            return {
                {"action",
                 [&] {
                   const std::string name =
                       world.CreateSandbox(InputsPolicy::kReadOnly);
                   if (name.empty()) return;
                   world.Close(world.Open(world.SandboxPath(name, 0), 0, true));
                   world.ReleaseSandbox(name);
                 }},
                {"evictor", [&] { world.EvictUnleased(); }}};
          });
}

TEST_P(Races, OutputThatIsCollectedWhileItsDigestIsEvicted) {
  Explore({.data_path = GetParam(), .has_tree = true},
          [](RaceWorld& world) -> Tasks {
            return {
                {"action",
                 [&] {
                   const std::string name =
                       world.CreateSandbox(InputsPolicy::kCopyOnWrite);
                   if (name.empty()) return;
                   world.WriteInSandbox(name, 0);
                   world.CollectFromSandbox(name, 0);
                   world.Close(world.Open(world.SandboxPath(name, 0), 0, true));
                   world.ReleaseSandbox(name);
                 }},
                {"evictor", [&] { world.Evict(0); }}};
          });
}

TEST_P(Races, FullStoreWhoseOldestBlobIsBeingOpened) {
  Explore({.data_path = GetParam(), .blobs = 3, .spare_bytes = 100},
          [](RaceWorld& world) -> Tasks {
            return {
                {"opener",
                 [&] { world.Close(world.Open(world.CasPath(1, true), 1)); }},
                {"putter", [&] {
                   world.Evict(2);
                   world.Put(2);
                 }}};
          });
}

// What one task of a random schedule does, for so many operations.
class Player {
 public:
  Player(RaceWorld& world, uint64_t seed) : world_(world), random_(seed) {}

  void Play(int operations) {
    for (int i = 0; i < operations; ++i) Act();
    while (!held_.empty()) CloseOne();
    leases_.clear();
    if (!sandbox_.empty()) world_.ReleaseSandbox(sandbox_);
  }

 private:
  int Any(size_t count) { return static_cast<int>(random_() % count); }

  std::string AnyPath(int blob) {
    switch (Any(3)) {
      case 0:
        return world_.CasPath(blob, false);
      case 1:
        return world_.CasPath(blob, true);
      default:
        return world_.TreePath(blob);
    }
  }

  void CloseOne() {
    if (held_.empty()) return;
    const int index = Any(held_.size());
    world_.Close(held_[index]);
    held_.erase(held_.begin() + index);
  }

  void Open(int blob) {
    held_.push_back(world_.Open(AnyPath(blob), blob));
    if (Any(2) == 0) world_.Map(held_.back());
  }

  void ActInSandbox(int blob) {
    if (sandbox_.empty()) {
      is_writable_ = Any(2) == 0;
      sandbox_ = world_.CreateSandbox(
          is_writable_ ? InputsPolicy::kCopyOnWrite : InputsPolicy::kReadOnly,
          Any(2) == 0);
      return;
    }
    switch (Any(5)) {
      case 0:
        world_.CollectFromSandbox(sandbox_, blob);
        return;
      case 3:
        if (!is_writable_) return;
        world_.WriteInSandbox(sandbox_, blob);
        return;
      case 1:
        held_.push_back(
            world_.Open(world_.SandboxPath(sandbox_, blob), blob, true));
        return;
      case 2:
        world_.Stat(world_.SandboxPath(sandbox_, blob));
        return;
      default:
        // Handles below it are to be closed first: later reads would say
        // ESTALE.
        while (!held_.empty()) CloseOne();
        world_.ReleaseSandbox(sandbox_, Any(2) == 0);
        sandbox_.clear();
    }
  }

  void Act() {
    const int blob = Any(world_.blobs());
    switch (Any(14)) {
      case 0:
      case 1:
        return world_.Put(blob);
      case 2:
        return world_.UploadTwice(blob);
      case 3:
      case 4:
        return world_.Evict(blob);
      case 5:
        return world_.EvictUnleased();
      case 6:
      case 7:
        return Open(blob);
      case 8:
        return CloseOne();
      case 9:
        return world_.Stat(AnyPath(blob));
      case 10:
        return Any(2) == 0 ? world_.InterruptedStat(AnyPath(blob))
                           : world_.Shrink();
      case 11:
        if (Any(2) == 0) leases_.clear();
        return leases_.push_back(world_.LeaseBlob(blob));
      case 12:
        return Any(4) == 0 ? world_.Sync() : world_.GiveUpIdleLeases();
      default:
        return ActInSandbox(blob);
    }
  }

  RaceWorld& world_;
  std::minstd_rand random_;
  std::vector<RaceWorld::HeldPtr> held_;
  std::vector<Lease> leases_;
  std::string sandbox_;
  bool is_writable_ = false;
};

class RandomRaces : public testing::Test {
 protected:
  static constexpr int kTasks = 4;
  static constexpr int kOperations = 12;

  // Everything about it follows from the seed.
  bool Holds(uint64_t seed) {
    playing = "seed " + std::to_string(seed);
    std::mt19937_64 random(seed);
    RaceWorld::Options options;
    options.data_path =
        random() % 2 == 0 ? DataPath::kPassthrough : DataPath::kCached;
    // Mostly on tmpfs, which is fast; sometimes on what there is of disks.
    options.is_on_disk = random() % 4 == 0;
    options.blobs = 1 + static_cast<int>(random() % 4);
    options.has_tree = true;
    options.is_synced = true;
    options.is_fine = random() % 2 == 0;
    if (random() % 3 == 0) options.spare_bytes = 1 + random() % 20000;
    if (random() % 3 == 0) {
      options.fail = [&random](absl::string_view name) -> int {
        if (random() % 40 != 0) return 0;
        constexpr int kErrors[] = {EIO, ENOSPC, EMFILE};
        return kErrors[random() % 3];
      };
    }
    RaceWorld world(options);
    Tasks tasks;
    std::vector<std::unique_ptr<Player>> players;
    for (int i = 0; i < kTasks; ++i) {
      players.push_back(std::make_unique<Player>(world, random()));
      tasks.emplace_back(
          "task " + std::to_string(i),
          [player = players.back().get()] { player->Play(kOperations); });
    }
    const uint64_t stay = 1 + random() % 8;
    world.Run(std::move(tasks), [&](size_t count, bool can_go_on) -> size_t {
      if (can_go_on && random() % (stay + 1) < stay) return 0;
      return random() % count;
    });
    steps_ += world.steps();
    if (!HasFailure()) return true;
    ADD_FAILURE() << "seed " << seed << ":" << world.History();
    return false;
  }

  int64_t steps_ = 0;
};

TEST_F(RandomRaces, OfEverythingAtOnceBreakNothing) {
  const auto start = std::chrono::steady_clock::now();
  int played = 0;
  const auto busy = [&] {
    if (flags.seconds == 0) return played < flags.seeds;
    return std::chrono::steady_clock::now() - start <
           std::chrono::seconds(flags.seconds);
  };
  while (busy() && Holds(flags.first_seed + static_cast<uint64_t>(played))) {
    ++played;
  }
  std::cout << played << " seeds from " << flags.first_seed << ", " << steps_
            << " steps\n";
}

TEST_F(RandomRaces, SeedsThatOnceBrokeSomethingBreakNothing) {
  std::ifstream seeds(SEEDS);
  ASSERT_TRUE(seeds) << SEEDS;
  for (std::string line; std::getline(seeds, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    uint64_t seed = 0;
    ASSERT_TRUE(words >> seed) << line;
    if (!Holds(seed)) return;
  }
}

void OnAbort(int /*signal*/) {
  std::cerr << "while playing " << playing << "\n";
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::signal(SIGABRT, casement::OnAbort);
  casement::Flags& flags = casement::flags;
  if (!casement::ParseNumberFlags(argc, argv,
                                  {{"--preemptions", &flags.preemptions},
                                   {"--first-seed", &flags.first_seed},
                                   {"--seeds", &flags.seeds},
                                   {"--seconds", &flags.seconds}})) {
    return 2;
  }
  return RUN_ALL_TESTS();
}
