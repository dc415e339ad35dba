// Sends blobs of the store to a BlobSource: each once however many ask at a
// time, and only what the source lacks, in threads of its own.
//
// Thread safe. A blob that is here is leased until it is there. Small blobs
// travel together. A send that failed is forgotten: the next one that wants the
// blob there tries again.
//
// While the source cannot be reached, what waits for its turn does not wait for
// ever: with a call that was begun after it was asked for and failed with
// Unavailable or DeadlineExceeded, it fails too, unless another call worked
// meanwhile.
//
// Why a blob is not there: NotFound, neither is it here; DataLoss, it is
// damaged; Cancelled, after Stop(); or what the source said.
#ifndef CASEMENT_STORE_BLOB_SENDER_H_
#define CASEMENT_STORE_BLOB_SENDER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <thread>  // NOLINT
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "casement/digest.h"
#include "store/blob_answers.h"
#include "store/blob_source.h"
#include "store/blob_store.h"

namespace casement {

class BlobSender {
 public:
  struct Options {
    int threads = 16;
    // Blobs up to this size travel together, at most so many bytes of them.
    int64_t small_bytes = int64_t{256} << 10;
    int64_t batch_bytes = int64_t{2} << 20;
    // The source is asked for so many at once whether it has them.
    size_t asked_max = 1000;
    // Blobs that wait or are on their way; who asks for more waits.
    size_t blobs_max = size_t{1} << 16;
  };

  // Both must outlive this; `source` is cancelled at the end.
  BlobSender(BlobStore& store, BlobSource& source, Options options);
  ~BlobSender();

  using Done = BlobAnswers::Done;
  // Calls `done` once, in another thread or, if it is known at once, in this
  // one: the source has the blob, or why it has not. It must not block.
  void Want(const Digest& digest, Done done);

  // What one caller wants there. For one thread. It may be dropped early; what
  // was added is sent all the same.
  class Sending {
   public:
    explicit Sending(BlobSender& sender) : sender_(sender) {}
    // Begins to send it, once however often it is added.
    void Add(const Digest& digest);
    // Waits for all of them. The first error; but NotFound only if there is no
    // other, as MissingBlobsStatus() of all that nobody has.
    absl::Status Wait() { return answers_.Wait(); }

   private:
    BlobSender& sender_;
    absl::flat_hash_set<Digest> added_;
    BlobAnswers answers_;
  };

  // Ends all that is under way, and what is asked for from now on.
  void Stop();

  struct Stats {
    int64_t sent = 0;  // Blobs, since the start; as the following two.
    int64_t sent_bytes = 0;
    int64_t failed = 0;
    int64_t waiting = 0;  // Blobs that wait or are on their way.
  };
  Stats GetStats() const;

 private:
  struct Job {
    std::vector<Done> waiters;
    std::optional<Lease> lease;  // None: it is not here.
    uint64_t number = 0;         // In the order in which they were asked for.
  };
  // What a thread does next, with blobs that no other has.
  struct Task {
    enum class Kind : uint8_t { kAsk, kSendSmall, kSendLarge };
    Kind kind = Kind::kAsk;
    std::vector<Digest> digests;  // None: nothing.
    uint64_t end = 0;             // Later jobs have this number, or a higher.
    uint64_t worked = 0;          // As worked_ was.
  };

  void Work();
  Task TakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // One large blob or some small ones that the source lacks, the older first.
  void TakeUnsentLocked(Task& task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Its first job's number.
  uint64_t FirstLocked(const std::deque<Digest>& queue) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // These do a task, and say how its call to the source went.
  absl::Status Do(const Task& task);
  absl::Status Ask(const std::vector<Digest>& digests);
  absl::Status SendSmall(const std::vector<Digest>& digests);
  absl::Status SendLarge(const Digest& digest);
  absl::Status SendBytes(const Digest& digest);
  // After a task: what its result means for blobs that wait.
  void Settle(const Task& task, const absl::Status& status);
  void Finish(const Digest& digest, const absl::Status& status, bool was_sent);
  bool IsSmall(const Digest& digest) const;

  BlobStore& store_;  // These are set once.
  BlobSource& source_;
  const Options options_;

  mutable Mutex mu_;
  CondVar work_;
  CondVar room_;
  absl::flat_hash_map<Digest, Job> jobs_ ABSL_GUARDED_BY(mu_);
  // Digests of jobs that no thread has: the source was not asked for them yet,
  // or lacks them.
  std::deque<Digest> unasked_ ABSL_GUARDED_BY(mu_);
  std::deque<Digest> unsent_small_ ABSL_GUARDED_BY(mu_);
  std::deque<Digest> unsent_large_ ABSL_GUARDED_BY(mu_);
  uint64_t next_number_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t worked_ ABSL_GUARDED_BY(mu_) = 0;  // Calls to the source.
  int64_t sent_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t sent_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t failed_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_stopped_ ABSL_GUARDED_BY(mu_) = false;

  std::vector<std::thread> threads_;  // Started last.
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_SENDER_H_
