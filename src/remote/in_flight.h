// The calls to a remote that are under way: so many at most, and all of them
// can be ended at once.
//
// Thread safe.
#ifndef CASEMENT_REMOTE_IN_FLIGHT_H_
#define CASEMENT_REMOTE_IN_FLIGHT_H_

#include <grpcpp/client_context.h>

#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace casement {

class InFlight {
 public:
  explicit InFlight(size_t calls_max) : calls_max_(calls_max) {}
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

  // Ends all calls, and those that come later before they begin.
  void Cancel();
  bool is_cancelled() const;
  // False if Cancel() came first.
  bool Sleep(absl::Duration duration);

 private:
  friend class OneCall;
  absl::Status Enter(grpc::ClientContext& context, absl::Duration patience);
  void Leave(grpc::ClientContext& context);

  const size_t calls_max_;
  mutable Mutex mu_;
  CondVar changed_;
  bool is_cancelled_ ABSL_GUARDED_BY(mu_) = false;
  absl::flat_hash_set<grpc::ClientContext*> contexts_ ABSL_GUARDED_BY(mu_);
};

// One call's context, and its place among them. Of one thread.
class OneCall {
 public:
  explicit OneCall(InFlight& in_flight) : in_flight_(in_flight) {}
  ~OneCall() {
    if (has_place_) in_flight_.Leave(context_);
  }
  OneCall(const OneCall&) = delete;
  OneCall& operator=(const OneCall&) = delete;

  // Waits for a place, before the call begins. Cancelled, or DeadlineExceeded
  // if `patience` passed first.
  absl::Status Begin(absl::Duration patience) {
    const absl::Status entered = in_flight_.Enter(context_, patience);
    has_place_ = entered.ok();
    return entered;
  }
  grpc::ClientContext& context() { return context_; }

 private:
  InFlight& in_flight_;
  grpc::ClientContext context_;
  bool has_place_ = false;
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_IN_FLIGHT_H_
