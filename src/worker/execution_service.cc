#include "worker/execution_service.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "model/digest_message.h"
#include "proto/digest_function.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

using google::longrunning::Operation;
using Writer = grpc::ServerWriter<Operation>;

constexpr int64_t kActionBytesMax = int64_t{1} << 20;
// As much as casementd takes in a message.
constexpr int64_t kCommandBytesMax = int64_t{8} << 20;
// How soon a client that is gone is noticed.
constexpr absl::Duration kLookAround = absl::Milliseconds(500);
// Of Execute's request, by gRPC's rules for bytes.
constexpr char kMetadataHeader[] =
    "build.bazel.remote.execution.v2.requestmetadata-bin";

rev2::RequestMetadata MetadataOf(const grpc::ServerContext& context) {
  rev2::RequestMetadata metadata;
  const auto found = context.client_metadata().find(kMetadataHeader);
  if (found == context.client_metadata().end()) return metadata;
  // Nothing depends on it: if it cannot be read, there is none.
  if (!metadata.ParseFromArray(found->second.data(),
                               static_cast<int>(found->second.size()))) {
    metadata.Clear();
  }
  return metadata;
}

// The blob of a request. That it is missing is the client's to mend, and REv2
// has it be told so, with the details that casementd gives.
absl::StatusOr<std::string> Get(Client& client, const Digest& digest,
                                int64_t bytes_max) {
  absl::StatusOr<std::string> bytes = client.GetBytes(digest, bytes_max);
  if (!absl::IsNotFound(bytes.status())) return bytes;
  return WithCode(absl::StatusCode::kFailedPrecondition, bytes.status());
}

Operation ToMessage(const std::string& name, const Digest& action,
                    Execution::Stage stage) {
  Operation operation;
  operation.set_name(name);
  rev2::ExecuteOperationMetadata metadata;
  metadata.set_stage(stage);
  SetMessage(action, metadata.mutable_action_digest());
  operation.mutable_metadata()->PackFrom(metadata);
  return operation;
}

// Tells of an execution until it is done or nobody listens.
grpc::Status Watch(const grpc::ServerContext& context, Execution& execution,
                   Writer& writer) {
  Execution::Stage told = rev2::ExecutionStage::UNKNOWN;
  for (;;) {
    const Execution::Stage stage = execution.WaitForChange(told, kLookAround);
    if (context.IsCancelled()) return grpc::Status::CANCELLED;
    if (stage == told) continue;
    Operation operation =
        ToMessage(execution.name(), execution.spec().action, stage);
    const bool is_done = stage == rev2::ExecutionStage::COMPLETED;
    operation.set_done(is_done);
    if (is_done) {
      operation.mutable_response()->PackFrom(execution.response());
    }
    if (!writer.Write(operation)) return grpc::Status::CANCELLED;
    if (is_done) return grpc::Status::OK;
    told = stage;
  }
}

void TellCached(const Digest& action, rev2::ActionResult result,
                Writer& writer) {
  rev2::ExecuteResponse response;
  *response.mutable_result() = std::move(result);
  response.set_cached_result(true);
  Operation operation = ToMessage(absl::StrCat("cached-", action.ToString()),
                                  action, rev2::ExecutionStage::COMPLETED);
  operation.set_done(true);
  operation.mutable_response()->PackFrom(response);
  writer.Write(operation);
}

}  // namespace

absl::StatusOr<ActionSpec> ExecutionService::Fetch(
    const grpc::ServerContext& context, const Digest& action) {
  ASSIGN_OR_RETURN(const std::string action_bytes,
                   Get(client_, action, kActionBytesMax));
  ASSIGN_OR_RETURN(const Digest command, CommandOf(action_bytes));
  ASSIGN_OR_RETURN(const std::string command_bytes,
                   Get(client_, command, kCommandBytesMax));
  return ParseAction(action, action_bytes, command_bytes, MetadataOf(context),
                     limits_);
}

grpc::Status ExecutionService::Execute(grpc::ServerContext* context,
                                       const rev2::ExecuteRequest* request,
                                       Writer* writer) {
  if (const absl::Status known = CheckFunction(request->digest_function());
      !known.ok()) {
    return ToGrpc(known);
  }
  const absl::StatusOr<Digest> action = FromMessage(request->action_digest());
  if (!action.ok()) return ToGrpc(action.status());
  if (!request->skip_cache_lookup()) {
    absl::StatusOr<rev2::ActionResult> result = results_.Get(*action);
    if (result.ok()) {
      TellCached(*action, *std::move(result), *writer);
      return grpc::Status::OK;
    }
    if (!absl::IsNotFound(result.status())) return ToGrpc(result.status());
  }
  absl::StatusOr<ActionSpec> spec = Fetch(*context, *action);
  if (!spec.ok()) {
    return ToGrpc(Annotate(spec.status(), "action ", action->ToString()));
  }
  const absl::StatusOr<std::shared_ptr<casement::Execution>> execution =
      executions_.Start(*std::move(spec));
  if (!execution.ok()) return ToGrpc(execution.status());
  return Watch(*context, **execution, *writer);
}

grpc::Status ExecutionService::WaitExecution(
    grpc::ServerContext* context, const rev2::WaitExecutionRequest* request,
    Writer* writer) {
  const absl::StatusOr<std::shared_ptr<casement::Execution>> execution =
      executions_.Find(request->name());
  if (!execution.ok()) return ToGrpc(execution.status());
  return Watch(*context, **execution, *writer);
}

}  // namespace casement
