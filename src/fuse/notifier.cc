#include "fuse/notifier.h"

#include <cerrno>
#include <utility>

#include "absl/time/clock.h"
#include "base/check.h"

namespace casement {
namespace {

thread_local bool answers_requests = false;
// How long an answer may be on its way to the kernel.
constexpr absl::Duration kSettleTime = absl::Milliseconds(100);

}  // namespace

Notifier::~Notifier() { Stop(); }

void Notifier::Start(fuse_session* session) {
  MutexLock lock(mu_);
  running_ = true;
  thread_ = std::thread([this, session] { Run(session); });
}

void Notifier::Stop() {
  {
    MutexLock lock(mu_);
    running_ = false;
    queue_.clear();
    done_ = queued_;
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void Notifier::Add(Queued queued) {
  if (!running_) return;
  queue_.push_back(std::move(queued));
  ++queued_;
  changed_.NotifyAll();
}

void Notifier::Queue(KernelNote note) {
  MutexLock lock(mu_);
  Add({.note = std::move(note)});
}

void Notifier::Settle(InodeId id) {
  MutexLock lock(mu_);
  if (!running_) return;
  if (settling_.empty()) {
    settle_at_ = absl::Now() + kSettleTime;
    changed_.NotifyAll();
  }
  settling_.insert(id);
}

void Notifier::SettleLocked() {
  if (settling_.empty() || absl::Now() < settle_at_) return;
  for (const InodeId id : settling_) Add({.note = KernelNote::Attributes(id)});
  settling_.clear();
}

void Notifier::ThisThreadAnswersRequests() { answers_requests = true; }

void Notifier::WaitFor(uint64_t target) {
  while (done_ < target) changed_.Wait(mu_);
}

void Notifier::Drain() {
  if (answers_requests) return;
  MutexLock lock(mu_);
  WaitFor(queued_);
}

bool Notifier::Tell(std::vector<KernelNote> notes) {
  CASEMENT_CHECK(!answers_requests);
  const auto refused = std::make_shared<std::atomic<bool>>(false);
  MutexLock lock(mu_);
  for (KernelNote& note : notes) Add({std::move(note), refused});
  WaitFor(queued_);
  return !*refused;
}

void Notifier::Run(fuse_session* session) {
  while (true) {
    Queued queued;
    {
      MutexLock lock(mu_);
      while (running_ && queue_.empty()) {
        if (settling_.empty()) {
          changed_.Wait(mu_);
        } else {
          changed_.WaitFor(mu_, settle_at_ - absl::Now());
          SettleLocked();
        }
      }
      if (!running_) return;
      queued = std::move(queue_.front());
      queue_.pop_front();
    }
    if (!Send(session, queued.note) && queued.refused != nullptr) {
      *queued.refused = true;
    }
    MutexLock lock(mu_);
    if (done_ < queued_) ++done_;
    changed_.NotifyAll();
  }
}

namespace {

int SendTo(fuse_session* session, const KernelNote& note) {
  const char* const name = note.name.data();
  const size_t size = note.name.size();
  switch (note.kind) {
    case KernelNote::Kind::kEntry:
      return fuse_lowlevel_notify_inval_entry(session, note.id, name, size);
    case KernelNote::Kind::kExpiry: {
      const int result =
          fuse_lowlevel_notify_expire_entry(session, note.id, name, size);
      // Kernels before 6.2 can only forget it.
      if (result != -ENOSYS) return result;
      return fuse_lowlevel_notify_inval_entry(session, note.id, name, size);
    }
    case KernelNote::Kind::kNode:
      return fuse_lowlevel_notify_inval_inode(session, note.id, 0, 0);
    case KernelNote::Kind::kAttributes:
      return fuse_lowlevel_notify_inval_inode(session, note.id, -1, 0);
  }
  return -EINVAL;
}

}  // namespace

bool Notifier::Send(fuse_session* session, const KernelNote& note) {
  const int result = SendTo(session, note);
  Counts& counts = counts_[static_cast<size_t>(note.kind)];
  if (result == 0) {
    ++counts.done;
  } else if (result == -ENOENT) {
    ++counts.unknown;
  } else {
    ++counts.refused;
    return false;
  }
  return true;
}

}  // namespace casement
