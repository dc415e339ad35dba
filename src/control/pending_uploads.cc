#include "control/pending_uploads.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"

namespace casement {

PendingUploads::PendingUploads(Options options)
    : options_(options), thread_([this] { Run(); }) {}

PendingUploads::~PendingUploads() {
  {
    MutexLock lock(mu_);
    stop_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void PendingUploads::Run() {
  for (;;) {
    KeptList gone;  // Destroyed without the mutex.
    MutexLock lock(mu_);
    if (stop_) return;
    if (kept_.empty()) {
      changed_.Wait(mu_);
      continue;
    }
    const absl::Duration left = kept_.front().end - absl::Now();
    if (left > absl::ZeroDuration()) {
      changed_.WaitFor(mu_, left);
    } else {
      RemoveLocked(kept_.begin(), gone);
    }
  }
}

PendingUploads::KeptList::iterator PendingUploads::FindLocked(
    absl::string_view name) {
  return std::find_if(kept_.begin(), kept_.end(),
                      [name](const Kept& kept) { return kept.name == name; });
}

void PendingUploads::RemoveLocked(KeptList::iterator kept, KeptList& gone) {
  bytes_ -= kept->upload->written_bytes();
  gone.splice(gone.end(), kept_, kept);
}

void PendingUploads::Keep(absl::string_view name,
                          std::unique_ptr<Upload> upload) {
  const int64_t bytes = upload->written_bytes();
  if (bytes > options_.bytes_max) return;
  KeptList gone;
  MutexLock lock(mu_);
  if (const auto before = FindLocked(name); before != kept_.end()) {
    RemoveLocked(before, gone);
  }
  bytes_ += bytes;
  kept_.push_back({.name = std::string(name),
                   .upload = std::move(upload),
                   .end = absl::Now() + options_.patience});
  while (kept_.size() > options_.uploads_max || bytes_ > options_.bytes_max) {
    RemoveLocked(kept_.begin(), gone);
  }
  changed_.NotifyAll();
}

std::optional<int64_t> PendingUploads::WrittenBytes(
    absl::string_view name) const {
  MutexLock lock(mu_);
  for (const Kept& kept : kept_) {
    if (kept.name == name) return kept.upload->written_bytes();
  }
  return std::nullopt;
}

std::unique_ptr<Upload> PendingUploads::Take(absl::string_view name,
                                             int64_t written_bytes) {
  KeptList taken;
  MutexLock lock(mu_);
  const auto kept = FindLocked(name);
  if (kept == kept_.end() || kept->upload->written_bytes() != written_bytes) {
    return nullptr;
  }
  RemoveLocked(kept, taken);
  return std::move(taken.front().upload);
}

void PendingUploads::Drop(absl::string_view name) {
  KeptList gone;
  MutexLock lock(mu_);
  if (const auto kept = FindLocked(name); kept != kept_.end()) {
    RemoveLocked(kept, gone);
  }
}

}  // namespace casement
