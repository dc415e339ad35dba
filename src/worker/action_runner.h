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
  struct Options {
    // Once it can be read, actions are killed: Unavailable.
    int cancel_fd = -1;
    // Send what an action gave to casementd's remote cache, too.
    bool send_outputs = false;
  };

  ActionRunner(Client& client, ActionResults& results, Options options)
      : client_(client), results_(results), options_(options) {}

  // The result is in the cache when this returns, if it is one to be kept; with
  // `send_outputs` the remote cache has all of its blobs.
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
  const Options options_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_ACTION_RUNNER_H_
