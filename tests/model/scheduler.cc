#include "model/scheduler.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>  // NOLINT

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace casement {
namespace {

// Past it the history of a schedule helps nobody.
constexpr size_t kHistoryMax = 2000;

thread_local Scheduler* scheduler = nullptr;
thread_local void* this_task = nullptr;
thread_local bool is_looking = false;

}  // namespace

Scheduler::~Scheduler() = default;

void Scheduler::Add(std::string name, std::function<void()> body) {
  auto task = std::make_unique<Task>();
  task->name = std::move(name);
  task->body = std::move(body);
  tasks_.push_back(std::move(task));
}

void Scheduler::Run(size_t servers, std::function<void()> when_done) {
  servers_ = servers;
  when_done_ = std::move(when_done);
  std::vector<std::thread> threads;
  for (const auto& task : tasks_) {
    threads.emplace_back([this, task = task.get()] {
      {
        std::unique_lock<std::mutex> lock(mu_);
        task->turn.wait(lock, [&] { return running_ == task; });
      }
      scheduler = this;
      this_task = task;
      task->body();
      End(task);
    });
  }
  Task* const first = Next(nullptr);
  {
    std::unique_lock<std::mutex> lock(mu_);
    running_ = first;
    first->turn.notify_one();
    all_over_.wait(lock, [this] { return running_ == nullptr; });
  }
  for (std::thread& thread : threads) thread.join();
}

void Scheduler::End(Task* task) {
  if (++done_ == tasks_.size() - servers_ && when_done_) when_done_();
  task->is_over = true;
  this_task = nullptr;
  Look();
  const bool is_last = std::all_of(
      tasks_.begin(), tasks_.end(),
      [](const std::unique_ptr<Task>& other) { return other->is_over; });
  if (!is_last) {
    HandOver(task);
    return;
  }
  std::unique_lock<std::mutex> lock(mu_);
  running_ = nullptr;
  all_over_.notify_one();
}

bool Scheduler::IsTask() { return this_task != nullptr && !is_looking; }
bool Scheduler::IsLooking() { return is_looking; }

void Scheduler::Look() {
  is_looking = true;
  after_step_();
  is_looking = false;
}

void Scheduler::Step(const char* what) {
  if (!IsTask()) return;
  auto* const task = static_cast<Task*>(this_task);
  task->last = what;
  scheduler->Look();
  scheduler->HandOver(task);
}

bool Scheduler::WaitFor(const void* object, absl::Duration timeout) {
  auto* const task = static_cast<Task*>(this_task);
  task->waits_for = object;
  task->timeout = timeout;
  task->timed_out = false;
  scheduler->HandOver(task);
  return !task->timed_out;
}

void Scheduler::Wake(const void* object) {
  if (this_task == nullptr || is_looking) return;
  for (const auto& task : scheduler->tasks_) {
    if (task->waits_for == object) task->waits_for = nullptr;
  }
}

void Scheduler::Unlocked(const void* lock) {
  Wake(lock);
  if (IsTask() && scheduler->is_fine_) Step("unlock");
}

void Scheduler::HandOver(Task* from) {
  Task* const next = Next(from);
  if (next == from) return;
  std::unique_lock<std::mutex> lock(mu_);
  running_ = next;
  next->turn.notify_one();
  if (from->is_over) return;
  from->turn.wait(lock, [&] { return running_ == from; });
}

Scheduler::Task* Scheduler::Next(Task* from) {
  std::vector<Task*> able;
  const bool can_go_on =
      from != nullptr && !from->is_over && from->waits_for == nullptr;
  if (can_go_on) able.push_back(from);
  for (const auto& task : tasks_) {
    if (task.get() != from && !task->is_over && task->waits_for == nullptr) {
      able.push_back(task.get());
    }
  }
  Task* const next =
      able.empty()
          ? NextTimeout()
          : able[able.size() == 1 ? 0 : choose_(able.size(), can_go_on)];
  ++steps_;
  if (history_.size() < kHistoryMax) history_.emplace_back(next, next->last);
  return next;
}

// Everybody waits: somebody's patience ends.
Scheduler::Task* Scheduler::NextTimeout() {
  Task* soonest = nullptr;
  for (const auto& task : tasks_) {
    if (task->is_over || task->timeout == absl::InfiniteDuration()) continue;
    if (soonest == nullptr || task->timeout < soonest->timeout) {
      soonest = task.get();
    }
  }
  if (soonest == nullptr) {
    std::fprintf(stderr, "deadlock after: %s\n", History().c_str());
    std::abort();
  }
  absl::SleepFor(soonest->timeout);
  soonest->waits_for = nullptr;
  soonest->timed_out = true;
  return soonest;
}

std::string Scheduler::History() const {
  std::string text;
  const Task* last = nullptr;
  for (const auto& [task, what] : history_) {
    if (task != last) absl::StrAppend(&text, "\n  ", task->name, ":");
    absl::StrAppend(&text, " ", what);
    last = task;
  }
  return text;
}

}  // namespace casement
