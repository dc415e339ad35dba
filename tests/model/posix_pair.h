// A sandbox and a plain folder with the same content, and sequences of calls
// that must not tell them apart.
#ifndef CASEMENT_TESTS_MODEL_POSIX_PAIR_H_
#define CASEMENT_TESTS_MODEL_POSIX_PAIR_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "model/posix_call.h"
#include "model/posix_worker.h"
#include "support/running_daemon.h"

namespace casement {

// How many sequences can be played at once.
inline constexpr int kPartsMax = 4;

struct PairOptions {
  std::string data_path;  // "passthrough" or "cached"
  // Whether an ordinary user makes the calls; else root does, and now and then
  // others.
  bool as_user = false;
};

class PosixPair {
 public:
  explicit PosixPair(const PairOptions& options);

  ~PosixPair();

  // Plays the calls in a fresh sandbox and a fresh folder. What was different,
  // if anything was; `upto` is then the number of calls that it took.
  std::optional<std::string> Play(const std::vector<Call>& calls, size_t* upto);
  // Plays all sequences at once, each in a folder of its own in one sandbox.
  std::optional<std::string> PlayAtOnce(
      const std::vector<std::vector<Call>>& sequences);
  // The difference again, with as few of the calls as it takes.
  std::string Shortest(std::vector<Call> calls);

  SequenceOptions Sequence(uint64_t seed, int calls) const {
    return {.seed = seed,
            .calls = calls,
            .many_actors = !options_.as_user,
            .many_processes = seed % 2 == 1};
  }

 private:
  struct Content {
    uint32_t mode = 0;
    std::string bytes;
  };
  using Tree = std::map<std::string, Content>;

  // What both trees start with.
  struct Inputs {
    std::string folder;
    Digest root;
  };
  // Where a sequence is played: in a folder of the two trees.
  struct Part {
    const std::vector<Call>& calls;
    std::string folder;  // "" or with a '/' in front.
  };

  // A fresh sandbox's path, and the plain folder made anew.
  std::string Prepare(const Inputs& inputs);
  void Own(const std::string& path);
  // What was different, in Prepare()d trees that are then given back.
  std::optional<std::string> PlayParts(const Inputs& inputs,
                                       const std::vector<Part>& parts,
                                       size_t* upto);
  pid_t PlayInChild(const Part& part, const std::string& sandbox,
                    const std::string& report);
  std::string PlayBoth(const Part& part, const std::string& sandbox,
                       size_t& upto);
  std::string CompareTrees(const std::string& sandbox,
                           const std::string& plain);
  // The unmodified input that the call would write to, or 0.
  uint64_t Written(const Call& call, const std::string& plain) const;
  // Diff and Collect against what happened to the plain folder.
  std::string CheckOutputs(const Inputs& inputs, const std::string& name);
  static Tree TreeOf(const std::string& folder);
  static void RemoveSpecials(const std::string& folder);

  const PairOptions options_;
  RunningDaemon daemon_;
  const std::string plain_;  // Mounted on itself, as a mount like the daemon's.
  Inputs whole_;
  Inputs parts_;  // The same kPartsMax times.
  // Files of the plain folder that are unmodified inputs.
  std::set<uint64_t> unmodified_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_POSIX_PAIR_H_
