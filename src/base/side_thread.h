// A thread beside its owner's, which does one task at a time for it: two things
// are then done to the same bytes at once.
//
// Of one thread at a time. Where no thread can be had, tasks run in the
// owner's.
#ifndef CASEMENT_BASE_SIDE_THREAD_H_
#define CASEMENT_BASE_SIDE_THREAD_H_

#include <functional>
#include <thread>  // NOLINT

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"

namespace casement {

class SideThread {
 public:
  SideThread();
  // Waits for the task.
  ~SideThread();
  SideThread(const SideThread&) = delete;
  SideThread& operator=(const SideThread&) = delete;

  // Begins `task` once the one before is done; returns then.
  void Run(std::function<void()> task);
  // Returns when no task is left.
  void Wait();

 private:
  void Loop();

  Mutex mu_;
  CondVar changed_;
  std::function<void()> task_ ABSL_GUARDED_BY(mu_);  // Null: none is left.
  bool is_ending_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // Last: it uses the others.
};

}  // namespace casement

#endif  // CASEMENT_BASE_SIDE_THREAD_H_
