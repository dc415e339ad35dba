// Brings blobs from a BlobSource into the store: each once, however many ask
// (G8), in threads of its own.
//
// Thread safe. Small blobs travel together. What is wanted goes before what is
// only fetched ahead. A fetch that failed is forgotten: the next one that wants
// the blob tries again.
//
// Why a blob did not come: NotFound, the source does not have it either;
// DataLoss, its bytes do not hash to its digest, and were dropped;
// ResourceExhausted with ENOSPC, the store is full of leased bytes; Cancelled,
// after Stop(); or what the source said.
//
// What has come of a large blob can be read before all of it is here, and thus
// before anybody knows that it is right: whoever does is told if it was not.
#ifndef CASEMENT_STORE_BLOB_FETCHER_H_
#define CASEMENT_STORE_BLOB_FETCHER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "casement/digest.h"
#include "store/blob_source.h"
#include "store/blob_store.h"

namespace casement {

class BlobFetcher {
 public:
  struct Options {
    int threads = 64;
    // Blobs up to this size travel together, at most so many bytes of them.
    int64_t small_bytes = int64_t{256} << 10;
    int64_t batch_bytes = int64_t{512} << 10;
    // Blobs that are fetched ahead and wait for their turn; more are passed
    // over.
    size_t ahead_max = size_t{1} << 20;
  };

  // All must outlive this; `source` is cancelled at the end.
  BlobFetcher(BlobStore& store, BlobSource& source, Options options);
  ~BlobFetcher();

  using Done = std::function<void(const absl::Status&)>;
  // Calls `done` once, in another thread or after Stop() in this one: the blob
  // is in the store, or why it is not. It must not block.
  void Want(const Digest& digest, Done done) {
    Want(digest, digest.size_bytes(), std::move(done));
  }
  // The same once its first `upto` bytes can be read by ReadArrived().
  void Want(const Digest& digest, int64_t upto, Done done);

  // Whether a blob is so large that ReadArrived() ever has something of it.
  bool ComesInPieces(const Digest& digest) const { return !IsSmall(digest); }
  // Reads from a blob that is being fetched; nullopt if not all of these bytes
  // have come, or none are on their way. `retract` is called, once for each
  // `reader` and fetch, if the bytes turn out not to be the blob's or not all
  // of them come.
  std::optional<size_t> ReadArrived(const Digest& digest, int64_t offset,
                                    absl::Span<char> buffer, uint64_t reader,
                                    const std::function<void()>& retract);

  // Want() of each, in one go, so that small ones travel together. `done_for`
  // makes what is called for each; it must not use this.
  void WantAll(absl::Span<const Digest> digests,
               absl::FunctionRef<Done(const Digest&)> done_for);

  // What is called with a blob's bytes, which are right and last as long as the
  // call; with nullptr if the blob is in the store; or with why it did not
  // come.
  using Take =
      std::function<void(const absl::StatusOr<const absl::string_view*>&)>;
  // The same for whoever can do without the store: a small blob is taken as
  // soon as it is here, and stored when there is time (see Haste).
  void WantBytes(absl::Span<const Digest> digests,
                 absl::FunctionRef<Take(const Digest&)> take_for);

  // Somebody who works with bytes from WantBytes() and has no time to lose:
  // while there is one, or something wanted is being fetched, those are stored
  // only if somebody wants the blob itself, or if they are many.
  class Haste {
   public:
    explicit Haste(BlobFetcher& fetcher);
    ~Haste();
    Haste(const Haste&) = delete;
    Haste& operator=(const Haste&) = delete;

   private:
    BlobFetcher& fetcher_;
  };

  // Waits for all of them. The first error; but NotFound only if there is no
  // other, as MissingBlobsStatus() of all that the source lacks.
  absl::Status FetchAll(absl::Span<const Digest> digests);

  // Fetches ahead, for nobody.
  void FetchAhead(absl::Span<const Digest> digests);

  // Those that are neither in the store nor at the source.
  absl::StatusOr<std::vector<Digest>> FindMissing(
      absl::Span<const Digest> digests);

