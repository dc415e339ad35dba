// Stands in for src/base/mutex.h where the store and vfs are compiled for the
// model of the races: the same types, but each lock is a step of the scheduler,
// and who has to wait lets another task run (tests/model/scheduler.h).
//
// The real mutex below is taken as well, so that ThreadSanitizer sees the same
// orders as in the daemon, and threads that are no tasks can use it.
#ifndef CASEMENT_BASE_MUTEX_H_
#define CASEMENT_BASE_MUTEX_H_

// So that a test can see which of the two it got.
#define CASEMENT_MUTEX_IS_STEPPED 1

#include <condition_variable>  // NOLINT
#include <mutex>               // NOLINT
#include <shared_mutex>        // NOLINT

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "model/scheduler.h"

namespace casement {

// `try_lock` until it works, as the scheduler wants it.
template <typename TryLock, typename LockNow>
void LockStepped(const void* mu, TryLock try_lock, LockNow lock_now) {
  if (Scheduler::IsLooking()) {
    if (!try_lock()) throw Scheduler::Busy();
    return;
  }
  if (!Scheduler::IsTask()) {
    lock_now();
    return;
  }
  Scheduler::Step("lock");
  while (!try_lock()) Scheduler::WaitFor(mu, absl::InfiniteDuration());
}

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    LockStepped(
        this, [this] { return mu_.try_lock(); }, [this] { mu_.lock(); });
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    mu_.unlock();
    Scheduler::Unlocked(this);
  }

 private:
  friend class CondVar;
  std::mutex mu_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(mu) {
    mu_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mu_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

class CondVar {
 public:
  void Wait(Mutex& mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    WaitFor(mu, absl::InfiniteDuration());
  }
  bool WaitFor(Mutex& mu, absl::Duration timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (!Scheduler::IsTask()) {
      std::unique_lock<std::mutex> lock(mu.mu_, std::adopt_lock);
      bool is_notified = true;
      if (timeout == absl::InfiniteDuration()) {
        cv_.wait(lock);
      } else {
        is_notified = cv_.wait_for(lock, absl::ToChronoNanoseconds(timeout)) ==
                      std::cv_status::no_timeout;
      }
      lock.release();
      return is_notified;
    }
    mu.mu_.unlock();
    Scheduler::Wake(&mu);
    const bool is_notified = Scheduler::WaitFor(this, timeout);
    mu.Lock();
    return is_notified;
  }
  void NotifyOne() { NotifyAll(); }
  void NotifyAll() {
    cv_.notify_all();
    Scheduler::Wake(this);
  }

 private:
  std::condition_variable cv_;
};

class ABSL_LOCKABLE SharedMutex {
 public:
  SharedMutex() = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    LockStepped(
        this, [this] { return mu_.try_lock(); }, [this] { mu_.lock(); });
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    mu_.unlock();
    Scheduler::Unlocked(this);
  }
  void LockShared() ABSL_SHARED_LOCK_FUNCTION() {
    LockStepped(
        this, [this] { return mu_.try_lock_shared(); },
        [this] { mu_.lock_shared(); });
  }
  void UnlockShared() ABSL_UNLOCK_FUNCTION() {
    mu_.unlock_shared();
    Scheduler::Unlocked(this);
  }

 private:
  std::shared_mutex mu_;
};

class ABSL_SCOPED_LOCKABLE WriterLock {
 public:
  explicit WriterLock(SharedMutex& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu)
      : mu_(mu) {
    mu_.Lock();
  }
  ~WriterLock() ABSL_UNLOCK_FUNCTION() { mu_.Unlock(); }
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  SharedMutex& mu_;
};

class ABSL_SCOPED_LOCKABLE ReaderLock {
 public:
  explicit ReaderLock(SharedMutex& mu) ABSL_SHARED_LOCK_FUNCTION(mu) : mu_(mu) {
    mu_.LockShared();
  }
  ~ReaderLock() ABSL_UNLOCK_FUNCTION() { mu_.UnlockShared(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  SharedMutex& mu_;
};

}  // namespace casement

#endif  // CASEMENT_BASE_MUTEX_H_
