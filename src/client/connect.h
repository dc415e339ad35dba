// Finds out in a moment whether a daemon is there, which gRPC alone would try
// for many seconds and then report in words of its own.
#ifndef CASEMENT_CLIENT_CONNECT_H_
#define CASEMENT_CLIENT_CONNECT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace casement {

// Connects to the unix socket, begins as HTTP/2 does, and waits until the other
// end speaks, which a server then does at once. Unavailable, "no casementd
// answers at PATH: ...", or PermissionDenied, if the socket or the daemon
// refuses this user.
absl::Status ProbeSocket(const std::string& path,
                         absl::Duration timeout = absl::Seconds(5));

}  // namespace casement

#endif  // CASEMENT_CLIENT_CONNECT_H_
