#include "remote/in_flight.h"

#include "absl/strings/str_cat.h"
#include "remote/tries.h"

namespace casement {

void InFlight::Cancel() {
  MutexLock lock(mu_);
  is_cancelled_ = true;
  // Only marks them, and wakes their threads.
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  changed_.NotifyAll();
}

bool InFlight::is_cancelled() const {
  MutexLock lock(mu_);
  return is_cancelled_;
}

bool InFlight::Sleep(absl::Duration duration) {
  const SteadyDeadline end(duration);
  MutexLock lock(mu_);
  while (!is_cancelled_) {
    const absl::Duration left = end.left();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(mu_, left);
  }
  return false;
}

absl::Status InFlight::Enter(grpc::ClientContext& context,
                             absl::Duration patience) {
  const SteadyDeadline end(patience);
  MutexLock lock(mu_);
  while (!is_cancelled_ && contexts_.size() >= calls_max_) {
    const absl::Duration left = end.left();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("no place among the ", calls_max_, " calls in ",
                       absl::FormatDuration(patience)));
    }
    changed_.WaitFor(mu_, left);
  }
  if (is_cancelled_) return absl::CancelledError("cancelled");
  contexts_.insert(&context);
  return absl::OkStatus();
}

void InFlight::Leave(grpc::ClientContext& context) {
  MutexLock lock(mu_);
  contexts_.erase(&context);
  changed_.NotifyAll();
}

}  // namespace casement
