// Runs one action, from its input root to its result: the worked example of
// client.h.
//
// Thread safe. A thread that calls Run() must outlive it (action_process.h).
#ifndef CASEMENT_WORKER_ACTION_RUNNER_H_
#define CASEMENT_WORKER_ACTION_RUNNER_H_

#include "absl/time/time.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/client.h"
#include "worker/action_results.h"
#include "worker/action_spec.h"

namespace casement {

class ActionRunner {
 public:
  // Once `cancel_fd` can be read, actions are killed: Unavailable.
  ActionRunner(Client& client, ActionResults& results, int cancel_fd)
      : client_(client), results_(results), cancel_fd_(cancel_fd) {}

  // The result is in the cache when this returns, if it is one to be kept.
  // Errors are the response's status: remote_execution.proto.
  rev2::ExecuteResponse Run(const ActionSpec& spec, absl::Time queued);

 private:
  absl::Status RunInSandbox(const ActionSpec& spec,
                            rev2::ExecutedActionMetadata& metadata,
                            rev2::ActionResult& result);
  absl::Status RunIn(const CreatedSandbox& sandbox, const ActionSpec& spec,
                     rev2::ExecutedActionMetadata& metadata,
                     rev2::ActionResult& result);
  absl::Status AddOutputs(const CreatedSandbox& sandbox, const ActionSpec& spec,
                          rev2::ActionResult& result);

  Client& client_;
  ActionResults& results_;
  const int cancel_fd_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_ACTION_RUNNER_H_
