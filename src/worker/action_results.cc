#include "worker/action_results.h"

#include <grpcpp/client_context.h>

#include "base/status.h"
#include "model/digest_message.h"
#include "proto/grpc_status.h"

namespace casement {

ActionResults::ActionResults(const std::shared_ptr<grpc::Channel>& channel)
    : stub_(rev2::ActionCache::NewStub(channel)) {}

absl::StatusOr<rev2::ActionResult> ActionResults::Get(const Digest& action) {
  rev2::GetActionResultRequest request;
  SetMessage(action, request.mutable_action_digest());
  rev2::ActionResult result;
  grpc::ClientContext context;
  RETURN_IF_ERROR(FromGrpc(stub_->GetActionResult(&context, request, &result)));
  return result;
}

absl::Status ActionResults::Put(const Digest& action,
                                const rev2::ActionResult& result) {
  rev2::UpdateActionResultRequest request;
  SetMessage(action, request.mutable_action_digest());
  *request.mutable_action_result() = result;
  rev2::ActionResult stored;
  grpc::ClientContext context;
  return FromGrpc(stub_->UpdateActionResult(&context, request, &stored));
}

}  // namespace casement
