// Keeps work below a share of the time, however many threads do it.
//
// Pure arithmetic: the caller brings the time, which never goes back, and does
// the waiting. The time counts in which any thread is at work, so that for the
// rest of it nobody is. Thread safe.
#ifndef CASEMENT_STORE_DISK_SHARE_H_
#define CASEMENT_STORE_DISK_SHARE_H_

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "base/mutex.h"

namespace casement {

class DiskShare {
 public:
  // `percent` is from 1 to 100, which never waits.
  explicit DiskShare(int percent) : percent_(percent) {}

  // Zero: a piece of work has begun, and End() must follow. Else nothing has,
  // and it is worth asking again after so long.
  absl::Duration TryBegin(absl::Duration now);
  void End(absl::Duration now);

 private:
  const int percent_;
  Mutex mu_;
  // What was worked since `origin_` is at most the share of the time since
  // then. It moves, so that a pause earns nobody a long burst.
  absl::Duration origin_ ABSL_GUARDED_BY(mu_) = absl::InfiniteDuration();
  absl::Duration worked_ ABSL_GUARDED_BY(mu_);
  absl::Duration begun_ ABSL_GUARDED_BY(mu_);  // When the first of them began.
  int working_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_STORE_DISK_SHARE_H_
