#include "control/action_cache_service.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/request_limits.h"
#include "model/digest_message.h"
#include "proto/digest_function.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;

// Puts blobs into a result, as far as its client asks for them and they are not
// too much for one message.
class Inliner {
 public:
  explicit Inliner(BlobStore& store) : store_(store) {}

  absl::Status Inline(const rev2::GetActionResultRequest& request,
                      rev2::ActionResult& result) {
    if (request.inline_stdout() && result.has_stdout_digest()) {
      RETURN_IF_ERROR(
          Fill(result.stdout_digest(), *result.mutable_stdout_raw()));
    }
    if (request.inline_stderr() && result.has_stderr_digest()) {
      RETURN_IF_ERROR(
          Fill(result.stderr_digest(), *result.mutable_stderr_raw()));
    }
    const absl::flat_hash_set<std::string> wanted(
        request.inline_output_files().begin(),
        request.inline_output_files().end());
    for (rev2::OutputFile& file : *result.mutable_output_files()) {
      if (!wanted.contains(file.path())) continue;
      RETURN_IF_ERROR(Fill(file.digest(), *file.mutable_contents()));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Fill(const rev2::Digest& message, std::string& bytes) {
    ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
    if (!bytes.empty() || digest.size_bytes() > left_) return absl::OkStatus();
    ASSIGN_OR_RETURN(bytes, store_.Read(digest, left_));
    left_ -= digest.size_bytes();
    return absl::OkStatus();
  }

  BlobStore& store_;
  int64_t left_ = kInlineBytesMax;
};

absl::StatusOr<rev2::ActionResult> ResultFor(
    BlobStore& store, ActionCache& actions,
    const rev2::GetActionResultRequest& request) {
  RETURN_IF_ERROR(CheckFunction(request.digest_function()));
  ASSIGN_OR_RETURN(const Digest action, FromMessage(request.action_digest()));
  absl::StatusOr<rev2::ActionResult> result = actions.Get(action);
  absl::Status failed = result.status();
  if (failed.ok()) failed = Inliner(store).Inline(request, *result);
  // Also of a blob that went just now.
  if (absl::IsNotFound(failed)) {
    return absl::NotFoundError(
        absl::StrCat("action ", action.ToString(), ": no result"));
  }
  RETURN_IF_ERROR(failed);
  return result;
}

absl::Status Update(ActionCache& actions,
                    const rev2::UpdateActionResultRequest& request,
                    rev2::ActionResult& result) {
  RETURN_IF_ERROR(CheckFunction(request.digest_function()));
  ASSIGN_OR_RETURN(const Digest action, FromMessage(request.action_digest()));
  if (!request.has_action_result()) {
    return absl::InvalidArgumentError(
        absl::StrCat("action ", action.ToString(), ": no result given"));
  }
  result = request.action_result();
  // They are in the store, as blobs; GetActionResult adds them when asked to.
  for (rev2::OutputFile& file : *result.mutable_output_files()) {
    file.clear_contents();
  }
  return actions.Put(action, result);
}

}  // namespace

grpc::Status ActionCacheService::GetActionResult(
    grpc::ServerContext*, const rev2::GetActionResultRequest* request,
    Result* response) {
  absl::StatusOr<Result> result = ResultFor(store_, actions_, *request);
  if (!result.ok()) return ToGrpc(result.status());
  *response = *std::move(result);
  return grpc::Status::OK;
}

grpc::Status ActionCacheService::UpdateActionResult(
    grpc::ServerContext*, const rev2::UpdateActionResultRequest* request,
    Result* response) {
  return ToGrpc(Update(actions_, *request, *response));
}

}  // namespace casement
