#include "store/blob_sender.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/status.h"
#include "casement/digest.h"

namespace casement {
namespace {

// Of a large blob, read at once: what a RemoteCas sends in one message.
constexpr int64_t kPieceBytes = int64_t{512} << 10;

absl::Status Stopped() {
  return absl::CancelledError("no blobs are sent any more");
}

bool SaysUnreachable(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

}  // namespace

void BlobSender::Sending::Add(const Digest& digest) {
  if (!added_.insert(digest).second) return;
  sender_.Want(digest, answers_.For(digest));
}

BlobSender::BlobSender(BlobStore& store, BlobSource& source, Options options)
    : store_(store), source_(source), options_(options) {
  for (int i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

BlobSender::~BlobSender() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void BlobSender::Stop() {
  absl::flat_hash_map<Digest, Job> jobs;
  {
    MutexLock lock(mu_);
    is_stopped_ = true;
    jobs.swap(jobs_);
    unasked_.clear();
    unsent_small_.clear();
    unsent_large_.clear();
    work_.NotifyAll();
    room_.NotifyAll();
  }
  source_.Cancel();
  for (const auto& [digest, job] : jobs) {
    for (const Done& done : job.waiters) done(Stopped());
  }
}

bool BlobSender::IsSmall(const Digest& digest) const {
  return digest.size_bytes() <=
         std::min(options_.small_bytes, source_.small_bytes_max());
}

void BlobSender::Want(const Digest& digest, Done done) {
  absl::StatusOr<Lease> lease = store_.LeaseBlob(digest);
  {
    MutexLock lock(mu_);
    while (!is_stopped_ && jobs_.size() >= options_.blobs_max &&
           !jobs_.contains(digest)) {
      room_.Wait(mu_);
    }
    if (!is_stopped_) {
      const auto [found, is_new] = jobs_.try_emplace(digest);
      Job& job = found->second;
      job.waiters.push_back(std::move(done));
      if (lease.ok() && !job.lease.has_value()) job.lease = *std::move(lease);
      if (!is_new) return;
      job.number = next_number_++;
      unasked_.push_back(digest);
      work_.NotifyOne();
      return;
    }
  }
  done(Stopped());
}

void BlobSender::Work() {
  for (;;) {
    Task task;
    {
      MutexLock lock(mu_);
      while (!is_stopped_ && (task = TakeLocked()).digests.empty()) {
        work_.Wait(mu_);
      }
      if (is_stopped_) return;
    }
    Settle(task, Do(task));
  }
}

BlobSender::Task BlobSender::TakeLocked() {
  Task task = {.end = next_number_, .worked = worked_};
  // What was asked for first is done first.
  TakeUnsentLocked(task);
  if (!task.digests.empty()) return task;
  const auto count = static_cast<std::ptrdiff_t>(
      std::min(unasked_.size(), options_.asked_max));
  task.digests.assign(unasked_.begin(), unasked_.begin() + count);
  unasked_.erase(unasked_.begin(), unasked_.begin() + count);
  return task;
}

uint64_t BlobSender::FirstLocked(const std::deque<Digest>& queue) const {
  return queue.empty() ? UINT64_MAX : jobs_.at(queue.front()).number;
}

void BlobSender::TakeUnsentLocked(Task& task) {
  if (FirstLocked(unsent_large_) < FirstLocked(unsent_small_)) {
    task.kind = Task::Kind::kSendLarge;
    task.digests.push_back(unsent_large_.front());
    unsent_large_.pop_front();
    return;
  }
  int64_t bytes = 0;
  while (!unsent_small_.empty() &&
         task.digests.size() < source_.small_blobs_max()) {
    const Digest digest = unsent_small_.front();
    bytes += digest.size_bytes();
    if (!task.digests.empty() && bytes > options_.batch_bytes) break;
    task.kind = Task::Kind::kSendSmall;
    task.digests.push_back(digest);
    unsent_small_.pop_front();
  }
}

absl::Status BlobSender::Do(const Task& task) {
  switch (task.kind) {
    case Task::Kind::kAsk:
      return Ask(task.digests);
    case Task::Kind::kSendSmall:
      return SendSmall(task.digests);
    case Task::Kind::kSendLarge:
      return SendLarge(task.digests.front());
  }
  return absl::OkStatus();
}

absl::Status BlobSender::Ask(const std::vector<Digest>& digests) {
  const absl::StatusOr<std::vector<Digest>> missing =
      source_.FindMissing(digests);
  if (!missing.ok()) {
    for (const Digest& digest : digests) {
      Finish(digest, missing.status(), /*was_sent=*/false);
    }
    return missing.status();
  }
  const absl::flat_hash_set<Digest> lacking(missing->begin(), missing->end());
  for (const Digest& digest : digests) {
    if (lacking.contains(digest)) continue;
    Finish(digest, absl::OkStatus(), /*was_sent=*/false);
  }
  MutexLock lock(mu_);
  if (is_stopped_) return absl::OkStatus();
  for (const Digest& digest : digests) {
    if (!lacking.contains(digest)) continue;
    (IsSmall(digest) ? unsent_small_ : unsent_large_).push_back(digest);
  }
  work_.NotifyAll();
  return absl::OkStatus();
}

absl::Status BlobSender::SendSmall(const std::vector<Digest>& digests) {
  std::vector<BlobSource::SmallBlob> blobs;
  for (const Digest& digest : digests) {
    absl::StatusOr<std::string> bytes =
        store_.Read(digest, options_.small_bytes);
    if (bytes.ok()) {
      blobs.push_back({.digest = digest, .bytes = *std::move(bytes)});
    } else {
      Finish(digest, bytes.status(), /*was_sent=*/false);
    }
  }
  if (blobs.empty()) return absl::OkStatus();
  bool has_worked = false;
  absl::Status failed;
  source_.SendSmall(blobs,
                    [&](const Digest& digest, const absl::Status& status) {
                      has_worked = has_worked || status.ok();
                      if (!status.ok()) failed = status;
                      Finish(digest, status, /*was_sent=*/status.ok());
                    });
  return has_worked ? absl::OkStatus() : failed;
}

absl::Status BlobSender::SendLarge(const Digest& digest) {
  absl::Status sent = SendBytes(digest);
  Finish(digest, sent, /*was_sent=*/sent.ok());
  return sent;
}

absl::Status BlobSender::SendBytes(const Digest& digest) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   store_.OpenDigest(digest));
  std::string piece(
      static_cast<size_t>(std::min(kPieceBytes, digest.size_bytes())), '\0');
  return source_.Send(
      digest, [&](int64_t offset) -> absl::StatusOr<absl::string_view> {
        ASSIGN_OR_RETURN(
            const size_t count,
            store_.ReadPiece(*blob, offset, absl::MakeSpan(piece)));
        return absl::string_view(piece).substr(0, count);
      });
}

void BlobSender::Settle(const Task& task, const absl::Status& status) {
  std::vector<Digest> failed;
  {
    MutexLock lock(mu_);
    if (!SaysUnreachable(status)) {
      ++worked_;
      return;
    }
    if (worked_ != task.worked) return;
    for (std::deque<Digest>* const queue :
         {&unasked_, &unsent_small_, &unsent_large_}) {
      std::deque<Digest> later;
      for (const Digest& digest : *queue) {
        const bool fails = jobs_.at(digest).number < task.end;
        if (fails) failed.push_back(digest);
        if (!fails) later.push_back(digest);
      }
      queue->swap(later);
    }
  }
  for (const Digest& digest : failed) {
    Finish(digest, status, /*was_sent=*/false);
  }
}

void BlobSender::Finish(const Digest& digest, const absl::Status& status,
                        bool was_sent) {
  Job job;
  {
    MutexLock lock(mu_);
    const auto found = jobs_.find(digest);
    if (found == jobs_.end()) return;
    job = std::move(found->second);
    jobs_.erase(found);
    if (was_sent) {
      ++sent_;
      sent_bytes_ += digest.size_bytes();
    }
    if (!status.ok()) ++failed_;
    room_.NotifyAll();
  }
  job.lease.reset();
  for (const Done& done : job.waiters) done(status);
}

BlobSender::Stats BlobSender::GetStats() const {
  MutexLock lock(mu_);
  return {.sent = sent_,
          .sent_bytes = sent_bytes_,
          .failed = failed_,
          .waiting = static_cast<int64_t>(jobs_.size())};
}

}  // namespace casement
