// Who is at the other end of a unix socket, according to the kernel.
#ifndef CASEMENT_CONTROL_PEER_H_
#define CASEMENT_CONTROL_PEER_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups = {};  // Supplementary ones.

  bool IsInGroup(gid_t group) const;
  // The daemon's own user and root may act on everybody's sandboxes.
  bool IsPrivileged() const;
  // Whether it may make things that belong to this user and group.
  bool MayGiveTo(uid_t user, gid_t group) const;
};

// The process that connected, as it was then.
absl::StatusOr<Peer> PeerOfSocket(int fd);

// The same for a connection that gRPC was given by descriptor number and names
// "fd:<number>" (grpc::ServerContext::peer()). Asks the kernel each time: there
// is no table that could outlive its connections. ControlServer sees to it that
// a number is not used again soon. PermissionDenied for any other name, or if
// the connection is gone.
absl::StatusOr<Peer> PeerOfConnection(absl::string_view name);

}  // namespace casement

#endif  // CASEMENT_CONTROL_PEER_H_
