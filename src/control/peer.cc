#include "control/peer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace casement {
namespace {

absl::StatusOr<std::vector<gid_t>> GroupsOfSocket(int fd) {
  std::vector<gid_t> groups(32);
  for (;;) {
    socklen_t bytes = groups.size() * sizeof(gid_t);
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &bytes) ==
        0) {
      groups.resize(bytes / sizeof(gid_t));
      return groups;
    }
    // ERANGE says how many bytes are wanted.
    if (errno != ERANGE) return ErrnoStatus(errno, "getsockopt SO_PEERGROUPS");
    groups.resize(bytes / sizeof(gid_t));
  }
}

}  // namespace

bool Peer::IsInGroup(gid_t group) const {
  return gid == group ||
         std::find(groups.begin(), groups.end(), group) != groups.end();
}

bool Peer::IsPrivileged() const { return uid == 0 || uid == ::geteuid(); }

bool Peer::MayGiveTo(uid_t user, gid_t group) const {
  return uid == 0 || (uid == user && IsInGroup(group));
}

absl::StatusOr<Peer> PeerOfSocket(int fd) {
  struct ucred credentials;
  socklen_t bytes = sizeof(credentials);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) {
    return ErrnoStatus(errno, "getsockopt SO_PEERCRED");
  }
  Peer peer = {.uid = credentials.uid, .gid = credentials.gid};
  ASSIGN_OR_RETURN(peer.groups, GroupsOfSocket(fd));
  return peer;
}

absl::StatusOr<Peer> PeerOfConnection(absl::string_view name) {
  int fd = -1;
  if (!absl::ConsumePrefix(&name, "fd:") || !absl::SimpleAtoi(name, &fd)) {
    return absl::PermissionDeniedError("the peer is not on the unix socket");
  }
  const absl::StatusOr<Peer> peer = PeerOfSocket(fd);
  if (!peer.ok()) {
    return absl::PermissionDeniedError(
        absl::StrCat("the peer cannot be told: ", peer.status().message()));
  }
  return peer;
}

}  // namespace casement
