#include "store/blob_fetcher.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/parallel.h"
#include "base/status.h"
#include "store/blob_answers.h"
#include "store/damaged.h"

namespace casement {
namespace {

// Bytes that wait for being stored. More are stored as they come.
constexpr int64_t kUnstoredBytesMax = int64_t{64} << 20;

// Storing what nobody waits for leaves room for those who work with it already.
int StoringMax() { return static_cast<int>((CoreCount() + 1) / 2); }

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
    threads_.emplace_back([this] { RunTasks(); });
  }
}

BlobFetcher::~BlobFetcher() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void BlobFetcher::Stop() {
  std::vector<Waiter> waiters;
  std::vector<Take> takers;
  {
    MutexLock lock(mu_);
    is_stopped_ = true;
    for (auto& [digest, job] : jobs_) {
      std::move(job.waiters.begin(), job.waiters.end(),
                std::back_inserter(waiters));
      std::move(job.takers.begin(), job.takers.end(),
                std::back_inserter(takers));
      job.waiters.clear();
      job.takers.clear();
    }
    waiting_ = unstored_waiters_ = 0;
  }
  work_.NotifyAll();
  source_.Cancel();
  for (const Waiter& waiter : waiters) waiter.done(Stopped());
  for (const Take& take : takers) take(Stopped());
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
        AddWaiterLocked(job, {std::move(done), upto});
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

void BlobFetcher::AddWaiterLocked(Job& job, Waiter waiter) {
  job.waiters.push_back(std::move(waiter));
  ++waiting_;
  if (job.unstored != nullptr) ++unstored_waiters_;
}

void BlobFetcher::WantAll(absl::Span<const Digest> digests,
                          absl::FunctionRef<Done(const Digest&)> done_for) {
  if (digests.empty()) return;  // Nobody need wake up.
  {
    MutexLock lock(mu_);
    if (!is_stopped_) {
      for (const Digest& digest : digests) {
        AddWaiterLocked(WantLocked(digest),
                        {done_for(digest), digest.size_bytes()});
      }
      work_.NotifyAll();
      return;
    }
  }
  for (const Digest& digest : digests) done_for(digest)(Stopped());
}

void BlobFetcher::WantBytes(absl::Span<const Digest> digests,
                            absl::FunctionRef<Take(const Digest&)> take_for) {
  if (digests.empty()) return;
  // Those whose bytes are here already; nullptr after Stop().
  std::vector<std::pair<Take, Bytes>> now;
  {
    MutexLock lock(mu_);
    for (const Digest& digest : digests) {
      if (is_stopped_) {
        now.emplace_back(take_for(digest), nullptr);
        continue;
      }
      Job& job = WantLocked(digest);
      if (job.unstored != nullptr) {
        now.emplace_back(take_for(digest), job.unstored);
        continue;
      }
      job.takers.push_back(take_for(digest));
      ++waiting_;
    }
    work_.NotifyAll();
  }
  for (const auto& [take, bytes] : now) {
    if (bytes == nullptr) {
      take(Stopped());
    } else {
      const absl::string_view view = *bytes;
      take(&view);
    }
  }
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

BlobFetcher::Haste::Haste(BlobFetcher& fetcher) : fetcher_(fetcher) {
  MutexLock lock(fetcher_.mu_);
  ++fetcher_.hastes_;
}

BlobFetcher::Haste::~Haste() {
  MutexLock lock(fetcher_.mu_);
  --fetcher_.hastes_;
  if (fetcher_.MayStoreLocked()) fetcher_.work_.NotifyOne();
}

bool BlobFetcher::MayStoreLocked() const {
  if (unstored_queue_.empty()) return false;
  if (unstored_waiters_ > 0) return true;
  return hastes_ == 0 && RunningLocked(Work::kFetch) == 0 &&
         RunningLocked(Work::kStore) < StoringMax();
}

bool BlobFetcher::TakeLocked(Task& task) {
  int64_t bytes = 0;
  task.work = Work::kFetch;
  while (!wanted_queue_.empty() &&
         TakeFromLocked(wanted_queue_, task.batch, bytes)) {
  }
  if (!task.batch.empty()) return true;
  if (MayStoreLocked()) {
    task.work = Work::kStore;
    task.batch.push_back(unstored_queue_.front());
    task.unstored = jobs_.at(unstored_queue_.front()).unstored;
    unstored_queue_.pop_front();
    return true;
  }
  // Half of the threads stay free for what somebody waits for.
  if (RunningLocked(Work::kFetchAhead) >= (options_.threads + 1) / 2) {
    return false;
  }
  task.work = Work::kFetchAhead;
  while (!ahead_queue_.empty() &&
         TakeFromLocked(ahead_queue_, task.batch, bytes)) {
  }
  return !task.batch.empty();
}

void BlobFetcher::RunTasks() {
  while (const std::optional<Task> task = NextTask()) {
    Run(*task);
    MutexLock lock(mu_);
    --RunningLocked(task->work);
    if (task->work == Work::kFetchAhead) work_.NotifyOne();
  }
}

std::optional<BlobFetcher::Task> BlobFetcher::NextTask() {
  Task task;
  MutexLock lock(mu_);
  while (!is_stopped_ && !TakeLocked(task)) work_.Wait(mu_);
  if (is_stopped_) return std::nullopt;
  ++RunningLocked(task.work);
  if (MayStoreLocked()) work_.NotifyOne();
  return task;
}

void BlobFetcher::Run(const Task& task) {
  const Digest& first = task.batch.front();
  if (task.work == Work::kStore) {
    Finish(first, store_.Put(first, *task.unstored));
  } else if (IsSmall(first)) {
    FetchSmall(task.batch);
  } else {
    Finish(first, FetchLarge(first));
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
    if (bytes.ok()) {
      Come(digest, *bytes);
    } else {
      Finish(digest, bytes.status());
    }
  });
}

void BlobFetcher::Come(const Digest& digest, absl::string_view bytes) {
  const auto has_takers = [&] {
    MutexLock lock(mu_);
    const auto found = jobs_.find(digest);
    return found != jobs_.end() && !found->second.takers.empty();
  };
  // Put() says what is wrong with bytes that do not match.
  if (!has_takers() || Digest::Of(bytes) != digest) {
    Finish(digest, Counted(digest, store_.Put(digest, bytes)));
    return;
  }
  Count(digest);
  std::vector<Take> takers;
  bool is_stored_later = false;
  {
    MutexLock lock(mu_);
    Job& job = jobs_.at(digest);
    takers.swap(job.takers);
    waiting_ -= static_cast<int64_t>(takers.size());
    const auto size = static_cast<int64_t>(bytes.size());
    is_stored_later = unstored_bytes_ + size <= kUnstoredBytesMax;
    if (is_stored_later) {
      job.unstored = std::make_shared<const std::string>(bytes);
      unstored_bytes_ += size;
      unstored_waiters_ += static_cast<int>(job.waiters.size());
      unstored_queue_.push_back(digest);
      if (MayStoreLocked()) work_.NotifyOne();
    }
  }
  for (const Take& take : takers) take(&bytes);
  if (!is_stored_later) Finish(digest, store_.Put(digest, bytes));
}

absl::Status BlobFetcher::Counted(const Digest& digest,
                                  const absl::Status& kept) {
  RETURN_IF_ERROR(OrWrongBytes(kept, digest));
  Count(digest);
  return absl::OkStatus();
}

void BlobFetcher::Count(const Digest& digest) {
  fetched_.fetch_add(1);
  fetched_bytes_.fetch_add(digest.size_bytes());
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
  if (status.ok()) status = Counted(digest, upload->Commit());
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
  Job job;
  {
    MutexLock lock(mu_);
    const auto found = jobs_.find(digest);
    if (found == jobs_.end()) return;
    job = std::move(found->second);
    jobs_.erase(found);
    waiting_ -= static_cast<int64_t>(job.waiters.size() + job.takers.size());
    if (job.unstored != nullptr) {
      unstored_bytes_ -= digest.size_bytes();
      unstored_waiters_ -= static_cast<int>(job.waiters.size());
    }
    if (!job.is_wanted) ahead_.fetch_add(1);
  }
  if (!status.ok()) failed_.fetch_add(1);
  for (const Waiter& waiter : job.waiters) waiter.done(status);
  for (const Take& take : job.takers) {
    if (status.ok()) {
      take(nullptr);
    } else {
      take(status);
    }
  }
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
