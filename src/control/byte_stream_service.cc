#include "control/byte_stream_service.h"

#include <grpcpp/support/method_handler.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/compression.h"
#include "base/status.h"
#include "control/missing_blob.h"
#include "control/request_limits.h"
#include "model/resource_name.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteResponse;

// Where to stop reading: an offset from the blob's start.
absl::StatusOr<int64_t> EndOf(const ReadRequest& request,
                              const ResourceName& name) {
  const Digest& digest = name.digest;
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
  if (name.is_zstd && request.read_limit() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("blob ", digest.ToString(),
                     ": a read limit, which compressed blobs do not have"));
  }
  const int64_t left = size - request.read_offset();
  if (request.read_limit() == 0 || request.read_limit() > left) return size;
  return request.read_offset() + request.read_limit();
}

// Makes `data` the bytes from `offset` on, at most kPieceBytes.
absl::Status ReadPiece(BlobStore& store, const OpenBlob& blob, int64_t offset,
                       int64_t end, std::string& data) {
  data.resize(std::min<int64_t>(kPieceBytes, end - offset));
  if (data.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const size_t got,
                   store.ReadPiece(blob, offset, absl::MakeSpan(data)));
  data.resize(got);
  return absl::OkStatus();
}

absl::Status WritePieces(BlobStore& store, const ReadRequest& request,
                         grpc::ServerWriter<ReadResponse>& writer) {
  ASSIGN_OR_RETURN(const ResourceName name,
                   ParseReadName(request.resource_name()));
  ASSIGN_OR_RETURN(const int64_t end, EndOf(request, name));
  const absl::StatusOr<std::shared_ptr<const OpenBlob>> blob =
      store.OpenDigest(name.digest);
  if (!blob.ok()) return NamingBlob(blob.status(), name.digest);
  std::optional<ZstdCompressor> compressor;
  if (name.is_zstd) compressor.emplace();
  ReadResponse response;
  std::string& data = *response.mutable_data();
  std::string plain;
  int64_t offset = request.read_offset();
  do {
    std::string& piece = compressor.has_value() ? plain : data;
    RETURN_IF_ERROR(ReadPiece(store, **blob, offset, end, piece));
    offset += static_cast<int64_t>(piece.size());
    if (compressor.has_value()) {
      data.clear();
      compressor->Compress(plain, /*is_last=*/offset == end, data);
    }
    if (!data.empty() && !writer.Write(response)) {
      return absl::CancelledError("the peer is gone");
    }
  } while (offset < end);
  return absl::OkStatus();
}

absl::Status WrongPiece(const Digest& digest, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("upload of ", digest.ToString(), ": ", why));
}

// One stream's part of an upload: all of it, or what is left of one that was
// kept.
class Reception {
 public:
  Reception(BlobStore& store, PendingUploads& pending, const ResourceName& name)
      : store_(store), pending_(pending), blob_(name) {}

  // Stores what comes from `reader`, whose first message is `piece`, and uses
  // that. The offset at its end, as the client counts.
  absl::StatusOr<int64_t> Receive(std::shared_ptr<WritePiece> piece,
                                  grpc::ServerReader<WritePiece>& reader) {
    const std::string name = piece->resource_name();
    RETURN_IF_ERROR(Begin(name, piece->write_offset()));
    for (;;) {
      if (!piece->resource_name().empty() && piece->resource_name() != name) {
        return WrongPiece(blob_.digest, "the resource name changed on the way");
      }
      if (piece->write_offset() != offset_) {
        return WrongOffset(piece->write_offset(), offset_);
      }
      offset_ += piece->data_bytes();
      RETURN_IF_ERROR(Store(piece));
      if (piece->finish_write()) break;
      piece = std::make_shared<WritePiece>();
      if (!reader.Read(piece.get())) {
        pending_.Keep(name, std::move(upload_));
        return WrongPiece(blob_.digest, "the last piece is missing");
      }
    }
    if (decompressor_.has_value() && !decompressor_->is_complete()) {
      return WrongPiece(blob_.digest, "zstd: the last frame is cut");
    }
    RETURN_IF_ERROR(upload_->Commit());
    return offset_;
  }

