// Finds out whether passthrough works, by trying it.
#ifndef CASEMENT_FUSE_PROBE_H_
#define CASEMENT_FUSE_PROBE_H_

#include <string>

#include "absl/status/status.h"

namespace casement {

// OkStatus() if the kernel reads files of the directory `store` by itself; else
// what is missing: Linux 6.9, CAP_SYS_ADMIN in the initial user namespace, or a
// file system that is not too deep a stack. Makes a mount for a moment, at a
// temporary directory. Takes some milliseconds.
absl::Status ProbePassthrough(const std::string& store);

// Whether `path` is on overlayfs: a file system that is on top of others.
bool IsStacked(const std::string& path);

}  // namespace casement

#endif  // CASEMENT_FUSE_PROBE_H_
