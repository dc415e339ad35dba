#include "proto/grpc_status.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "google/rpc/error_details.pb.h"

namespace casement {
namespace {

constexpr absl::string_view kTypePrefix = "type.googleapis.com/";
constexpr char kErrorInfoType[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRemoteCacheReason[] = "REMOTE_CACHE";
constexpr char kDomain[] = "casement";

absl::StatusCode CodeFrom(int code) {
  // Both enumerations have the canonical numbers, 0 to 16.
  return code >= 0 && code <= 16 ? static_cast<absl::StatusCode>(code)
                                 : absl::StatusCode::kUnknown;
}

void AddPayloads(const google::rpc::Status& from, absl::Status& to) {
  for (const google::protobuf::Any& detail : from.details()) {
    to.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
}

}  // namespace

google::rpc::Status ToProto(const absl::Status& status) {
  google::rpc::Status proto;
  proto.set_code(static_cast<int>(status.code()));
  proto.set_message(std::string(status.message()));
  status.ForEachPayload(
      [&proto](absl::string_view type, const absl::Cord& payload) {
        if (!absl::StartsWith(type, kTypePrefix)) return;
        google::protobuf::Any& detail = *proto.add_details();
        detail.set_type_url(std::string(type));
        detail.set_value(std::string(payload));
      });
  return proto;
}

absl::Status FromProto(const google::rpc::Status& status) {
  absl::Status result(CodeFrom(status.code()), status.message());
  AddPayloads(status, result);
  return result;
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const google::rpc::Status proto = ToProto(status);
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message()),
      proto.details().empty() ? std::string() : proto.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  absl::Status result(CodeFrom(status.error_code()), status.error_message());
  google::rpc::Status proto;
  if (!status.ok() && !status.error_details().empty() &&
      proto.ParseFromString(status.error_details())) {
    AddPayloads(proto, result);
  }
  return result;
}

absl::Status OfRemoteCache(absl::Status status) {
  if (status.ok()) return status;
  google::rpc::ErrorInfo info;
  info.set_reason(kRemoteCacheReason);
  info.set_domain(kDomain);
  status.SetPayload(kErrorInfoType, absl::Cord(info.SerializeAsString()));
  return status;
}

bool IsOfRemoteCache(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kErrorInfoType);
  google::rpc::ErrorInfo info;
  return payload.has_value() && info.ParseFromString(std::string(*payload)) &&
         info.reason() == kRemoteCacheReason && info.domain() == kDomain;
}

}  // namespace casement
