#include "control/byte_stream_service.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/missing_blob.h"
#include "control/request_limits.h"
#include "control/resource_name.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteRequest;

// Where to stop reading: an offset from the blob's start.
absl::StatusOr<int64_t> EndOf(const ReadRequest& request,
                              const Digest& digest) {
  const int64_t size = digest.size_bytes();
  if (request.read_offset() < 0 || request.read_offset() > size) {
    return absl::OutOfRangeError(absl::StrCat("blob ", digest.ToString(),
                                              ": read from offset ",
                                              request.read_offset()));
  }
  if (request.read_limit() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blob ", digest.ToString(), ": read limit ", request.read_limit()));
  }
  const int64_t left = size - request.read_offset();
  if (request.read_limit() == 0 || request.read_limit() > left) return size;
  return request.read_offset() + request.read_limit();
}

absl::Status WritePieces(BlobStore& store, const ReadRequest& request,
                         grpc::ServerWriter<ReadResponse>& writer) {
  ASSIGN_OR_RETURN(const Digest digest, ParseReadName(request.resource_name()));
  ASSIGN_OR_RETURN(const int64_t end, EndOf(request, digest));
  const absl::StatusOr<std::shared_ptr<const OpenBlob>> blob =
      store.OpenDigest(digest);
  if (!blob.ok()) return NamingBlob(blob.status(), digest);
  ReadResponse response;
  std::string& data = *response.mutable_data();
  for (int64_t offset = request.read_offset(); offset < end;) {
    data.resize(std::min<int64_t>(kPieceBytes, end - offset));
    const ssize_t got =
        ::pread((*blob)->fd(), data.data(), data.size(), offset);
    if (got < 0) {
      return ErrnoStatus(errno, "reading blob ", digest.ToString());
    }
    if (got == 0) {
      store.DropDamaged(digest);
      return absl::DataLossError(
          absl::StrCat("blob ", digest.ToString(), ": damaged, its file ends ",
                       "at ", offset, " bytes; it is dropped"));
    }
    data.resize(got);
    offset += got;
    if (!writer.Write(response)) {
      return absl::CancelledError("the peer is gone");
    }
  }
  return absl::OkStatus();
}

absl::Status WrongPiece(const Digest& digest, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("upload of ", digest.ToString(), ": ", why));
}

// Stores what comes from `reader`, whose first message is `piece`.
absl::Status Store(BlobStore& store, const Digest& digest, WriteRequest piece,
                   grpc::ServerReader<WriteRequest>& reader) {
  const std::string name = piece.resource_name();
  ASSIGN_OR_RETURN(const std::unique_ptr<Upload> upload,
                   store.StartUpload(digest));
  for (;;) {
    if (!piece.resource_name().empty() && piece.resource_name() != name) {
      return WrongPiece(digest, "the resource name changed on the way");
    }
    if (piece.write_offset() != upload->written_bytes()) {
      return WrongPiece(
          digest, absl::StrCat("a piece for offset ", piece.write_offset(),
                               " instead of ", upload->written_bytes()));
    }
    RETURN_IF_ERROR(upload->Write(piece.data()));
    if (piece.finish_write()) return upload->Commit();
    if (!reader.Read(&piece)) {
      return WrongPiece(digest, "the last piece is missing");
    }
  }
}

}  // namespace

grpc::Status ByteStreamService::Read(grpc::ServerContext*,
                                     const ReadRequest* request,
                                     grpc::ServerWriter<ReadResponse>* writer) {
  return ToGrpc(WritePieces(store_, *request, *writer));
}

grpc::Status ByteStreamService::Write(
    grpc::ServerContext*, grpc::ServerReader<WriteRequest>* reader,
    google::bytestream::WriteResponse* response) {
  WriteRequest first;
  if (!reader->Read(&first)) {
    return ToGrpc(absl::InvalidArgumentError("upload: no piece came"));
  }
  const absl::StatusOr<Digest> digest = ParseWriteName(first.resource_name());
  if (!digest.ok()) return ToGrpc(digest.status());
  if (store_.Contains(*digest)) {
    store_.Touch(*digest);
  } else if (const absl::Status stored =
                 Store(store_, *digest, std::move(first), *reader);
             !stored.ok()) {
    return ToGrpc(stored);
  }
  response->set_committed_size(digest->size_bytes());
  return grpc::Status::OK;
}

grpc::Status ByteStreamService::QueryWriteStatus(
    grpc::ServerContext*,
    const google::bytestream::QueryWriteStatusRequest* request,
    google::bytestream::QueryWriteStatusResponse* response) {
  const absl::StatusOr<Digest> digest =
      ParseWriteName(request->resource_name());
  if (!digest.ok()) return ToGrpc(digest.status());
  if (!store_.Contains(*digest)) {
    return ToGrpc(NamingBlob(absl::NotFoundError(""), *digest));
  }
  response->set_committed_size(digest->size_bytes());
  response->set_complete(true);
  return grpc::Status::OK;
}

}  // namespace casement
