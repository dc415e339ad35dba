#include "store/blob_fetcher.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "store/blob_answers.h"
#include "store/damaged.h"

namespace casement {
namespace {

absl::Status Stopped() {
  return absl::CancelledError("no blobs are fetched any more");
}

// What the store says of bytes that are not the digest's.
absl::Status OrWrongBytes(const absl::Status& kept, const Digest& digest) {
  if (!absl::IsInvalidArgument(kept)) return kept;
  return DamagedBlobStatus(digest, "the remote cache sent other bytes");
}

}  // namespace

// What has come of a blob, and who has read it. Thread safe.
class BlobFetcher::Arriving {
 public:
  explicit Arriving(const Upload& upload) : upload_(&upload) {}

  std::optional<size_t> Read(const Digest& digest, int64_t offset,
                             absl::Span<char> buffer, uint64_t reader,
                             const std::function<void()>& retract) {
    const int64_t end = std::min(offset + static_cast<int64_t>(buffer.size()),
                                 digest.size_bytes());
    MutexLock lock(mu_);
    if (upload_ == nullptr || end > bytes_) return std::nullopt;
    const absl::StatusOr<size_t> got = upload_->Read(offset, buffer);
    if (!got.ok()) return std::nullopt;
    readers_.try_emplace(reader, retract);
    return *got;
  }

  bool Has(int64_t bytes) const {
    MutexLock lock(mu_);
    return upload_ != nullptr && bytes <= bytes_;
  }
  void SetBytes(int64_t bytes) {
    MutexLock lock(mu_);
    bytes_ = bytes;
  }
  // Nothing is read from the upload any more.
  void End() {
    MutexLock lock(mu_);
    upload_ = nullptr;
  }
  void Retract() {
    absl::flat_hash_map<uint64_t, std::function<void()>> readers;
    {
      MutexLock lock(mu_);
      readers.swap(readers_);
    }
    for (const auto& [reader, retract] : readers) retract();
  }

