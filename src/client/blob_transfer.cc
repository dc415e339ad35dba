#include "client/blob_transfer.h"

#include <grpcpp/client_context.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "model/digest_message.h"
#include "model/hasher.h"
#include "model/resource_name.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;
using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;

// Large enough for gRPC's cost per message to vanish.
constexpr int64_t kPieceBytes = int64_t{512} << 10;

absl::Status Changed(absl::string_view path) {
  return absl::AbortedError(absl::StrCat(path, ": changed while it was read"));
}

}  // namespace

BlobTransfer::BlobTransfer(const std::shared_ptr<grpc::Channel>& channel)
    : cas_(rev2::ContentAddressableStorage::NewStub(channel)),
      byte_stream_(google::bytestream::ByteStream::NewStub(channel)) {}

absl::StatusOr<std::vector<Digest>> BlobTransfer::Missing(
    absl::Span<const Digest> digests) {
  std::vector<Digest> missing;
  for (size_t i = 0; i < digests.size(); i += kBatchBlobsMax) {
    rev2::FindMissingBlobsRequest request;
    for (const Digest& digest : digests.subspan(i, kBatchBlobsMax)) {
      SetMessage(digest, request.add_blob_digests());
    }
    rev2::FindMissingBlobsResponse response;
    grpc::ClientContext context;
    RETURN_IF_ERROR(
        FromGrpc(cas_->FindMissingBlobs(&context, request, &response)));
    ASSIGN_OR_RETURN(const std::vector<Digest> some,
                     FromMessages(response.missing_blob_digests()));
    missing.insert(missing.end(), some.begin(), some.end());
  }
  return missing;
}

absl::Status BlobTransfer::SendBatch(std::vector<Small> blobs) {
  rev2::BatchUpdateBlobsRequest request;
  for (Small& blob : blobs) {
    auto& update = *request.add_requests();
    SetMessage(blob.digest, update.mutable_digest());
    *update.mutable_data() = std::move(blob.bytes);
  }
  rev2::BatchUpdateBlobsResponse response;
  grpc::ClientContext context;
  RETURN_IF_ERROR(
      FromGrpc(cas_->BatchUpdateBlobs(&context, request, &response)));
  if (response.responses_size() != request.requests_size()) {
    return absl::InternalError("BatchUpdateBlobs: the answer lacks blobs");
  }
  for (const auto& result : response.responses()) {
    RETURN_IF_ERROR(Annotate(FromProto(result.status()), "putting ",
                             result.digest().hash()));
  }
  return absl::OkStatus();
}

absl::Status BlobTransfer::Send(const Digest& digest, const Source& source) {
  WriteRequest request;
  request.set_resource_name(WriteName({.digest = digest}));
  WriteResponse response;
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientWriter<WriteRequest>> writer =
      byte_stream_->Write(&context, &response);
  const int64_t size = digest.size_bytes();
  int64_t offset = 0;
  do {
    std::string& piece = *request.mutable_data();
    piece.resize(std::min(kPieceBytes, size - offset));
    if (const absl::Status read = source(offset, piece); !read.ok()) {
      context.TryCancel();
      writer->Finish();
      return read;
    }
    request.set_write_offset(offset);
    offset += piece.size();
    request.set_finish_write(offset == size);
    // False if the daemon has answered already: it has the blob, or an error.
    if (!writer->Write(request)) break;
    request.clear_resource_name();
  } while (offset < size);
  writer->WritesDone();
  RETURN_IF_ERROR(FromGrpc(writer->Finish()));
  if (response.committed_size() != size) {
    return absl::InternalError(
        absl::StrCat("upload of ", digest.ToString(), ": the daemon has ",
                     response.committed_size(), " bytes of it"));
  }
  return absl::OkStatus();
}

absl::Status BlobTransfer::SendBytes(const Digest& digest,
                                     absl::string_view bytes) {
  return Send(digest, [bytes](int64_t offset, std::string& piece) {
    const absl::string_view from = bytes.substr(offset, piece.size());
    piece.assign(from.data(), from.size());
    return absl::OkStatus();
  });
}

absl::Status BlobTransfer::SendFile(const Digest& digest, int fd,
                                    absl::string_view path) {
  absl::Status sent =
      Send(digest, [fd, path](int64_t offset, std::string& piece) {
        if (piece.empty()) return absl::OkStatus();
        const ssize_t got = ::pread(fd, piece.data(), piece.size(), offset);
        if (got < 0) return ErrnoStatus(errno, path);
        piece.resize(got);
        return got == 0 ? Changed(path) : absl::OkStatus();
      });
  // The daemon hashes what it gets.
  return absl::IsInvalidArgument(sent) ? Changed(path) : sent;
}

absl::Status BlobTransfer::Receive(const Digest& digest, const Sink& sink) {
  ReadRequest request;
  request.set_resource_name(ReadName({.digest = digest}));
  ReadResponse response;
  grpc::ClientContext context;
  const std::unique_ptr<grpc::ClientReader<ReadResponse>> reader =
      byte_stream_->Read(&context, request);
  Hasher hasher;
  while (reader->Read(&response)) {
    hasher.Update(response.data());
    absl::Status taken = sink(response.data());
    if (taken.ok()) continue;
    context.TryCancel();
    reader->Finish();
    return taken;
  }
  RETURN_IF_ERROR(FromGrpc(reader->Finish()));
  if (hasher.Finish() != digest) {
    return absl::DataLossError(
        absl::StrCat("blob ", digest.ToString(), ": other bytes came"));
  }
  return absl::OkStatus();
}

}  // namespace casement
