// The live sandboxes: created, found, looked into, released.
//
// Thread safe. Every call may block on the store's disk; none holds a lock
// while it does.
#ifndef CASEMENT_VFS_SANDBOX_TABLE_H_
#define CASEMENT_VFS_SANDBOX_TABLE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "casement/digest.h"
#include "casement/sandbox_spec.h"
#include "model/directory.h"

namespace casement {

// One line of `diff`.
struct Change {
  enum class Kind : uint8_t {
    kAdded,       // A
    kModified,    // M: bytes were written, or a symlink's target changed
    kDeleted,     // D
    kTypeOrMode,  // T: the type changed, or the permission bits alone
  };
  Kind kind;
  std::string path;  // Relative to the sandbox, without a leading '/'.
};

// One line of `collect`: what REv2's ActionResult wants of an output path.
struct Output {
  enum class Kind : uint8_t { kFile, kExecutable, kDirectory, kSymlink };
  Kind kind;
  std::string path;
  Digest digest;  // kFile, kExecutable; kDirectory: of its Tree message.
  Digest root_directory;  // kDirectory: of its root Directory.
  std::string target;     // kSymlink.
};

struct Collected {
  std::vector<Output> outputs;
  std::vector<std::string> missing;  // Paths that do not exist: not an error.
};

// What it costs to make a stash serve another input root.
struct RetargetCost {
  // Microseconds that it saves, roughly: lookups less notifications.
  int64_t score = 0;
  int64_t kept = 0;     // Nodes that the kernel knows and may go on knowing.
  int64_t notes = 0;    // Notifications.
  int64_t visited = 0;  // Directories that were compared,
  int64_t skipped = 0;  // and those that did not need to be.
};

// How a sandbox came to be, if it is a reused one.
struct ReuseInfo {
  std::string stash;  // Its last name.
  RetargetCost cost;
  absl::Duration time;  // That retargeting took.
};

// What `sandbox list` says.
struct SandboxInfo {
  std::string name;
  std::string path;  // Absolute, in the mount.
  SandboxSpec spec;
  absl::Time created;
  uint64_t input_files = 0;    // In its input root.
  uint64_t inputs_opened = 0;  // How many of them were opened or read.
  int64_t scratch_bytes = 0;   // Allocated on disk by what was written.
  int64_t nodes = 0;           // In memory.
  bool is_stash = false;       // Released, and kept: it cannot be used.
  std::optional<ReuseInfo> reuse;
};

class SandboxTable {
 public:
  virtual ~SandboxTable() = default;

  // InvalidArgument for a bad name; AlreadyExists; FailedPrecondition for
  // missing blobs; ResourceExhausted past a limit, or if the closure cannot
  // fit. The sandbox can be used at once. `may_reuse`: it may be made of one
  // that was kept.
  virtual absl::StatusOr<SandboxInfo> Create(const SandboxSpec& spec,
                                             bool may_reuse) = 0;
  // NotFound, for these three, naming the sandbox.
  virtual absl::StatusOr<std::vector<Change>> Diff(absl::string_view name) = 0;
  // `paths` are relative to the sandbox; "" and "." are all of it.
  // InvalidArgument for an absolute path or one that escapes;
  // FailedPrecondition if an output is open for writing, unless `force`.
  //
  // `stored`, which may be null, is called with each blob that the outputs are
  // made of as soon as it is in the store, some more than once: in this thread,
  // with no lock held. It may block. An unmodified input may be elsewhere
  // (InputsFrom::kRemote).
  using Stored = std::function<void(const Digest&)>;
  virtual absl::StatusOr<Collected> Collect(absl::string_view name,
                                            absl::Span<const std::string> paths,
                                            bool force,
                                            const Stored& stored) = 0;
  // Ends it: its directory is gone when this returns. With `stash` it is kept
  // for a later one, if it can be.
  virtual absl::Status Release(absl::string_view name, bool stash) = 0;
  virtual absl::StatusOr<SandboxInfo> Info(absl::string_view name) = 0;
  // Sorted by name.
  virtual std::vector<SandboxInfo> List() = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_SANDBOX_TABLE_H_
