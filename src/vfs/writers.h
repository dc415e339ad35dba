// Which process has a file of the mount open for writing, as /proc tells.
//
// The mount itself is never touched, which could wait for whoever asks. Slow:
// it looks at every descriptor of every process that this one may look into.
#ifndef CASEMENT_VFS_WRITERS_H_
#define CASEMENT_VFS_WRITERS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"

namespace casement {

struct Writer {
  pid_t pid = 0;
  std::string command;  // "cc1"
  std::string path;     // Of `files`.
};

// The first that is found. `files` are paths by st_ino, in the casement mount
// at `mount_point`.
std::optional<Writer> FindWriter(
    const std::string& mount_point,
    const absl::flat_hash_map<uint64_t, std::string>& files);

}  // namespace casement

#endif  // CASEMENT_VFS_WRITERS_H_
