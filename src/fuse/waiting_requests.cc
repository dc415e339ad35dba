#include "fuse/waiting_requests.h"

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "base/status.h"
#include "casement/digest.h"
#include "fuse/operations.h"
#include "fuse/reply.h"
#include "store/missing.h"

namespace casement {
namespace {

// They read and write files of the store, which takes longer than a request
// for what is in memory.
constexpr int kThreads = 4;
// A request can need several blobs, one after the other (copy_file_range), and
// a blob can be evicted before it is used. Beyond that something is wrong.
constexpr int kTriesMax = 8;

// How often the request that this thread handles has waited.
thread_local int tries_of_this = 0;

}  // namespace

WaitingRequests::WaitingRequests(BlobFetcher& fetcher) : fetcher_(fetcher) {
  for (int i = 0; i < kThreads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

WaitingRequests::~WaitingRequests() { Stop(); }

bool WaitingRequests::IsAgain() { return tries_of_this > 0; }

bool WaitingRequests::Take(fuse_req_t req, const absl::Status& status,
                           int missing_errno, Again again) {
  const std::optional<AbsentBlob> absent = AbsentBlobOf(status);
  if (!absent.has_value() || tries_of_this >= kTriesMax) return false;
  uint64_t id = 0;
  {
    MutexLock lock(mu_);
    if (is_stopped_) return false;
    id = ++last_id_;
    waiting_[id] = {.req = req,
                    .again = std::move(again),
                    .missing_errno = missing_errno,
                    .tries = tries_of_this + 1};
  }
  // Calls OnInterrupt() at once if the caller has a signal already. It is given
  // no pointer, because the request may have been answered by then.
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  fuse_req_interrupt_func(req, OnInterrupt, reinterpret_cast<void*>(id));
  fetcher_.Want(absent->digest, absent->upto,
                [this, id](const absl::Status& result) { Finish(id, result); });
  Arm(id);
  return true;
}

// The lock of `req` is held here, so that it must not be answered.
void WaitingRequests::OnInterrupt(fuse_req_t req, void* id) {
  static_cast<Adapter*>(fuse_req_userdata(req))
      ->waiting->Finish(reinterpret_cast<uint64_t>(id),
                        absl::CancelledError("the caller has a signal"));
}

void WaitingRequests::Finish(uint64_t id, const absl::Status& result) {
  MutexLock lock(mu_);
  const auto found = waiting_.find(id);
  // It was interrupted, and the blob comes now; or the other way round.
  if (found == waiting_.end() || found->second.result.has_value()) return;
  // Shares nothing with the fetcher's thread, as in BlobFetcher::FetchAll().
  found->second.result = WithCode(result.code(), result);
  if (found->second.is_armed) FinishLocked(id);
}

void WaitingRequests::Arm(uint64_t id) {
  MutexLock lock(mu_);
  Waiting& waiting = waiting_.at(id);
  waiting.is_armed = true;
  if (waiting.result.has_value()) FinishLocked(id);
}

void WaitingRequests::FinishLocked(uint64_t id) {
  const auto found = waiting_.find(id);
  ready_.push_back(std::move(found->second));
  waiting_.erase(found);
  work_.NotifyAll();
}

void WaitingRequests::Work() {
  while (true) {
    Waiting ready;
    {
      MutexLock lock(mu_);
      while (ready_.empty()) {
        if (is_stopped_ && waiting_.empty()) return;
        work_.Wait(mu_);
      }
      ready = std::move(ready_.front());
      ready_.pop_front();
    }
    tries_of_this = ready.tries;
    Answer(ready);
    tries_of_this = 0;
  }
}

void WaitingRequests::Answer(const Waiting& waiting) {
  if (waiting.result->ok()) return waiting.again(waiting.req);
  if (absl::IsNotFound(*waiting.result)) {
    fuse_reply_err(waiting.req, waiting.missing_errno);
    return;
  }
  ReplyError(waiting.req, *waiting.result);
}

void WaitingRequests::Stop() {
  {
    MutexLock lock(mu_);
    is_stopped_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace casement
