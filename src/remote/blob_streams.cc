#include "remote/blob_streams.h"

#include <grpcpp/completion_queue.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/compression.h"
#include "base/status.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;

// Large enough for gRPC's cost per message to vanish.
constexpr int64_t kPieceBytes = int64_t{512} << 10;

// A call's operations, which are waited for one at a time, each for so long at
// most. gRPC's synchronous streams know only a deadline for all of a call.
class Operations {
 public:
  explicit Operations(grpc::ClientContext& context) : context_(context) {}
  ~Operations() {
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;

  grpc::CompletionQueue* queue() { return &queue_; }
  void* tag() { return this; }
  // Waits for the one that was begun. Whether it worked. After `patience` the
  // call is cancelled, which ends it.
  bool Await(absl::Duration patience) {
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, GrpcDeadline(patience)) ==
        grpc::CompletionQueue::TIMEOUT) {
      has_timed_out_ = true;
      context_.TryCancel();
      queue_.Next(&tag, &ok);
      return false;
    }
    return ok;
  }
  // The call's end, of which gRPC says `status`.
  absl::Status End(const grpc::Status& status, absl::Duration timeout) const {
    if (!has_timed_out_) return FromGrpc(status);
    return absl::DeadlineExceededError(
        absl::StrCat("no progress in ", absl::FormatDuration(timeout)));
  }

 private:
  grpc::ClientContext& context_;
  grpc::CompletionQueue queue_;
  bool has_timed_out_ = false;
};

}  // namespace

absl::Status IncomingBlob::Fetch(RemoteCalls& calls, Tries& tries) {
  for (;;) {
    absl::Status fetched = calls.Try(
        tries, [&](grpc::ClientContext& context, RemoteServices& remote) {
          return FetchOnce(context, remote, tries);
        });
    if (is_sinks()) return sink_status_;
    // A stream that breaks after its last byte has done what it was for.
    const bool is_all = offset_ == name_.digest.size_bytes();
    if (is_all && !absl::IsDataLoss(fetched)) return absl::OkStatus();
    if (fetched.ok()) {
      return absl::DataLossError(
          absl::StrCat("the remote sent only ", offset_, " bytes of it"));
    }
    if (!tries.Again(fetched)) return fetched;
  }
}

absl::Status IncomingBlob::FetchOnce(grpc::ClientContext& context,
                                     RemoteServices& remote, Tries& tries) {
  ReadRequest request;
  request.set_resource_name(ReadName(name_, instance_));
  // Of the blob, compressed or not (REv2).
  request.set_read_offset(offset_);
  std::optional<ZstdDecompressor> zstd;
  if (name_.is_zstd) zstd.emplace();
  const auto deliver = [&](absl::string_view piece) {
    return Deliver(piece, tries);
  };
  Operations operations(context);
  const auto reader =
      remote.bytes->PrepareAsyncRead(&context, request, operations.queue());
  reader->StartCall(operations.tag());
  bool is_going = operations.Await(tries.left());
  ReadResponse response;
  absl::Status taken;
  while (is_going) {
    reader->Read(&response, operations.tag());
    is_going = operations.Await(tries.left());
    if (!is_going) break;
    taken = zstd.has_value() ? zstd->Decompress(response.data(), deliver)
                             : deliver(response.data());
    if (taken.ok()) continue;
    context.TryCancel();
    is_going = false;
  }
  grpc::Status status;
  reader->Finish(&status, operations.tag());
  operations.Await(tries.left());
  if (absl::IsInvalidArgument(taken)) {
    return absl::DataLossError(taken.message());  // zstd's.
  }
  return taken.ok() ? operations.End(status, tries.timeout()) : taken;
}

absl::Status IncomingBlob::Deliver(absl::string_view piece, Tries& tries) {
  if (piece.empty()) return absl::OkStatus();
  const int64_t left = name_.digest.size_bytes() - offset_;
  if (static_cast<int64_t>(piece.size()) > left) {
    return absl::DataLossError("the remote sent more bytes than it has");
  }
  sink_status_ = sink_(piece);
  RETURN_IF_ERROR(sink_status_);
  offset_ += static_cast<int64_t>(piece.size());
  // After `sink_`, whose time is not the remote's.
  tries.Progress();
  return absl::OkStatus();
}

absl::Status OutgoingBlob::Send(RemoteCalls& calls, Tries& tries) {
  for (;;) {
    absl::Status sent = Resume(calls, tries);
    if (sent.ok() && !is_complete_) {
      sent = calls.Try(
          tries, [&](grpc::ClientContext& context, RemoteServices& remote) {
            return SendOnce(context, remote, tries);
          });
    }
    if (is_readers()) return read_status_;
    if (sent.ok() || !tries.Again(sent)) return sent;
  }
}

