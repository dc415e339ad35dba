// When a call is tried again, and when it is given up.
#ifndef CASEMENT_REMOTE_TRIES_H_
#define CASEMENT_REMOTE_TRIES_H_

#include <atomic>
#include <chrono>  // NOLINT
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "remote/in_flight.h"

namespace casement {

// A point in time that a change of the host's clock does not move.
class SteadyDeadline {
 public:
  explicit SteadyDeadline(absl::Duration timeout)
      : end_(std::chrono::steady_clock::now() +
             absl::ToChronoNanoseconds(timeout)) {}

  absl::Duration left() const {
    return absl::FromChrono(end_ - std::chrono::steady_clock::now());
  }

 private:
  std::chrono::steady_clock::time_point end_;
};

// As gRPC wants it.
inline std::chrono::system_clock::time_point GrpcDeadline(
    absl::Duration timeout) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             absl::ToChronoNanoseconds(timeout));
}

// The tries of one call. `timeout` is for all of them together, waits included,
// and begins again with each progress. Of one thread.
class Tries {
 public:
  Tries(InFlight& in_flight, absl::Duration timeout,
        std::atomic<int64_t>& retries);

  absl::Duration timeout() const { return timeout_; }
  absl::Duration left() const { return end_.left(); }
  // An exchange worked: what failed before it is over.
  void Worked();
  // The same, and the time begins again: bytes have come or gone that had not
  // before.
  void Progress();

  // After a failed try: whether to try again, having waited a while. If not,
  // the result is what to tell of it in `failed`.
  bool Again(absl::Status& failed);

 private:
  InFlight& in_flight_;
  const absl::Duration timeout_;
  std::atomic<int64_t>& retries_;
  SteadyDeadline end_;
  absl::Duration backoff_;
  absl::Status last_failure_;  // That was worth another try.
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_TRIES_H_
