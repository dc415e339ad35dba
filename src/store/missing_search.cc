#include "store/missing_search.h"

#include <utility>

namespace casement {
namespace {

// Enough to be worth a message, and few enough to be on the way soon.
constexpr size_t kPartBlobs = 8000;
constexpr size_t kPartsAtOnce = 8;

}  // namespace

void MissingSearch::Add(const Digest& digest) {
  next_.push_back(digest);
  if (next_.size() >= kPartBlobs) Ask();
}

void MissingSearch::Ask() {
  if (next_.empty()) return;
  if (threads_.size() < kPartsAtOnce) threads_.emplace_back();
  SideThread& thread = threads_[parts_++ % kPartsAtOnce];
  thread.Run([this, part = std::exchange(next_, {})] {
    const absl::StatusOr<std::vector<Digest>> missing =
        fetcher_.FindMissing(part);
    MutexLock lock(mu_);
    if (missing.ok()) {
      missing_.insert(missing->begin(), missing->end());
    } else if (error_.ok()) {
      error_ = missing.status();
    }
  });
}

absl::StatusOr<std::vector<Digest>> MissingSearch::Finish() {
  Ask();
  for (SideThread& thread : threads_) thread.Wait();
  MutexLock lock(mu_);
  if (!error_.ok()) return error_;
  return std::vector<Digest>(missing_.begin(), missing_.end());
}

}  // namespace casement
