// Released sandboxes, kept for the next similar action.
//
// Holds them and chooses among them; what keeping one means is in
// Sandbox::Stash() and Retarget(). Thread safe, and no lock is held while a
// sandbox is looked into.
#ifndef CASEMENT_VFS_STASH_H_
#define CASEMENT_VFS_STASH_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "casement/sandbox_spec.h"
#include "store/directory_table.h"
#include "vfs/sandbox.h"

namespace casement {

// A sandbox after Stash(), with the name, owner, policy, label and root that it
// had.
struct Stash {
  std::shared_ptr<Sandbox> sandbox;
  SandboxSpec spec;
  absl::Time created;
  int64_t nodes = 0;  // That the kernel knows.
  // The Directories with the most paths below its root, the root included.
  std::vector<Digest> heavy;
};

class Stashes {
 public:
  struct Options {
    int64_t stashes_max = 256;
    // That the kernel knows, in all stashes together: about 250 bytes each.
    int64_t nodes_max = 2'000'000;
  };
  explicit Stashes(Options options) : options_(options) {}

  // Gives back those for which there is no room then, to be killed: of the ones
  // that the kernel knows least of, the oldest.
  [[nodiscard]] std::vector<Stash> Add(Stash stash);

  struct Choice {
    Stash stash;
    bool is_exact = false;  // It had the same root.
  };
  // Takes out the one that saves the most in serving `root` for `spec`, or
  // nothing if none saves anything: of the same root, else one that shares
  // heavy Directories or, with files changed in all of them, the package: the
  // label up to its ':'. Of equal ones it is that of the same label, then of
  // the same package.
  std::optional<Choice> Take(const SandboxSpec& spec,
                             const InternedDirectory& root);

  // Half of them, rounded up, to be killed: those of which the kernel knows
  // least.
  [[nodiscard]] std::vector<Stash> TakeHalf();
  // All of them, to be killed.
  [[nodiscard]] std::vector<Stash> TakeAll();
  std::vector<Stash> List() const;
  int64_t nodes() const;

  // The heaviest Directories from `root` on down, at most 16.
  static std::vector<Digest> HeavyDirectories(const InternedDirectory& root);

 private:
  using Id = uint64_t;  // In the order in which they came.

  std::vector<Id> CandidatesLocked(const SandboxSpec& spec,
                                   const InternedDirectory& root) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Stash RemoveLocked(Id id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The one that is missed least. There must be one.
  Stash RemoveLeastLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Options options_;
  mutable Mutex mu_;
  absl::btree_map<Id, Stash> stashes_ ABSL_GUARDED_BY(mu_);
  // Which have a Directory among their heavy ones.
  absl::flat_hash_map<Digest, absl::flat_hash_set<Id>> by_heavy_
      ABSL_GUARDED_BY(mu_);
  int64_t nodes_ ABSL_GUARDED_BY(mu_) = 0;
  Id last_id_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_STASH_H_