 private:
  absl::Status Begin(const std::string& name, int64_t offset) {
    if (blob_.is_zstd) decompressor_.emplace();
    offset_ = offset;
    if (offset == 0) {
      pending_.Drop(name);
      ASSIGN_OR_RETURN(upload_, store_.StartUpload(blob_.digest));
      return absl::OkStatus();
    }
    upload_ = pending_.Take(name, offset);
    if (upload_ != nullptr) return absl::OkStatus();
    return WrongOffset(offset, pending_.WrittenBytes(name).value_or(0));
  }

  absl::Status WrongOffset(int64_t given, int64_t expected) {
    return WrongPiece(blob_.digest, absl::StrCat("a piece for offset ", given,
                                                 " instead of ", expected));
  }

  // A compressed upload's offsets begin with the blob's, and then count the
  // bytes on the wire (REv2).
  absl::Status Store(const std::shared_ptr<const WritePiece>& piece) {
    if (!decompressor_.has_value()) {
      return upload_->Write(piece->data(), piece);
    }
    for (const absl::string_view bytes : piece->data()) {
      RETURN_IF_ERROR(decompressor_->Decompress(
          bytes,
          [this](absl::string_view plain) { return upload_->Write(plain); }));
    }
    return absl::OkStatus();
  }

  BlobStore& store_;
  PendingUploads& pending_;
  const ResourceName blob_;
  std::unique_ptr<Upload> upload_;
  std::optional<ZstdDecompressor> decompressor_;
  int64_t offset_ = 0;
};

}  // namespace

ByteStreamService::ByteStreamService(BlobStore& store,
                                     PendingUploads::Options pending)
    : store_(store), pending_(pending) {
  // In place of the handler that gRPC's generator wrote for Write(), the second
  // method: its messages are protobuf's.
  MarkMethodStreamed(
      1,
      new grpc::internal::ClientStreamingHandler<ByteStreamService, WritePiece,
                                                 WriteResponse>(
          [](ByteStreamService* service, grpc::ServerContext*,
             grpc::ServerReader<WritePiece>* reader, WriteResponse* response) {
            return service->Receive(*reader, *response);
          },
          this));
}

grpc::Status ByteStreamService::Read(grpc::ServerContext*,
                                     const ReadRequest* request,
                                     grpc::ServerWriter<ReadResponse>* writer) {
  return ToGrpc(WritePieces(store_, *request, *writer));
}

grpc::Status ByteStreamService::Receive(grpc::ServerReader<WritePiece>& reader,
                                        WriteResponse& response) {
  const auto first = std::make_shared<WritePiece>();
  if (!reader.Read(first.get())) {
    return ToGrpc(absl::InvalidArgumentError("upload: no piece came"));
  }
  const absl::StatusOr<ResourceName> name =
      ParseWriteName(first->resource_name());
  if (!name.ok()) return ToGrpc(name.status());
  if (store_.Contains(name->digest)) {
    store_.Touch(name->digest);
    pending_.Drop(first->resource_name());
    response.set_committed_size(name->is_zstd ? -1 : name->digest.size_bytes());
    return grpc::Status::OK;
  }
  const absl::StatusOr<int64_t> received =
      Reception(store_, pending_, *name).Receive(first, reader);
  if (!received.ok()) return ToGrpc(received.status());
  response.set_committed_size(*received);
  return grpc::Status::OK;
}

grpc::Status ByteStreamService::QueryWriteStatus(
    grpc::ServerContext*,
    const google::bytestream::QueryWriteStatusRequest* request,
    google::bytestream::QueryWriteStatusResponse* response) {
  const absl::StatusOr<ResourceName> name =
      ParseWriteName(request->resource_name());
  if (!name.ok()) return ToGrpc(name.status());
  if (store_.Contains(name->digest)) {
    response->set_committed_size(name->digest.size_bytes());
    response->set_complete(true);
    return grpc::Status::OK;
  }
  const std::optional<int64_t> written =
      pending_.WrittenBytes(request->resource_name());
  if (!written.has_value()) {
    return ToGrpc(NamingBlob(absl::NotFoundError(""), name->digest));
  }
  response->set_committed_size(*written);
  return grpc::Status::OK;
}

}  // namespace casement
