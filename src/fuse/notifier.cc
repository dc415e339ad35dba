#include "fuse/notifier.h"

#include <cerrno>
#include <utility>

namespace casement {
namespace {

thread_local bool answers_requests = false;

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

void Notifier::Queue(Notification notification) {
  MutexLock lock(mu_);
  if (!running_) return;
  queue_.push_back(std::move(notification));
  ++queued_;
  changed_.NotifyAll();
}

void Notifier::InvalidateEntry(InodeId parent, std::string name) {
  Queue({.id = parent, .name = std::move(name)});
}

void Notifier::InvalidateNode(InodeId id) { Queue({.id = id}); }

void Notifier::ThisThreadAnswersRequests() { answers_requests = true; }

void Notifier::Drain() {
  if (answers_requests) return;
  MutexLock lock(mu_);
  const uint64_t target = queued_;
  while (done_ < target) changed_.Wait(mu_);
}

void Notifier::Run(fuse_session* session) {
  while (true) {
    Notification notification;
    {
      MutexLock lock(mu_);
      while (running_ && queue_.empty()) changed_.Wait(mu_);
      if (!running_) return;
      notification = std::move(queue_.front());
      queue_.pop_front();
    }
    Send(session, notification);
    MutexLock lock(mu_);
    if (done_ < queued_) ++done_;
    changed_.NotifyAll();
  }
}

void Notifier::Send(fuse_session* session, const Notification& notification) {
  const int result =
      notification.name.empty()
          ? fuse_lowlevel_notify_inval_inode(session, notification.id, 0, 0)
          : fuse_lowlevel_notify_inval_entry(session, notification.id,
                                             notification.name.data(),
                                             notification.name.size());
  ++sent_;
  // ENOENT: the kernel did not hold it, which is what we want.
  if (result != 0 && result != -ENOENT) ++failed_;
}

}  // namespace casement
