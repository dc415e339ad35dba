// A control group that holds an action's processes, so that none is left when
// its sandbox ends. Version 2 of cgroups(7), Linux 5.14 or later.
#ifndef CASEMENT_CONTROL_CGROUP_H_
#define CASEMENT_CONTROL_CGROUP_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "control/peer.h"

namespace casement {

class Cgroup {
 public:
  // The directory at `path`, an absolute one, as this process sees it.
  // InvalidArgument if that is no control group, is the root of its tree or
  // holds this process; PermissionDenied if it belongs to somebody else than
  // `peer` or this process may not kill in it; NotFound.
  static absl::StatusOr<Cgroup> Open(const std::string& path, const Peer& peer);

  // Kills every process in it and below, and waits until they are gone.
  // DeadlineExceeded if some are still there after `timeout`.
  absl::Status Kill(absl::Duration timeout) const;

 private:
  Cgroup(std::string path, UniqueFd directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}

  std::string path_;
  UniqueFd directory_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_CGROUP_H_
