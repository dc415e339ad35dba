// casementd's action cache. Thread safe.
#ifndef CASEMENT_WORKER_ACTION_RESULTS_H_
#define CASEMENT_WORKER_ACTION_RESULTS_H_

#include <grpcpp/channel.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/digest.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

class ActionResults {
 public:
  explicit ActionResults(const std::shared_ptr<grpc::Channel>& channel);

  // NotFound if there is none whose blobs are all there.
  absl::StatusOr<rev2::ActionResult> Get(const Digest& action);
  absl::Status Put(const Digest& action, const rev2::ActionResult& result);

 private:
  const std::unique_ptr<rev2::ActionCache::Stub> stub_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_ACTION_RESULTS_H_
