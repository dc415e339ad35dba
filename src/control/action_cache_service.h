// REv2's ActionCache over the store's.
#ifndef CASEMENT_CONTROL_ACTION_CACHE_SERVICE_H_
#define CASEMENT_CONTROL_ACTION_CACHE_SERVICE_H_

#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "store/action_cache.h"
#include "store/blob_store.h"

namespace casement {

class ActionCacheService final
    : public ::build::bazel::remote::execution::v2::ActionCache::Service {
 public:
  using Result = ::build::bazel::remote::execution::v2::ActionResult;

  ActionCacheService(BlobStore& store, ActionCache& actions)
      : store_(store), actions_(actions) {}

  grpc::Status GetActionResult(
      grpc::ServerContext* context,
      const ::build::bazel::remote::execution::v2::GetActionResultRequest*
          request,
      Result* response) override;
  grpc::Status UpdateActionResult(
      grpc::ServerContext* context,
      const ::build::bazel::remote::execution::v2::UpdateActionResultRequest*
          request,
      Result* response) override;

 private:
  BlobStore& store_;
  ActionCache& actions_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_ACTION_CACHE_SERVICE_H_
