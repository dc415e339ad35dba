// One blob by ByteStream, over as many streams as it takes: each goes on where
// the one before broke off.
//
// Of one thread each, and used once.
#ifndef CASEMENT_REMOTE_BLOB_STREAMS_H_
#define CASEMENT_REMOTE_BLOB_STREAMS_H_

#include <grpcpp/client_context.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "model/resource_name.h"
#include "remote/remote_calls.h"
#include "remote/tries.h"
#include "store/blob_source.h"

namespace casement {

class IncomingBlob {
 public:
  // `instance` is the remote's; it stays where it is.
  IncomingBlob(const ResourceName& name, absl::string_view instance,
               BlobSource::Sink sink)
      : name_(name), instance_(instance), sink_(sink) {}

  // DataLoss if it is not as long as its digest says.
  absl::Status Fetch(RemoteCalls& calls, Tries& tries);
  // Whether the error is `sink`'s own.
  bool is_sinks() const { return !sink_status_.ok(); }
  int64_t bytes() const { return offset_; }

 private:
  absl::Status FetchOnce(grpc::ClientContext& context, RemoteServices& remote,
                         Tries& tries);
  absl::Status Deliver(absl::string_view piece, Tries& tries);

  const ResourceName name_;
  const absl::string_view instance_;
  const BlobSource::Sink sink_;
  int64_t offset_ = 0;
  absl::Status sink_status_;
};

class OutgoingBlob {
 public:
  OutgoingBlob(const ResourceName& name, absl::string_view instance,
               BlobSource::Read read)
      : name_(name), instance_(instance), read_(read) {}

  absl::Status Send(RemoteCalls& calls, Tries& tries);
  // Whether the error is `read`'s own.
  bool is_readers() const { return !read_status_.ok(); }
  // Of the blob, those that were sent twice included.
  int64_t bytes() const { return sent_bytes_; }

 private:
  absl::Status SendOnce(grpc::ClientContext& context, RemoteServices& remote,
                        Tries& tries);
  absl::Status CheckCommitted(int64_t committed) const;
  // Finds out how far the remote is.
  absl::Status Resume(RemoteCalls& calls, Tries& tries);
  // The next bytes, none at the end; an error of `read_`.
  absl::StatusOr<std::string> ReadPiece();
  void Sent(int64_t bytes, Tries& tries);

  const ResourceName name_;
  const absl::string_view instance_;
  const BlobSource::Read read_;
  std::string resource_;    // Of the upload under way; empty before.
  int64_t offset_ = 0;      // What the next stream begins at.
  int64_t offset_max_ = 0;  // The farthest that any got.
  int64_t sent_bytes_ = 0;
  bool is_complete_ = false;  // The remote has all of it.
  absl::Status read_status_;
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_BLOB_STREAMS_H_
