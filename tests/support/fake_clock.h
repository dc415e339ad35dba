// A clock that a test moves.
#ifndef CASEMENT_TESTS_SUPPORT_FAKE_CLOCK_H_
#define CASEMENT_TESTS_SUPPORT_FAKE_CLOCK_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "base/clock.h"

namespace casement {

// Thread safe.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override {
    return absl::FromUnixNanos(now_ns_.load());
  }
  void Advance(absl::Duration duration) {
    now_ns_.fetch_add(absl::ToInt64Nanoseconds(duration));
  }

 private:
  std::atomic<int64_t> now_ns_{int64_t{1'700'000'000'000'000'000}};
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_FAKE_CLOCK_H_
