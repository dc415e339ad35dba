// casementd's REv2 services, for clients who speak to one endpoint alone: each
// call is made again, over casementd's socket, and its answer passed on.
//
// No other service of casementd's is reached this way. A client's deadline and
// its end are passed on as well.
#ifndef CASEMENT_WORKER_FORWARDING_SERVICES_H_
#define CASEMENT_WORKER_FORWARDING_SERVICES_H_

#include <grpcpp/channel.h>

#include <memory>

#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

class ForwardedCas final : public rev2::ContentAddressableStorage::Service {
 public:
  explicit ForwardedCas(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(rev2::ContentAddressableStorage::NewStub(channel)) {}

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
  const std::unique_ptr<rev2::ContentAddressableStorage::Stub> stub_;
};

class ForwardedActionCache final : public rev2::ActionCache::Service {
 public:
  explicit ForwardedActionCache(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(rev2::ActionCache::NewStub(channel)) {}

  grpc::Status GetActionResult(grpc::ServerContext* context,
                               const rev2::GetActionResultRequest* request,
                               rev2::ActionResult* response) override;
  grpc::Status UpdateActionResult(
      grpc::ServerContext* context,
      const rev2::UpdateActionResultRequest* request,
      rev2::ActionResult* response) override;

 private:
  const std::unique_ptr<rev2::ActionCache::Stub> stub_;
};

class ForwardedByteStream final
    : public google::bytestream::ByteStream::Service {
 public:
  explicit ForwardedByteStream(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(google::bytestream::ByteStream::NewStub(channel)) {}

  grpc::Status Read(
      grpc::ServerContext* context,
      const google::bytestream::ReadRequest* request,
      grpc::ServerWriter<google::bytestream::ReadResponse>* writer) override;
  grpc::Status Write(
      grpc::ServerContext* context,
      grpc::ServerReader<google::bytestream::WriteRequest>* reader,
      google::bytestream::WriteResponse* response) override;
  grpc::Status QueryWriteStatus(
      grpc::ServerContext* context,
      const google::bytestream::QueryWriteStatusRequest* request,
      google::bytestream::QueryWriteStatusResponse* response) override;

 private:
  const std::unique_ptr<google::bytestream::ByteStream::Stub> stub_;
};

// casementd's, and that actions can be executed here.
class WorkerCapabilities final : public rev2::Capabilities::Service {
 public:
  explicit WorkerCapabilities(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(rev2::Capabilities::NewStub(channel)) {}

  grpc::Status GetCapabilities(grpc::ServerContext* context,
                               const rev2::GetCapabilitiesRequest* request,
                               rev2::ServerCapabilities* response) override;

 private:
  const std::unique_ptr<rev2::Capabilities::Stub> stub_;
};

}  // namespace casement

#endif  // CASEMENT_WORKER_FORWARDING_SERVICES_H_
