// Directories of the store, parsed once and shared, and the leases on all that
// they reach.
//
// A closure is a root Directory with everything below it. Leasing one that is
// known costs one increment, whatever its size (G15): leases count on interned
// Directories, and only a count that leaves 0 goes down to the children and the
// blobs. When the last lease of a root is given back its closure stays leased,
// idle, until the store wants the space (BlobStore::Listener), so that the next
// sandbox over the same tree is made in constant time too.
//
// Thread safe. Lock order: DirectoryTable::mu_ before BlobStore's.
#ifndef CASEMENT_STORE_DIRECTORY_TABLE_H_
#define CASEMENT_STORE_DIRECTORY_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "casement/digest.h"
#include "casement/sandbox_spec.h"
#include "model/directory.h"
#include "store/blob_fetcher.h"
#include "store/blob_store.h"

namespace casement {

// A Directory whose children are interned as well. Immutable.
class InternedDirectory {
 public:
  // Takes no more stack for a tree that is 10,000 deep.
  ~InternedDirectory();
  InternedDirectory(const InternedDirectory&) = delete;
  InternedDirectory& operator=(const InternedDirectory&) = delete;

  const Digest& digest() const { return digest_; }
  const Directory& directory() const { return *directory_; }
  // The Directory below entry `index`, which must be of type kDirectory.
  const std::shared_ptr<const InternedDirectory>& child(size_t index) const {
    return children_[index];
  }
  // All paths below this one in preorder are numbered 1, 2, 3...: the number of
  // entry `index`. This Directory itself is 0.
  uint64_t number(size_t index) const { return numbers_[index]; }
  // How many paths there are, this one included: files, directories, symlinks.
  uint64_t paths() const { return paths_; }
  // How many of them are files, and the sum of their sizes (at most 2^64 - 1).
  uint64_t files() const { return files_; }
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  friend class DirectoryTable;
  InternedDirectory() = default;

  Digest digest_;
  std::shared_ptr<const Directory> directory_;
  // One for each entry; nullptr for those that are no directory. The destructor
  // empties it, hence mutable.
  mutable std::vector<std::shared_ptr<const InternedDirectory>> children_;
  std::vector<uint64_t> numbers_;
  uint64_t paths_ = 1;
  uint64_t files_ = 0;
  uint64_t file_bytes_ = 0;
};

// `tops` and all Directories below them, each once.
std::vector<const InternedDirectory*> DirectoriesOf(
    std::vector<const InternedDirectory*> tops);

// `root`, all Directories below it, each once, and after each of them its files
// as often as it names them.
std::vector<Digest> BlobsOf(const InternedDirectory& root);

class DirectoryTable;

// Keeps a closure from being evicted. Given back by destruction, once.
class ClosureLease {
 public:
  ClosureLease() = default;
  ClosureLease(ClosureLease&& other) noexcept;
  ClosureLease& operator=(ClosureLease&& other) noexcept;
  ~ClosureLease();

  const std::shared_ptr<const InternedDirectory>& root() const { return root_; }

 private:
  friend class DirectoryTable;
  DirectoryTable* table_ = nullptr;
  std::shared_ptr<const InternedDirectory> root_;
};

class DirectoryTable {
 public:
  struct Options {
    // Distinct Directories in one closure, and paths by any route. A tree with
    // more is refused (ResourceExhausted): shared digests can make 10^12 paths
    // out of a few kilobytes.
    int64_t closure_directories_max = int64_t{4} << 20;
    uint64_t closure_paths_max = uint64_t{1} << 48;
    // Idle closures are given up, oldest first, while the messages of all
    // interned Directories together have more bytes than this.
    int64_t interned_bytes_max = int64_t{256} << 20;
  };

  // `fetcher`, if there is a remote cache, outlives this.
  DirectoryTable(BlobStore& store, Options options,
                 BlobFetcher* fetcher = nullptr);
  ~DirectoryTable();

  // FailedPrecondition if blobs are missing, naming each with one violation of
  // type MISSING and subject "blobs/<hash>/<size>" (REv2) in a
  // google.rpc.PreconditionFailure (MissingBlobsStatus() in missing.h).
  // InvalidArgument if a Directory is malformed. ResourceExhausted if the
  // closure cannot fit beside what is leased already, or passes a limit; if
  // blobs are missing and all could not fit, that is what is said. With
  // kRemote, missing are those that the remote cache lacks too, and its errors
  // come as they are; FailedPrecondition if there is none.
  absl::StatusOr<ClosureLease> LeaseClosure(
      const Digest& root, InputsFrom from = InputsFrom::kStore);

  // Fetches the Directories of a closure that are not here, and asks nothing
  // of its files. Errors as LeaseClosure()'s with kRemote.
  absl::Status FetchDirectories(const Digest& root);

  // One Directory without its children and without a lease, for the tree/ view.
  // NotFound, without a message, if it is not in the store.
  absl::StatusOr<std::shared_ptr<const Directory>> Load(const Digest& digest);

  // See BlobStore::Listener.
  bool GiveUpIdleLeases(uint64_t used_before);
  // All of them, for `evict`.
  void GiveUpAllIdleLeases();

  // I6  a Directory's count is the number of leased parents' uses of it, plus
  //     the leases that name it as root, plus the LeaseClosure() calls under
  //     way that came across it, plus 1 if it is an idle root
  // I7  a Directory with a count holds one Lease for itself and one for every
  //     file in it; one without a count is not in the table
  void CheckInvariants() const;

 private:
  friend class ClosureLease;
  class Loader;
  class Gatherer;

  // An interned Directory that is leased.
  struct Node {
    std::shared_ptr<const InternedDirectory> interned;
    std::vector<Lease> leases;  // On itself, and on each of its files.
    uint64_t count = 0;         // See I6.
    uint64_t root_leases = 0;   // That name it as root.
    uint64_t loaders = 0;       // That came across it.
    uint64_t idle_since = 0;    // A tick, if it is an idle root; or 0.
  };
  // What nodes left behind, to be given back without the lock.
  struct Remains {
    std::vector<std::shared_ptr<const InternedDirectory>> directories;
    std::vector<Lease> leases;
  };

  absl::StatusOr<ClosureLease> LeaseNew(const Digest& root, InputsFrom from);
  // The files of a leased closure that are not here, each once.
  std::vector<Digest> MissingOf(const ClosureLease& lease);
  ClosureLease LeaseKnownLocked(Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Lowers the count; with the last one the node goes, and what it counted on.
  void ReleaseLocked(const Digest& digest, Remains& remains)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndIdlenessLocked(Node& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool GiveUpOldestLocked(uint64_t used_before, Remains& remains,
                          uint64_t& used) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TrimIdle();
  void Return(const std::shared_ptr<const InternedDirectory>& root);

  BlobStore& store_;
  const Options options_;
  BlobFetcher* const fetcher_;
  mutable Mutex mu_;
  absl::flat_hash_map<Digest, Node> nodes_ ABSL_GUARDED_BY(mu_);
  // The idle roots by when they were last used.
  std::map<uint64_t, Digest> idle_ ABSL_GUARDED_BY(mu_);
  int64_t interned_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  // Those that somebody outside still uses, for Load().
  absl::flat_hash_map<Digest, std::weak_ptr<const Directory>> loaded_
      ABSL_GUARDED_BY(mu_);
  size_t loaded_sweep_size_ ABSL_GUARDED_BY(mu_) = 64;
};

}  // namespace casement

#endif  // CASEMENT_STORE_DIRECTORY_TABLE_H_
