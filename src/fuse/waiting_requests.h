// Requests that wait for a blob which has to be fetched first. They hold no
// thread of libfuse's meanwhile, so that requests for what is here are answered
// however slow the remote cache is; and a caller that gets a signal is let go
// at once (EINTR).
//
// Thread safe.
#ifndef CASEMENT_FUSE_WAITING_REQUESTS_H_
#define CASEMENT_FUSE_WAITING_REQUESTS_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <thread>  // NOLINT
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "fuse/libfuse.h"
#include "store/blob_fetcher.h"

namespace casement {

class WaitingRequests {
 public:
  explicit WaitingRequests(BlobFetcher& fetcher);
  ~WaitingRequests();

  // Handles the request once more, from its beginning; replies.
  using Again = std::function<void(fuse_req_t)>;
  // True if `status` says that a blob must be fetched first: then `req` is
  // answered later, by `again` when the blob has come, else with the errno of
  // what went wrong. A blob that nobody has is `missing_errno`.
  bool Take(fuse_req_t req, const absl::Status& status, int missing_errno,
            Again again);
  // Whether this thread handles a request once more.
  static bool IsAgain();

  // Answers all that wait, and waits for that. The fetcher must have stopped.
  void Stop();

 private:
  struct Waiting {
    fuse_req_t req = nullptr;
    Again again;
    int missing_errno = 0;
    int tries = 0;  // How often it has waited, this time included.
    // Nobody may answer before Take() has left the request alone.
    bool is_armed = false;
    std::optional<absl::Status> result;
  };

  static void OnInterrupt(fuse_req_t req, void* id);
  void Finish(uint64_t id, const absl::Status& result);
  void FinishLocked(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Arm(uint64_t id);
  void Work();
  static void Answer(const Waiting& waiting);

  BlobFetcher& fetcher_;
  Mutex mu_;
  absl::flat_hash_map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mu_);
  std::deque<Waiting> ready_ ABSL_GUARDED_BY(mu_);
  uint64_t last_id_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_stopped_ ABSL_GUARDED_BY(mu_) = false;
  CondVar work_;
  std::vector<std::thread> threads_;  // Started last.
};

}  // namespace casement

#endif  // CASEMENT_FUSE_WAITING_REQUESTS_H_
