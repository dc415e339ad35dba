#include "store/disk_share.h"

#include <algorithm>

#include "absl/time/time.h"
#include "base/mutex.h"

namespace casement {
namespace {

// What was not used of the share is kept for so long: sleeping takes longer
// than asked for, and that must not add up.
constexpr absl::Duration kCredit = absl::Milliseconds(100);

}  // namespace

absl::Duration DiskShare::TryBegin(absl::Duration now) {
  if (percent_ >= 100) return absl::ZeroDuration();
  MutexLock lock(mu_);
  origin_ = std::min(origin_, now);
  const absl::Duration worked =
      worked_ + (working_ > 0 ? now - begun_ : absl::ZeroDuration());
  const absl::Duration due = origin_ + worked * 100 / percent_;
  if (due > now) return due - now;
  origin_ += std::max(now - due - kCredit, absl::ZeroDuration());
  if (working_++ == 0) begun_ = now;
  return absl::ZeroDuration();
}

void DiskShare::End(absl::Duration now) {
  if (percent_ >= 100) return;
  MutexLock lock(mu_);
  if (--working_ == 0) worked_ += now - begun_;
}

}  // namespace casement
