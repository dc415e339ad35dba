#include "base/side_thread.h"

#include <system_error>  // NOLINT
#include <utility>

namespace casement {

SideThread::SideThread() {
  try {
    thread_ = std::thread([this] { Loop(); });
  } catch (const std::system_error&) {
    // EAGAIN: too many threads.
  }
}

SideThread::~SideThread() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(mu_);
    is_ending_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void SideThread::Run(std::function<void()> task) {
  if (!thread_.joinable()) {
    task();
    return;
  }
  MutexLock lock(mu_);
  while (task_ != nullptr) changed_.Wait(mu_);
  task_ = std::move(task);
  changed_.NotifyAll();
}

void SideThread::Wait() {
  MutexLock lock(mu_);
  while (task_ != nullptr) changed_.Wait(mu_);
}

void SideThread::Loop() {
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (task_ == nullptr && !is_ending_) changed_.Wait(mu_);
      if (task_ == nullptr) return;
      task = std::exchange(task_, [] {});  // One is still under way.
    }
    task();
    task = nullptr;  // What it holds goes before Wait() returns.
    MutexLock lock(mu_);
    task_ = nullptr;
    changed_.NotifyAll();
  }
}

}  // namespace casement