 private:
  mutable Mutex mu_;  // A leaf.
  const Upload* upload_ ABSL_GUARDED_BY(mu_);
  int64_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  absl::flat_hash_map<uint64_t, std::function<void()>> readers_
      ABSL_GUARDED_BY(mu_);
};

BlobFetcher::BlobFetcher(BlobStore& store, BlobSource& source, Options options)
    : store_(store), source_(source), options_(options) {
  for (int i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

BlobFetcher::~BlobFetcher() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void BlobFetcher::Stop() {
  std::vector<Waiter> waiters;
  {
    MutexLock lock(mu_);
    is_stopped_ = true;
    for (auto& [digest, job] : jobs_) {
      std::move(job.waiters.begin(), job.waiters.end(),
                std::back_inserter(waiters));
      job.waiters.clear();
    }
    waiting_ = 0;
  }
  work_.NotifyAll();
  source_.Cancel();
  for (const Waiter& waiter : waiters) waiter.done(Stopped());
}

bool BlobFetcher::IsSmall(const Digest& digest) const {
  return digest.size_bytes() <=
         std::min(options_.small_bytes, source_.small_bytes_max());
}

void BlobFetcher::Want(const Digest& digest, int64_t upto, Done done) {
  absl::Status now = Stopped();
  {
    MutexLock lock(mu_);
    if (!is_stopped_) {
      Job& job = WantLocked(digest);
      work_.NotifyOne();
      if (upto == digest.size_bytes() || job.arriving == nullptr ||
          !job.arriving->Has(upto)) {
        job.waiters.push_back({std::move(done), upto});
        ++waiting_;
        return;
      }
      now = absl::OkStatus();
    }
  }
  done(now);
}

BlobFetcher::Job& BlobFetcher::WantLocked(const Digest& digest) {
  Job& job = jobs_[digest];
  if (!job.is_running && !job.is_wanted) wanted_queue_.push_back(digest);
  job.is_wanted = true;
  return job;
}

void BlobFetcher::WantAll(absl::Span<const Digest> digests,
                          absl::FunctionRef<Done(const Digest&)> done_for) {
  if (digests.empty()) return;  // Nobody need wake up.
  {
    MutexLock lock(mu_);
    if (!is_stopped_) {
      for (const Digest& digest : digests) {
        WantLocked(digest).waiters.push_back(
            {done_for(digest), digest.size_bytes()});
      }
      waiting_ += static_cast<int64_t>(digests.size());
      work_.NotifyAll();
      return;
    }
  }
  for (const Digest& digest : digests) done_for(digest)(Stopped());
}

absl::Status BlobFetcher::FetchAll(absl::Span<const Digest> digests) {
  BlobAnswers answers;
  WantAll(store_.Missing(digests),
          [&answers](const Digest& digest) { return answers.For(digest); });
  return answers.Wait();
}

void BlobFetcher::FetchAhead(absl::Span<const Digest> digests) {
  const std::vector<Digest> absent = store_.Missing(digests);
  MutexLock lock(mu_);
  for (const Digest& digest : absent) {
    if (is_stopped_ || ahead_queue_.size() >= options_.ahead_max) break;
    if (jobs_.try_emplace(digest).second) ahead_queue_.push_back(digest);
  }
  work_.NotifyAll();
}

absl::StatusOr<std::vector<Digest>> BlobFetcher::FindMissing(
    absl::Span<const Digest> digests) {
  const std::vector<Digest> absent = store_.Missing(digests);
  if (absent.empty()) return absent;
  return source_.FindMissing(absent);
}

bool BlobFetcher::TakeFromLocked(std::deque<Digest>& queue,
                                 std::vector<Digest>& batch, int64_t& bytes) {
  const Digest digest = queue.front();
  const auto found = jobs_.find(digest);
  if (found != jobs_.end() && !found->second.is_running) {
    if (!batch.empty() && (!IsSmall(digest) ||
                           bytes + digest.size_bytes() > options_.batch_bytes ||
                           batch.size() >= source_.small_blobs_max())) {
      return false;
    }
    found->second.is_running = true;
    batch.push_back(digest);
    bytes += digest.size_bytes();
  }
  queue.pop_front();
  return batch.empty() || IsSmall(batch.front());
}

std::vector<Digest> BlobFetcher::TakeLocked(bool& is_ahead) {
  std::vector<Digest> batch;
  int64_t bytes = 0;
  while (!wanted_queue_.empty() &&
         TakeFromLocked(wanted_queue_, batch, bytes)) {
  }
  // Half of the threads stay free for what somebody waits for.
  if (!batch.empty() || running_ahead_ >= (options_.threads + 1) / 2) {
    return batch;
  }
  while (!ahead_queue_.empty() && TakeFromLocked(ahead_queue_, batch, bytes)) {
  }
  is_ahead = !batch.empty();
  if (is_ahead) ++running_ahead_;
  return batch;
}

void BlobFetcher::Work() {
  while (true) {
    std::vector<Digest> batch;
    bool is_ahead = false;
    {
      MutexLock lock(mu_);
      while (!is_stopped_ && (batch = TakeLocked(is_ahead)).empty()) {
        work_.Wait(mu_);
      }
      if (is_stopped_) return;
    }
    if (IsSmall(batch.front())) {
      FetchSmall(batch);
    } else {
      Finish(batch.front(), FetchLarge(batch.front()));
    }
    if (!is_ahead) continue;
    MutexLock lock(mu_);
    --running_ahead_;
    work_.NotifyOne();
  }
}

// A blob can have come some other way in the meantime.
void BlobFetcher::FetchSmall(const std::vector<Digest>& digests) {
  const std::vector<Digest> absent = store_.Missing(digests);
  const absl::flat_hash_set<Digest> left(absent.begin(), absent.end());
  for (const Digest& digest : digests) {
    if (!left.contains(digest)) Finish(digest, absl::OkStatus());
  }
  if (absent.empty()) return;
  source_.FetchSmall(absent, [this](const Digest& digest,
                                    absl::StatusOr<absl::string_view> bytes) {
    Finish(digest, bytes.ok() ? Kept(digest, store_.Put(digest, *bytes))
                              : bytes.status());
  });
}

absl::Status BlobFetcher::Kept(const Digest& digest, const absl::Status& kept) {
  RETURN_IF_ERROR(OrWrongBytes(kept, digest));
  fetched_.fetch_add(1);
  fetched_bytes_.fetch_add(digest.size_bytes());
  return absl::OkStatus();
}

absl::Status BlobFetcher::FetchLarge(const Digest& digest) {
  if (store_.Contains(digest)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::unique_ptr<Upload> upload,
                   store_.StartUpload(digest));
  const auto arriving = std::make_shared<Arriving>(*upload);
  {
    MutexLock lock(mu_);
    const auto job = jobs_.find(digest);
    if (job != jobs_.end()) job->second.arriving = arriving;
  }
  absl::Status status = FetchInPieces(digest, *upload, *arriving);
  arriving->End();
  if (status.ok()) status = Kept(digest, upload->Commit());
  if (!status.ok()) arriving->Retract();
  return status;
}

absl::Status BlobFetcher::FetchInPieces(const Digest& digest, Upload& upload,
                                        Arriving& arriving) {
  return source_.Fetch(digest, [&](absl::string_view piece) {
    RETURN_IF_ERROR(OrWrongBytes(upload.Write(piece), digest));
    arriving.SetBytes(upload.written_bytes());
    // All of it is there when it is right, not now.
    if (upload.written_bytes() < digest.size_bytes()) {
      Arrived(digest, upload.written_bytes());
    }
    return absl::OkStatus();
  });
}

void BlobFetcher::Arrived(const Digest& digest, int64_t bytes) {
  std::vector<Waiter> ready;
  {
    MutexLock lock(mu_);
    const auto found = jobs_.find(digest);
    if (found == jobs_.end()) return;
    std::vector<Waiter>& waiters = found->second.waiters;
    const auto rest = std::stable_partition(
        waiters.begin(), waiters.end(),
        [bytes](const Waiter& waiter) { return waiter.upto > bytes; });
    std::move(rest, waiters.end(), std::back_inserter(ready));
    waiters.erase(rest, waiters.end());
    waiting_ -= static_cast<int64_t>(ready.size());
  }
  for (const Waiter& waiter : ready) waiter.done(absl::OkStatus());
}

std::optional<size_t> BlobFetcher::ReadArrived(
    const Digest& digest, int64_t offset, absl::Span<char> buffer,
    uint64_t reader, const std::function<void()>& retract) {
  std::shared_ptr<Arriving> arriving;
  {
    MutexLock lock(mu_);
    const auto job = jobs_.find(digest);
    if (job == jobs_.end()) return std::nullopt;
    arriving = job->second.arriving;
  }
  if (arriving == nullptr) return std::nullopt;
  return arriving->Read(digest, offset, buffer, reader, retract);
}

void BlobFetcher::Finish(const Digest& digest, const absl::Status& status) {
  std::vector<Waiter> waiters;
  {
    MutexLock lock(mu_);
    const auto found = jobs_.find(digest);
    if (found == jobs_.end()) return;
    waiters = std::move(found->second.waiters);
    waiting_ -= static_cast<int64_t>(waiters.size());
    if (!found->second.is_wanted) ahead_.fetch_add(1);
    jobs_.erase(found);
  }
  if (!status.ok()) failed_.fetch_add(1);
  for (const Waiter& waiter : waiters) waiter.done(status);
}

BlobFetcher::Stats BlobFetcher::GetStats() const {
  MutexLock lock(mu_);
  return {.fetched = fetched_.load(),
          .fetched_bytes = fetched_bytes_.load(),
          .failed = failed_.load(),
          .waiting = waiting_,
          .ahead = ahead_.load()};
}

}  // namespace casement
