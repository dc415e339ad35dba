// The actions that wait, run, or have run a while ago.
//
// Thread safe.
#ifndef CASEMENT_WORKER_EXECUTIONS_H_
#define CASEMENT_WORKER_EXECUTIONS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"
#include "worker/action_spec.h"

namespace casement {

// One run of an action, which any number of clients watch.
class Execution {
 public:
  using Stage = rev2::ExecutionStage::Value;

  Execution(std::string name, ActionSpec spec, absl::Time queued)
      : name_(std::move(name)), spec_(std::move(spec)), queued_(queued) {}

  const std::string& name() const { return name_; }
  const ActionSpec& spec() const { return spec_; }
  absl::Time queued() const { return queued_; }

  // The stage, once it is another than `seen` or the timeout has passed.
  Stage WaitForChange(Stage seen, absl::Duration timeout);
  // Once the stage is COMPLETED; it stays as it is.
  const rev2::ExecuteResponse& response() const { return response_; }

 private:
  friend class Executions;
  void Enter(Stage stage);
  void Finish(rev2::ExecuteResponse response);

  const std::string name_;
  const ActionSpec spec_;
  const absl::Time queued_;
  Mutex mu_;
  CondVar changed_;
  Stage stage_ ABSL_GUARDED_BY(mu_) = rev2::ExecutionStage::QUEUED;
  rev2::ExecuteResponse response_;  // Set once, before COMPLETED.
};

class Executions {
 public:
  struct Options {
    size_t jobs = 1;              // Run at a time.
    size_t waiting_max = 1024;    // Past it: ResourceExhausted.
    size_t remembered_max = 256;  // Of those that are done.
  };
  using Run = std::function<rev2::ExecuteResponse(const ActionSpec& spec,
                                                  absl::Time queued)>;

  // `run` is called from `jobs` threads, which live as long as this.
  Executions(const Options& options, Run run);
  // As Stop().
  ~Executions();
  Executions(const Executions&) = delete;
  Executions& operator=(const Executions&) = delete;

  // That of the same action, if one waits or runs and it may be shared.
  absl::StatusOr<std::shared_ptr<Execution>> Start(ActionSpec spec);
  // NotFound if there is none of this name, or no more.
  absl::StatusOr<std::shared_ptr<Execution>> Find(absl::string_view name);

  // Those that wait fail with Unavailable; returns when the others are done.
  void Stop();

 private:
  void Work();
  void Forget(const std::shared_ptr<Execution>& done);

  const Options options_;
  const Run run_;
  const std::string prefix_;  // Of names; another one each start.
  Mutex mu_;
  CondVar work_;
  bool is_stopping_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t last_ ABSL_GUARDED_BY(mu_) = 0;
  std::deque<std::shared_ptr<Execution>> waiting_ ABSL_GUARDED_BY(mu_);
  // Those that wait or run and that others may share.
  std::map<std::string, std::shared_ptr<Execution>> shared_
      ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::shared_ptr<Execution>, std::less<>> by_name_
      ABSL_GUARDED_BY(mu_);
  std::deque<std::string> done_ ABSL_GUARDED_BY(mu_);  // The oldest first.
  std::vector<std::thread> threads_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_EXECUTIONS_H_
