// Whether a process is in a sandbox, as /proc tells.
//
// The mount itself is never touched, which could wait for whoever asks. Slow:
// it looks at every process that this one may look into.
#ifndef CASEMENT_VFS_OCCUPANTS_H_
#define CASEMENT_VFS_OCCUPANTS_H_

#include <sys/types.h>

#include <optional>
#include <string>

namespace casement {

struct Occupant {
  pid_t pid = 0;
  std::string command;  // "make"
  std::string how;      // "its working directory"
};

// The first process that has its working or root directory, an open file or a
// mapping at or below `path` ("sandbox/x"), relative to the casement mount at
// `mount_point`; or that sees a mount of it, as a container would.
std::optional<Occupant> FindOccupant(const std::string& mount_point,
                                     const std::string& path);

}  // namespace casement

#endif  // CASEMENT_VFS_OCCUPANTS_H_
