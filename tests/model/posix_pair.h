// A sandbox and a plain folder with the same content, and sequences of calls
// that must not tell them apart.
#ifndef CASEMENT_TESTS_MODEL_POSIX_PAIR_H_
#define CASEMENT_TESTS_MODEL_POSIX_PAIR_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/posix_call.h"
#include "model/posix_player.h"
#include "support/running_daemon.h"

namespace casement {

struct PairOptions {
  std::string data_path;  // "passthrough" or "cached"
  // Whether an ordinary user makes the calls; else root does, and now and then
  // others.
  bool as_user = false;
};

class PosixPair {
 public:
  explicit PosixPair(const PairOptions& options);

  // Plays the calls in a fresh sandbox and a fresh folder. What was different,
  // if anything was; `upto` is then the number of calls that it took.
  std::optional<std::string> Play(const std::vector<Call>& calls, size_t* upto);
  // The difference again, with as few of the calls as it takes.
  std::string Shortest(std::vector<Call> calls);

  SequenceOptions Sequence(uint64_t seed, int calls) const {
    return {.seed = seed, .calls = calls, .many_actors = !options_.as_user};
  }

 private:
  struct Content {
    uint32_t mode = 0;
    std::string bytes;
  };
  using Tree = std::map<std::string, Content>;

  std::string PlayInChild(const std::vector<Call>& calls,
                          const std::string& sandbox);
  std::string PlayBoth(const std::vector<Call>& calls,
                       const std::string& sandbox, size_t& upto);
  // The unmodified input that the call would write to, or 0.
  uint64_t Freeze(const Call& call, Player& sandbox, Player& plain);
  // Diff and Collect against what happened to the plain folder.
  std::string CheckOutputs(const std::string& name);
  static Tree TreeOf(const std::string& folder);
  static void RemoveSpecials(const std::string& folder);

  const PairOptions options_;
  RunningDaemon daemon_;
  const std::string source_;
  const std::string plain_;
  Digest root_;
  // Files of the plain folder that are unmodified inputs.
  std::map<uint64_t, bool> unmodified_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_POSIX_PAIR_H_
