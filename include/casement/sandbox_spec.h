// What a sandbox is made of.
#ifndef CASEMENT_SANDBOX_SPEC_H_
#define CASEMENT_SANDBOX_SPEC_H_

#include <cstdint>
#include <string>

#include "casement/digest.h"

namespace casement {

// What an action may do to its inputs. Nothing it does reaches another sandbox,
// another view or the store under either.
enum class InputsPolicy : uint8_t {
  // Inputs appear 0644, executables 0755; a write stays in this sandbox.
  kCopyOnWrite,
  // Inputs appear 0444 and 0555. Writing to one is EACCES, for root EROFS.
  kReadOnly,
};

// Where inputs may be when the sandbox is made.
enum class InputsFrom : uint8_t {
  // In the store: all of them, or creation fails.
  kStore,
  // Or in the remote cache (casementd --remote), which is asked whether it has
  // them. A file is fetched when it is first opened or read, which takes until
  // then; Directories are fetched at once.
  kRemote,
};

struct SandboxSpec {
  // The digest of an REv2 Directory. The empty Directory's by default.
  Digest root;
  // One path component, at most 255 bytes, unused by a live sandbox. Chosen by
  // the daemon if empty.
  std::string name;
  InputsPolicy inputs = InputsPolicy::kCopyOnWrite;
  InputsFrom inputs_from = InputsFrom::kStore;
  // Whose directory it is. Only root may choose somebody else than itself.
  uint32_t owner_uid = 0;
  uint32_t owner_gid = 0;
  // Where the action comes from, for example "//package:target"; helps to
  // choose a stash. At most 4096 bytes.
  std::string label;
  // How many bytes its written files may take on disk; 0 is no limit but the
  // store's. Past it writes fail with ENOSPC.
  int64_t scratch_bytes_max = 0;
  // How many files, directories, symlinks and special files it may add to its
  // inputs; 0 is the daemon's limit. Past it creation fails with ENOSPC.
  int64_t nodes_max = 0;
};

}  // namespace casement

#endif  // CASEMENT_SANDBOX_SPEC_H_
