// G5, G18: a sandbox cannot be told from a folder on ext4, whatever is done to
// it. See scripts/stress for the same without end.
//
//   posix_test [--first-seed=N] [--seeds=N] [--calls=N] [--seconds=N]
//
// prints the seed of each sequence that finds a difference, and the shortest
// part of it that still does. With --seeds=1 --first-seed=N it is played again.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <chrono>  // NOLINT
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

#include "model/posix_pair.h"
#include "support/number_flags.h"

namespace casement {
namespace {

struct Flags {
  uint64_t first_seed = 1;
  int seeds = 3;
  int calls = 1500;
  int seconds = 0;  // 0: by seeds.
  bool shorten = true;
} flags;

class PosixModel
    : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  bool Holds(uint64_t seed, int calls, int generation = 2) {
    SequenceOptions options = pair_.Sequence(seed, calls);
    options.generation = generation;
    const std::vector<Call> sequence = MakeCalls(options);
    const std::optional<std::string> difference = pair_.Play(sequence, nullptr);
    if (!difference.has_value()) return true;
    ADD_FAILURE() << "seed " << seed << ", " << calls << " calls\n"
                  << *difference << "the shortest sequence:\n"
                  << (flags.shorten ? pair_.Shortest(sequence) : "");
    return false;
  }

  // Plays seeds until `plays` found three differences or the time is over.
  static void Repeat(const std::function<bool(uint64_t seed)>& play) {
    const auto start = std::chrono::steady_clock::now();
    const auto busy = [&](int played) {
      if (flags.seconds == 0) return played < flags.seeds;
      return std::chrono::steady_clock::now() - start <
             std::chrono::seconds(flags.seconds);
    };
    int played = 0;
    int failed = 0;
    for (; busy(played) && failed < 3; ++played) {
      if (!play(flags.first_seed + static_cast<uint64_t>(played))) ++failed;
    }
    std::cout << played << " seeds from " << flags.first_seed << ", "
              << int64_t{played} * flags.calls << " calls\n";
  }

  PosixPair pair_{{.data_path = std::get<0>(GetParam()),
                   .as_user = std::get<1>(GetParam()) == "user"}};
};

INSTANTIATE_TEST_SUITE_P(All, PosixModel,
                         testing::Combine(testing::Values("passthrough",
                                                          "cached"),
                                          testing::Values("root", "user")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" +
                                  std::get<1>(info.param);
                         });

TEST_P(PosixModel, RandomCallsDoNotTellASandboxFromAPlainFolder) {
  Repeat([this](uint64_t seed) { return Holds(seed, flags.calls); });
}

// Everybody in a folder of their own, where nobody can come in between, but in
// one sandbox.
TEST_P(PosixModel, RandomCallsAtOnceDoNotTellASandboxFromAPlainFolder) {
  Repeat([this](uint64_t seed) {
    std::vector<std::vector<Call>> sequences;
    for (uint64_t part = 0; part < kPartsMax; ++part) {
      SequenceOptions options =
          pair_.Sequence(seed * kPartsMax + part, flags.calls / kPartsMax);
      options.many_processes = true;
      sequences.push_back(MakeCalls(options));
    }
    const std::optional<std::string> difference = pair_.PlayAtOnce(sequences);
    if (!difference.has_value()) return true;
    ADD_FAILURE() << "seed " << seed << ", " << flags.calls
                  << " calls at once\n"
                  << *difference;
    return false;
  });
}

// Lines of "GENERATION SEED CALLS": what once found a difference.
TEST_P(PosixModel, SequencesThatOnceFoundADifferenceFindNone) {
  std::ifstream seeds(SEEDS);
  ASSERT_TRUE(seeds) << SEEDS;
  for (std::string line; std::getline(seeds, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    int generation = 0;
    uint64_t seed = 0;
    int calls = 0;
    ASSERT_TRUE(words >> generation >> seed >> calls) << line;
    Holds(seed, calls, generation);
  }
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  casement::Flags& flags = casement::flags;
  if (!casement::ParseNumberFlags(argc, argv,
                                  {{"--first-seed", &flags.first_seed},
                                   {"--seeds", &flags.seeds},
                                   {"--calls", &flags.calls},
                                   {"--seconds", &flags.seconds},
                                   {"--shorten", &flags.shorten}})) {
    return 2;
  }
  // What is mounted goes with this process, however it ends.
  if (unshare(CLONE_NEWNS) != 0 ||
      mount("", "/", nullptr, MS_PRIVATE | MS_REC, nullptr) != 0) {
    std::cerr << "posix_test: a mount namespace, which takes root: "
              << strerror(errno) << "\n";
    return 1;
  }
  return RUN_ALL_TESTS();
}
