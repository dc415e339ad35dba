// The streams that clients keep open for as long as they want what they asked
// for: the server cancels them when it ends.
//
// Thread safe.
#ifndef CASEMENT_CONTROL_OPEN_STREAMS_H_
#define CASEMENT_CONTROL_OPEN_STREAMS_H_

#include <grpcpp/server_context.h>

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"

namespace casement {

class OpenStreams {
 public:
  // At most `max` at a time.
  explicit OpenStreams(size_t max = SIZE_MAX) : max_(max) {}

  // False if there are that many already. Else Remove() it before it ends.
  bool Add(grpc::ServerContext* stream) {
    MutexLock lock(mu_);
    if (streams_.size() >= max_) return false;
    streams_.insert(stream);
    if (is_ending_) stream->TryCancel();
    return true;
  }
  void Remove(grpc::ServerContext* stream) {
    MutexLock lock(mu_);
    streams_.erase(stream);
  }
  // Cancels all, those to come as well.
  void End() {
    MutexLock lock(mu_);
    is_ending_ = true;
    for (grpc::ServerContext* const stream : streams_) stream->TryCancel();
  }

 private:
  const size_t max_;
  Mutex mu_;
  absl::flat_hash_set<grpc::ServerContext*> streams_ ABSL_GUARDED_BY(mu_);
  bool is_ending_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_OPEN_STREAMS_H_
