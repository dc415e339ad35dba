// What actions gave, by the digest of the action: REv2's ActionResults, kept
// beside the blobs that they name.
//
// Layout on disk: STORE/actions/<hash>-<size>, one file a result: "CASEACT1",
// an XXH3, and the message. It is linked into place when it is complete; one
// that a power loss has torn is as none.
//
// Results go least recently used first, past a limit, and when a blob that one
// names is found missing. After a restart the order is that in which they were
// stored. Their bytes are accounted as the store's own (Owner::kIndex). Thread
// safe.
#ifndef CASEMENT_STORE_ACTION_CACHE_H_
#define CASEMENT_STORE_ACTION_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"
#include "store/blob_store.h"
#include "store/disk.h"

namespace casement {

class ActionCache {
 public:
  using Result = ::build::bazel::remote::execution::v2::ActionResult;

  struct Options {
    std::string directory;  // The store's.
    size_t results_max = 262'144;
    // Allocated on disk. 0: a 64th of the store's capacity.
    int64_t bytes_max = 0;
    // Of one result's message.
    int64_t result_bytes_max = int64_t{1} << 20;
    // Gets one line about each thing that should not be. Thread safe.
    std::function<void(absl::string_view)> log;
  };

  // `store` must be open on the same directory, and outlive it. One at a time.
  static absl::StatusOr<std::unique_ptr<ActionCache>> Open(Disk& disk,
                                                           BlobStore& store,
                                                           Options options);

  // NotFound, without a message, if there is none, or if a blob that it names
  // is missing. Marks those blobs as used.
  absl::StatusOr<Result> Get(const Digest& action);
  // In place of an earlier one. FailedPrecondition, naming them, if blobs that
  // it names are missing; InvalidArgument if it is malformed or too large;
  // ResourceExhausted, with ENOSPC, if there is no room.
  absl::Status Put(const Digest& action, const Result& result);

  struct Stats {
    int64_t results = 0;
    int64_t bytes = 0;  // Allocated.
  };
  Stats GetStats() const;

  // I14 bytes_ is the sum of the results' allocated bytes, and not above its
  //     limit after a Put()
  // I15 order_ and results_ have the same digests
  void CheckInvariants() const;

 private:
  using Order = std::list<Digest>;
  struct Entry {
    int64_t allocated_bytes = 0;
    uint64_t number = 0;  // Of the Put(): tells one from a later one.
    Order::iterator place;
  };

  ActionCache(Disk& disk, BlobStore& store, Options options);
  absl::Status Start();
  absl::Status Scan() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  // In place of an earlier one.
  void Add(const Digest& action, int64_t allocated_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::StatusOr<std::string> ReadFile(const Digest& action);
  absl::StatusOr<Result> ReadResult(const Digest& action);
  // Marks it as used. 0 if it is not here.
  uint64_t Touch(const Digest& action);
  // Unless it was stored again since.
  void Drop(const Digest& action, uint64_t number);
  // For so many more.
  absl::Status MakeRoom(size_t results, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::Status Remove(const Digest& action)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::Status WriteResult(const Digest& action, absl::string_view bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  // `estimate` bytes are accounted as scratch, and the result's if it succeeds.
  absl::Status Publish(int fd, const Digest& action, int64_t estimate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::Status Replace(int fd, const Digest& action, int64_t allocated_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  absl::Status RemoveNew() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);
  void ForgetLocked(const Digest& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SettleDirectory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mu_);

  Disk& disk_;  // These are set once.
  BlobStore& store_;
  Options options_;
  UniqueFd directory_;

  // Order: write_mu_, file_mu_, mu_.
  Mutex write_mu_;  // One change at a time; held while it is made.
  int64_t directory_bytes_ ABSL_GUARDED_BY(write_mu_) = 0;
  // Of a result that could neither take its place nor go.
  int64_t new_bytes_ ABSL_GUARDED_BY(write_mu_) = 0;
  uint64_t next_number_ ABSL_GUARDED_BY(write_mu_) = 1;
  // A file that is unlinked must not be open here: its bytes would be nobody's.
  SharedMutex file_mu_;
  mutable Mutex mu_;  // Never held across a system call.
  absl::flat_hash_map<Digest, Entry> results_ ABSL_GUARDED_BY(mu_);
  Order order_ ABSL_GUARDED_BY(mu_);  // The least recently used first.
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_STORE_ACTION_CACHE_H_
