// google.bytestream.ByteStream over BlobStore: blobs of any size, piece by
// piece, in constant memory. An upload that breaks off can be gone on with.
#ifndef CASEMENT_CONTROL_BYTE_STREAM_SERVICE_H_
#define CASEMENT_CONTROL_BYTE_STREAM_SERVICE_H_

#include "control/pending_uploads.h"
#include "control/write_piece.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "store/blob_store.h"

namespace casement {

class ByteStreamService final : public google::bytestream::ByteStream::Service {
 public:
  ByteStreamService(BlobStore& store, PendingUploads::Options pending);

  grpc::Status Read(
      grpc::ServerContext* context,
      const google::bytestream::ReadRequest* request,
      grpc::ServerWriter<google::bytestream::ReadResponse>* writer) override;
  grpc::Status QueryWriteStatus(
      grpc::ServerContext* context,
      const google::bytestream::QueryWriteStatusRequest* request,
      google::bytestream::QueryWriteStatusResponse* response) override;

 private:
  // Write().
  grpc::Status Receive(grpc::ServerReader<WritePiece>& reader,
                       google::bytestream::WriteResponse& response);

  BlobStore& store_;
  PendingUploads pending_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_BYTE_STREAM_SERVICE_H_
