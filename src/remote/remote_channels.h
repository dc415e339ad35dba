// The connections to a remote: made when first wanted, and again when they
// break, within about a second of the remote's return.
//
// Thread safe. The process' environment has no say in them (no proxy).
#ifndef CASEMENT_REMOTE_REMOTE_CHANNELS_H_
#define CASEMENT_REMOTE_REMOTE_CHANNELS_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "remote/remote_address.h"

namespace casement {

// Paths of PEM files; empty for none.
struct RemoteTlsFiles {
  std::string roots = {};        // Whom to trust. Empty: gRPC's own list.
  std::string certificate = {};  // Ours, with `key`.
  std::string key = {};
};

// `count` of them, each a connection of its own. InvalidArgument if TLS files
// are named for an address without TLS, a certificate without its key, or if
// a file does not hold what it should; or why it cannot be read.
absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> MakeRemoteChannels(
    const RemoteAddress& address, const RemoteTlsFiles& tls, int count);

}  // namespace casement

#endif  // CASEMENT_REMOTE_REMOTE_CHANNELS_H_
