// How a Status travels: as gRPC's, with the same canonical code and message.
//
// Payloads whose type is "type.googleapis.com/..." become the details of a
// google.rpc.Status, gRPC's rich error model, so that any client can read which
// blobs are missing; the other end gets them back as payloads. Others, such as
// an errno, stay at home.
#ifndef CASEMENT_PROTO_GRPC_STATUS_H_
#define CASEMENT_PROTO_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace casement {

grpc::Status ToGrpc(const absl::Status& status);
// A code that gRPC does not know becomes Unknown.
absl::Status FromGrpc(const grpc::Status& status);

// The same inside a message.
google::rpc::Status ToProto(const absl::Status& status);
absl::Status FromProto(const google::rpc::Status& status);

// Marks an error as the remote cache's, not that of the daemon which passes it
// on: by a google.rpc.ErrorInfo of reason "REMOTE_CACHE" and domain "casement".
absl::Status OfRemoteCache(absl::Status status);
bool IsOfRemoteCache(const absl::Status& status);

}  // namespace casement

#endif  // CASEMENT_PROTO_GRPC_STATUS_H_
