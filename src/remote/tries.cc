#include "remote/tries.h"

#include <algorithm>
#include <random>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace casement {
namespace {

// Doubled from one to the other. A remote that restarts is used again within a
// second; one that is overloaded gets one call a second of each that waits.
constexpr absl::Duration kBackoffMin = absl::Milliseconds(50);
constexpr absl::Duration kBackoffMax = absl::Seconds(1);

// Whether the same call may get through later. All calls here may be made
// twice: blobs are named by their content.
bool IsPassing(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
      return true;
    // What gRPC makes of a stream that was reset, and of a connection that
    // went away under it.
    case absl::StatusCode::kInternal:
      return absl::StrContains(status.message(), "RST_STREAM");
    case absl::StatusCode::kUnknown:
      return absl::StrContains(status.message(), "Stream removed");
    default:
      return false;
  }
}

// Between half of it and all, so that many who failed together do not come
// back together.
absl::Duration Jittered(absl::Duration backoff) {
  std::random_device random;
  return backoff * std::uniform_real_distribution<double>(0.5, 1)(random);
}

}  // namespace

Tries::Tries(InFlight& in_flight, absl::Duration timeout,
             std::atomic<int64_t>& retries)
    : in_flight_(in_flight),
      timeout_(timeout),
      retries_(retries),
      end_(timeout),
      backoff_(kBackoffMin) {}

void Tries::Worked() {
  backoff_ = kBackoffMin;
  last_failure_ = absl::OkStatus();
}

void Tries::Progress() {
  Worked();
  end_ = SteadyDeadline(timeout_);
}

bool Tries::Again(absl::Status& failed) {
  if (in_flight_.is_cancelled()) {
    failed = absl::CancelledError("cancelled");
    return false;
  }
  if (absl::IsCancelled(failed)) {
    // Not by us: by a server that goes down, or by something between.
    failed = absl::UnavailableError(
        absl::StrCat("the remote cancelled the call: ", failed.message()));
  }
  if (absl::IsDeadlineExceeded(failed) && !last_failure_.ok()) {
    // Says more than that time was up in the middle of another try.
    failed = last_failure_;
    return false;
  }
  if (!IsPassing(failed)) return false;
  const absl::Duration wait = Jittered(backoff_);
  if (wait >= left()) return false;
  last_failure_ = failed;
  if (!in_flight_.Sleep(wait)) {
    failed = absl::CancelledError("cancelled");
    return false;
  }
  backoff_ = std::min(backoff_ * 2, kBackoffMax);
  retries_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace casement
