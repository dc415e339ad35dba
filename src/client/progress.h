// Gathers a PutTree()'s progress from many threads. Thread safe.
#ifndef CASEMENT_CLIENT_PROGRESS_H_
#define CASEMENT_CLIENT_PROGRESS_H_

#include <functional>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "casement/client.h"

namespace casement {

class ProgressGatherer {
 public:
  using Listener = std::function<void(const TreeProgress&)>;
  // `listener` may be null.
  explicit ProgressGatherer(Listener listener)
      : listener_(std::move(listener)) {}

  // Calls `change` with what is known so far, and now and then the listener.
  template <typename Change>
  void Update(const Change& change) {
    MutexLock lock(mu_);
    change(progress_);
    if (!listener_) return;
    const absl::Time now = absl::Now();
    if (now - told_ < kInterval) return;
    told_ = now;
    listener_(progress_);
  }
  // Tells the listener once more, and returns all.
  TreeProgress Finish() {
    MutexLock lock(mu_);
    if (listener_) listener_(progress_);
    return progress_;
  }

 private:
  // More often than this nobody can read.
  static constexpr absl::Duration kInterval = absl::Milliseconds(100);

  const Listener listener_;
  Mutex mu_;
  TreeProgress progress_ ABSL_GUARDED_BY(mu_);
  absl::Time told_ ABSL_GUARDED_BY(mu_) = absl::InfinitePast();
};

}  // namespace casement

#endif  // CASEMENT_CLIENT_PROGRESS_H_
