// The worker's gRPC server: Execution, and casementd's own services passed on.
//
// For one thread. Serves while it lives.
#ifndef CASEMENT_WORKER_WORKER_SERVER_H_
#define CASEMENT_WORKER_WORKER_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/action_spec.h"
#include "worker/executions.h"

namespace casement {

class WorkerServer {
 public:
  struct Options {
    std::string address;  // "unix:PATH", or "HOST:PORT".
    std::string casementd_socket;
    Executions::Options executions;
    ActionLimits limits;
    // Before an action's result is told, casementd's remote cache has what it
    // gave.
    bool send_outputs = false;
  };

  // Unavailable if no casementd answers; FailedPrecondition if the address
  // cannot be listened on, or if casementd cannot send outputs. A unix socket
  // is for this user alone; one that is there already is replaced.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(
      const Options& options);
  // Kills the actions that run, ends all calls and removes the socket.
  ~WorkerServer();
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  // With the port that was found.
  const std::string& address() const;

 private:
  struct Rep;
  explicit WorkerServer(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_WORKER_SERVER_H_
