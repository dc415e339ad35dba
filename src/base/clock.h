// The time, as something that a test can replace.
#ifndef CASEMENT_BASE_CLOCK_H_
#define CASEMENT_BASE_CLOCK_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace casement {

// Thread safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class SystemClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

}  // namespace casement

#endif  // CASEMENT_BASE_CLOCK_H_