absl::Status OutgoingBlob::Resume(RemoteCalls& calls, Tries& tries) {
  const int64_t size = name_.digest.size_bytes();
  const bool is_first = resource_.empty();
  offset_ = 0;
  // In zstd a stream cannot be gone on with from any byte of the blob.
  if (!is_first && !name_.is_zstd) {
    google::bytestream::QueryWriteStatusRequest request;
    google::bytestream::QueryWriteStatusResponse response;
    request.set_resource_name(resource_);
    const absl::Status asked = calls.Try(
        tries, [&](grpc::ClientContext& context, RemoteServices& remote) {
          context.set_deadline(GrpcDeadline(tries.left()));
          return FromGrpc(
              remote.bytes->QueryWriteStatus(&context, request, &response));
        });
    if (asked.ok() && response.committed_size() >= 0 &&
        response.committed_size() <= size) {
      offset_ = response.committed_size();
      is_complete_ = response.complete() && offset_ == size;
      if (offset_ > 0) return absl::OkStatus();
    }
    // A remote that does not remember, or cannot tell, gets all of it.
    if (absl::IsUnavailable(asked) || absl::IsCancelled(asked) ||
        absl::IsDeadlineExceeded(asked)) {
      return asked;
    }
  }
  resource_ = WriteName(name_, instance_);
  return absl::OkStatus();
}

absl::StatusOr<std::string> OutgoingBlob::ReadPiece() {
  const int64_t left = name_.digest.size_bytes() - offset_;
  if (left == 0) return std::string();
  const absl::StatusOr<absl::string_view> piece = read_(offset_);
  read_status_ = piece.status();
  if (piece.ok() && piece->empty()) {
    read_status_ = absl::DataLossError(
        absl::StrCat("blob ", name_.digest.ToString(), " ends at ", offset_));
  }
  RETURN_IF_ERROR(read_status_);
  return std::string(piece->substr(0, std::min(left, kPieceBytes)));
}

void OutgoingBlob::Sent(int64_t bytes, Tries& tries) {
  offset_ += bytes;
  sent_bytes_ += bytes;
  if (offset_ <= offset_max_) return;
  offset_max_ = offset_;
  tries.Progress();
}

absl::Status OutgoingBlob::SendOnce(grpc::ClientContext& context,
                                    RemoteServices& remote, Tries& tries) {
  WriteResponse response;
  Operations operations(context);
  const auto writer =
      remote.bytes->PrepareAsyncWrite(&context, &response, operations.queue());
  writer->StartCall(operations.tag());
  bool is_going = operations.Await(tries.left());
  std::optional<ZstdCompressor> zstd;
  if (name_.is_zstd) zstd.emplace();
  WriteRequest request;
  request.set_resource_name(resource_);
  int64_t wire_offset = offset_;
  while (is_going && !request.finish_write()) {
    absl::StatusOr<std::string> piece = ReadPiece();
    if (!piece.ok()) {
      context.TryCancel();
      break;
    }
    const int64_t bytes = static_cast<int64_t>(piece->size());
    request.set_finish_write(offset_ + bytes == name_.digest.size_bytes());
    if (zstd.has_value()) {
      request.clear_data();
      zstd->Compress(*piece, request.finish_write(), *request.mutable_data());
    } else {
      request.set_data(*std::move(piece));
    }
    if (!request.data().empty() || request.finish_write()) {
      request.set_write_offset(wire_offset);
      wire_offset += static_cast<int64_t>(request.data().size());
      writer->Write(request, operations.tag());
      // Not sent if the remote has answered already: it has the blob, or an
      // error.
      is_going = operations.Await(tries.timeout());
      request.clear_resource_name();
    }
    if (is_going) Sent(bytes, tries);
  }
  if (is_going && request.finish_write()) {
    writer->WritesDone(operations.tag());
    operations.Await(tries.timeout());
  }
  grpc::Status status;
  writer->Finish(&status, operations.tag());
  operations.Await(tries.timeout());
  RETURN_IF_ERROR(operations.End(status, tries.timeout()));
  return CheckCommitted(response.committed_size());
}

absl::Status OutgoingBlob::CheckCommitted(int64_t committed) const {
  // How many bytes a compressed blob has on the wire is the remote's to count.
  if (name_.is_zstd || committed == name_.digest.size_bytes()) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("the remote took only ", committed, " bytes of it"));
}

}  // namespace casement
