// REv2's Execution over Executions; remote_execution.proto is its manual.
#ifndef CASEMENT_WORKER_EXECUTION_SERVICE_H_
#define CASEMENT_WORKER_EXECUTION_SERVICE_H_

#include "absl/status/statusor.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/client.h"
#include "worker/action_results.h"
#include "worker/action_spec.h"
#include "worker/executions.h"

namespace casement {

class ExecutionService final : public rev2::Execution::Service {
 public:
  ExecutionService(Client& client, ActionResults& results,
                   Executions& executions, const ActionLimits& limits)
      : client_(client),
        results_(results),
        executions_(executions),
        limits_(limits) {}

  grpc::Status Execute(
      grpc::ServerContext* context, const rev2::ExecuteRequest* request,
      grpc::ServerWriter<google::longrunning::Operation>* writer) override;
  grpc::Status WaitExecution(
      grpc::ServerContext* context, const rev2::WaitExecutionRequest* request,
      grpc::ServerWriter<google::longrunning::Operation>* writer) override;

 private:
  absl::StatusOr<ActionSpec> Fetch(const grpc::ServerContext& context,
                                   const Digest& action);

  Client& client_;
  ActionResults& results_;
  Executions& executions_;
  const ActionLimits limits_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_EXECUTION_SERVICE_H_
