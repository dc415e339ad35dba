// Headers for every call to the remote cache, such as a bearer token: a file of
// lines
//
//   NAME: VALUE
//
// Lines that are empty or begin with '#' are passed over. gRPC sends names in
// lower case. Values are secrets: no error shows one.
#ifndef CASEMENT_REMOTE_REMOTE_HEADERS_H_
#define CASEMENT_REMOTE_REMOTE_HEADERS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

// Names in lower case, and values.
using RemoteHeaders = std::vector<std::pair<std::string, std::string>>;

// InvalidArgument, naming the line, for what HTTP/2 or gRPC has no place for:
// names with other bytes than letters, digits, '-', '_' and '.', gRPC's own
// ("grpc-...") and binary ones ("...-bin"); values with other bytes than
// printable ASCII.
absl::StatusOr<RemoteHeaders> ParseRemoteHeaders(absl::string_view text);

}  // namespace casement

#endif  // CASEMENT_REMOTE_REMOTE_HEADERS_H_
