// Runs tasks one at a time and decides at each step which goes on, so that an
// interleaving can be chosen, repeated, and enumerated.
//
// Every task has a thread of its own, but only one of them runs: it hands over
// at its next Step(), which the stepped mutex (stepped/base/mutex.h) makes
// before it locks and SteppedDisk before each system call. Between two steps
// nothing else happens. Threads that are no tasks are not touched.
#ifndef CASEMENT_TESTS_MODEL_SCHEDULER_H_
#define CASEMENT_TESTS_MODEL_SCHEDULER_H_

#include <condition_variable>  // NOLINT
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>  // NOLINT
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace casement {

class Scheduler {
 public:
  // Which of `count` tasks goes on. 0 is the one that has just stopped, if
  // `can_go_on`; leaving it is a preemption.
  using Chooser = std::function<size_t(size_t count, bool can_go_on)>;

  // `after_step` runs between steps, in no task's name. With `is_fine` giving a
  // lock back is a step as well: for what happens without one.
  Scheduler(Chooser choose, std::function<void()> after_step, bool is_fine)
      : choose_(std::move(choose)),
        after_step_(std::move(after_step)),
        is_fine_(is_fine) {}
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  void Add(std::string name, std::function<void()> body);
  // Runs all tasks to their ends. `when_done` is called when all but the last
  // `servers` of them are over; it must make those end.
  void Run(size_t servers, std::function<void()> when_done);
  int steps() const { return steps_; }
  // Who did what in this order, a word a step.
  std::string History() const;

  // For what the tasks are made of; of no effect in other threads.

  // Another task may run before the call returns.
  static void Step(const char* what);
  static bool IsTask();
  // True within `after_step`: it takes locks without waiting, and gives up
  // (by throwing Busy) if one is held.
  static bool IsLooking();
  struct Busy {};
  // Waits until Wake(object). False if that did not come and no other task can
  // go on within `timeout`.
  static bool WaitFor(const void* object, absl::Duration timeout);
  static void Wake(const void* object);
  // A lock was given back.
  static void Unlocked(const void* lock);

 private:
  struct Task {
    std::string name;
    std::function<void()> body;
    const void* waits_for = nullptr;
    absl::Duration timeout;
    bool timed_out = false;
    bool is_over = false;
    const char* last = "start";
    std::condition_variable turn;
  };

  void HandOver(Task* from);
  Task* Next(Task* from);
  Task* NextTimeout();
  void Look();
  void End(Task* task);

  const Chooser choose_;
  const std::function<void()> after_step_;
  const bool is_fine_;
  std::vector<std::unique_ptr<Task>> tasks_;
  size_t done_ = 0;
  size_t servers_ = 0;
  std::function<void()> when_done_;
  int steps_ = 0;
  std::vector<std::pair<const Task*, const char*>> history_;

  std::mutex mu_;  // Guards running_; everything else is the running task's.
  Task* running_ = nullptr;
  std::condition_variable all_over_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_SCHEDULER_H_
