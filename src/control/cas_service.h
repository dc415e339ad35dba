// REv2's ContentAddressableStorage and Capabilities over BlobStore.
#ifndef CASEMENT_CONTROL_CAS_SERVICE_H_
#define CASEMENT_CONTROL_CAS_SERVICE_H_

#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "store/blob_store.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

class CasService final : public rev2::ContentAddressableStorage::Service {
 public:
  explicit CasService(BlobStore& store) : store_(store) {}

  grpc::Status FindMissingBlobs(
      grpc::ServerContext* context,
      const rev2::FindMissingBlobsRequest* request,
      rev2::FindMissingBlobsResponse* response) override;
  grpc::Status BatchUpdateBlobs(
      grpc::ServerContext* context,
      const rev2::BatchUpdateBlobsRequest* request,
      rev2::BatchUpdateBlobsResponse* response) override;
  grpc::Status BatchReadBlobs(grpc::ServerContext* context,
                              const rev2::BatchReadBlobsRequest* request,
                              rev2::BatchReadBlobsResponse* response) override;
  grpc::Status GetTree(
      grpc::ServerContext* context, const rev2::GetTreeRequest* request,
      grpc::ServerWriter<rev2::GetTreeResponse>* writer) override;

 private:
  BlobStore& store_;
};

class CapabilitiesService final : public rev2::Capabilities::Service {
 public:
  grpc::Status GetCapabilities(grpc::ServerContext* context,
                               const rev2::GetCapabilitiesRequest* request,
                               rev2::ServerCapabilities* response) override;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_CAS_SERVICE_H_
