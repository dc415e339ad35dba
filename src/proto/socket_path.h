// Where casementd listens if nobody says otherwise: the same for both ends.
#ifndef CASEMENT_PROTO_SOCKET_PATH_H_
#define CASEMENT_PROTO_SOCKET_PATH_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

// `explicit_path`, else $CASEMENT_SOCKET, else DefaultSocketPath(). Empty means
// not given.
absl::StatusOr<std::string> ResolveSocketPath(absl::string_view explicit_path);

// /run/casement/casement.sock for root, $XDG_RUNTIME_DIR/casement.sock for
// others; NotFound, saying what to do, if they have no XDG_RUNTIME_DIR.
absl::StatusOr<std::string> DefaultSocketPath();

}  // namespace casement

#endif  // CASEMENT_PROTO_SOCKET_PATH_H_
