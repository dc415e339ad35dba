// Whether a process is in a sandbox, as /proc tells.
//
// The mount itself is never touched, which could wait for whoever asks. Looking
// into a process is slow, so those are left out that have not run since before
// the sandbox was there: most of a machine's are asleep. Thread safe.
#ifndef CASEMENT_VFS_OCCUPANTS_H_
#define CASEMENT_VFS_OCCUPANTS_H_

#include <sys/types.h>

#include <chrono>  // NOLINT
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"

namespace casement {

struct Occupant {
  pid_t pid = 0;
  std::string command;  // "make"
  std::string how;      // "its working directory"
};

class Occupants {
 public:
  using Moment = std::chrono::steady_clock::time_point;
  static Moment Now() { return std::chrono::steady_clock::now(); }

  // The first process that has its working or root directory, an open file or a
  // mapping at or below `path` ("sandbox/x"), relative to the casement mount at
  // `mount_point`; or that sees a mount of it, as a container would. There was
  // no way into it before `entered`.
  std::optional<Occupant> Find(const std::string& mount_point,
                               const std::string& path, Moment entered);

 private:
  // What was found out about a process, which stays true while it does not run:
  // its CPU time tells, in nanoseconds.
  struct Seen {
    int64_t cpu_time = -1;
    Moment since;        // It has had that time at least since then.
    std::string mounts;  // Its mount namespace; empty if it is a kernel thread.
  };
  using SeenByPid = absl::flat_hash_map<pid_t, Seen>;

  static Seen LookAt(pid_t pid, const SeenByPid& before);

  Mutex mu_;
  std::shared_ptr<const SeenByPid> seen_ ABSL_GUARDED_BY(mu_) =
      std::make_shared<SeenByPid>();  // By the latest Find().
};

}  // namespace casement

#endif  // CASEMENT_VFS_OCCUPANTS_H_
