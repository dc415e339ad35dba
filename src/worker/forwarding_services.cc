#include "worker/forwarding_services.h"

#include <grpcpp/grpcpp.h>

namespace casement {
namespace {

namespace bytestream = ::google::bytestream;

// With the client's deadline; cancelled when its call is.
std::unique_ptr<grpc::ClientContext> Following(
    const grpc::ServerContext& context) {
  return grpc::ClientContext::FromServerContext(context);
}

// Passes a stream on until its end, or until its reader is gone.
template <typename Message>
grpc::Status PassOn(grpc::ClientContext& context,
                    grpc::ClientReader<Message>& from,
                    grpc::ServerWriter<Message>& to) {
  Message message;
  while (from.Read(&message)) {
    if (to.Write(message)) continue;
    context.TryCancel();
    break;
  }
  return from.Finish();
}

}  // namespace

grpc::Status ForwardedCas::FindMissingBlobs(
    grpc::ServerContext* context, const rev2::FindMissingBlobsRequest* request,
    rev2::FindMissingBlobsResponse* response) {
  return stub_->FindMissingBlobs(Following(*context).get(), *request, response);
}

grpc::Status ForwardedCas::BatchUpdateBlobs(
    grpc::ServerContext* context, const rev2::BatchUpdateBlobsRequest* request,
    rev2::BatchUpdateBlobsResponse* response) {
  return stub_->BatchUpdateBlobs(Following(*context).get(), *request, response);
}

grpc::Status ForwardedCas::BatchReadBlobs(
    grpc::ServerContext* context, const rev2::BatchReadBlobsRequest* request,
    rev2::BatchReadBlobsResponse* response) {
  return stub_->BatchReadBlobs(Following(*context).get(), *request, response);
}

grpc::Status ForwardedCas::GetTree(
    grpc::ServerContext* context, const rev2::GetTreeRequest* request,
    grpc::ServerWriter<rev2::GetTreeResponse>* writer) {
  const auto following = Following(*context);
  return PassOn(*following, *stub_->GetTree(following.get(), *request),
                *writer);
}

grpc::Status ForwardedActionCache::GetActionResult(
    grpc::ServerContext* context, const rev2::GetActionResultRequest* request,
    rev2::ActionResult* response) {
  return stub_->GetActionResult(Following(*context).get(), *request, response);
}

grpc::Status ForwardedActionCache::UpdateActionResult(
    grpc::ServerContext* context,
    const rev2::UpdateActionResultRequest* request,
    rev2::ActionResult* response) {
  return stub_->UpdateActionResult(Following(*context).get(), *request,
                                   response);
}

grpc::Status ForwardedByteStream::Read(
    grpc::ServerContext* context, const bytestream::ReadRequest* request,
    grpc::ServerWriter<bytestream::ReadResponse>* writer) {
  const auto following = Following(*context);
  return PassOn(*following, *stub_->Read(following.get(), *request), *writer);
}

grpc::Status ForwardedByteStream::Write(
    grpc::ServerContext* context,
    grpc::ServerReader<bytestream::WriteRequest>* reader,
    bytestream::WriteResponse* response) {
  const auto following = Following(*context);
  const auto writer = stub_->Write(following.get(), response);
  bytestream::WriteRequest piece;
  while (reader->Read(&piece)) {
    // It has answered already, for example because it has the blob.
    if (!writer->Write(piece)) break;
  }
  // An upload that broke off must not look like one that ended.
  if (context->IsCancelled()) following->TryCancel();
  writer->WritesDone();
  return writer->Finish();
}

grpc::Status ForwardedByteStream::QueryWriteStatus(
    grpc::ServerContext* context,
    const bytestream::QueryWriteStatusRequest* request,
    bytestream::QueryWriteStatusResponse* response) {
  return stub_->QueryWriteStatus(Following(*context).get(), *request, response);
}

grpc::Status WorkerCapabilities::GetCapabilities(
    grpc::ServerContext* context, const rev2::GetCapabilitiesRequest* request,
    rev2::ServerCapabilities* response) {
  const grpc::Status status =
      stub_->GetCapabilities(Following(*context).get(), *request, response);
  if (!status.ok()) return status;
  rev2::ExecutionCapabilities& execution =
      *response->mutable_execution_capabilities();
  execution.set_exec_enabled(true);
  execution.set_digest_function(rev2::DigestFunction::SHA256);
  execution.add_digest_functions(rev2::DigestFunction::SHA256);
  return grpc::Status::OK;
}

}  // namespace casement