  // Ends all that is under way, and what is asked for from now on.
  void Stop();

  struct Stats {
    int64_t fetched = 0;  // Blobs, since the start; as the following two.
    int64_t fetched_bytes = 0;
    int64_t failed = 0;
    int64_t waiting = 0;  // Wanted by somebody who has no answer yet.
    int64_t ahead = 0;    // Fetched for nobody; a part of `fetched`.
  };
  Stats GetStats() const;

 private:
  class Arriving;
  struct Waiter {
    Done done;
    int64_t upto = 0;
  };
  using Bytes = std::shared_ptr<const std::string>;
  struct Job {
    std::vector<Waiter> waiters;
    std::vector<Take> takers;
    std::shared_ptr<Arriving> arriving;  // If it comes in pieces.
    Bytes unstored;                      // They are right, and here.
    bool is_wanted = false;              // Not only fetched ahead.
    bool is_running = false;             // A thread has it, or had.
  };
  // What a thread does next: in this order, if there are several.
  enum class Work { kFetch, kStore, kFetchAhead };
  struct Task {
    Work work;
    std::vector<Digest> batch;  // One large blob or some small ones.
    Bytes unstored;             // To be stored: those of the only one.
  };

  void RunTasks();
  // Waits for one; nullopt after Stop().
  std::optional<Task> NextTask();
  void Run(const Task& task);
  Job& WantLocked(const Digest& digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void AddWaiterLocked(Job& job, Waiter waiter)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // False if there is nothing to do.
  bool TakeLocked(Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool MayStoreLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  int& RunningLocked(Work work) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return running_[static_cast<size_t>(work)];
  }
  int RunningLocked(Work work) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return running_[static_cast<size_t>(work)];
  }
  // False if the batch is complete.
  bool TakeFromLocked(std::deque<Digest>& queue, std::vector<Digest>& batch,
                      int64_t& bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FetchSmall(const std::vector<Digest>& digests);
  void Come(const Digest& digest, absl::string_view bytes);
  absl::Status FetchLarge(const Digest& digest);
  absl::Status FetchInPieces(const Digest& digest, Upload& upload,
                             Arriving& arriving);
  // Those who wait for its first `bytes` bytes at most need not any more.
  void Arrived(const Digest& digest, int64_t bytes);
  // One more blob that was fetched; Counted() if storing it succeeded.
  void Count(const Digest& digest);
  absl::Status Counted(const Digest& digest, const absl::Status& kept);
  void Finish(const Digest& digest, const absl::Status& status);
  bool IsSmall(const Digest& digest) const;

  BlobStore& store_;  // These are set once.
  BlobSource& source_;
  const Options options_;

  std::atomic<int64_t> fetched_{0};
  std::atomic<int64_t> fetched_bytes_{0};
  std::atomic<int64_t> failed_{0};
  std::atomic<int64_t> ahead_{0};

  mutable Mutex mu_;
  absl::flat_hash_map<Digest, Job> jobs_ ABSL_GUARDED_BY(mu_);
  // Digests of jobs that no thread has. One that was fetched ahead and is
  // wanted since stands in both.
  std::deque<Digest> wanted_queue_ ABSL_GUARDED_BY(mu_);
  std::deque<Digest> ahead_queue_ ABSL_GUARDED_BY(mu_);
  // Digests of jobs with unstored bytes.
  std::deque<Digest> unstored_queue_ ABSL_GUARDED_BY(mu_);
  int64_t unstored_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int unstored_waiters_ ABSL_GUARDED_BY(mu_) = 0;         // For such jobs.
  std::array<int, 3> running_ ABSL_GUARDED_BY(mu_) = {};  // Tasks, by Work.
  int64_t waiting_ ABSL_GUARDED_BY(mu_) = 0;
  int hastes_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_stopped_ ABSL_GUARDED_BY(mu_) = false;
  CondVar work_;

  std::vector<std::thread> threads_;  // Started last.
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_FETCHER_H_
