// A client of casementd: what an executor needs, over the control socket.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Connect());
//   ASSIGN_OR_RETURN(std::unique_ptr<Session> session, client->StartSession());
//   ASSIGN_OR_RETURN(CreatedSandbox sandbox,
//                    client->Create({.root = input_root}, session.get()));
//   ... run the action in sandbox.info.path ...
//   ASSIGN_OR_RETURN(CollectedOutputs outputs,
//                    client->Collect(sandbox.info.name, {"out/a.o"}));
//
// Thread safe; calls run in parallel on one connection, which is made again
// when the daemon was restarted. Every error says in one line what was done to
// what, and why it failed. Errors that any call can return:
//   Unavailable       nobody answers on the socket, or the daemon went away; or
//                     its remote cache, if a google.rpc.ErrorInfo of reason
//                     "REMOTE_CACHE" is the payload
//   PermissionDenied  the daemon refuses this user
// A blob that an input root lacks is named by FailedPrecondition, with a
// google.rpc.PreconditionFailure as payload
// "type.googleapis.com/google.rpc.PreconditionFailure".
#ifndef CASEMENT_CLIENT_H_
#define CASEMENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "casement/digest.h"
#include "casement/metric.h"
#include "casement/sandbox_spec.h"

namespace casement {

// How far a PutTree() is. Numbers only grow.
struct TreeProgress {
  int64_t files = 0;  // Found so far,
  int64_t bytes = 0;  // and their sizes.
  int64_t files_hashed = 0;
  int64_t bytes_hashed = 0;
  int64_t blobs_missing = 0;  // That the store did not have,
  int64_t bytes_missing = 0;  // and their sizes.
  int64_t blobs_sent = 0;
  int64_t bytes_sent = 0;
};

struct PutTreeOptions {
  // Keep mtimes and permission bits, as NodeProperties. Equal trees made at
  // different times then have different digests.
  bool node_properties = false;
  // Called from other threads, one at a time, a few times a second.
  std::function<void(const TreeProgress&)> progress = {};
};

struct PutTreeResult {
  Digest root;  // Of the root Directory.
  TreeProgress total;
  int64_t directories = 0;
  int64_t symlinks = 0;
};

struct RunningSandbox {
  std::string name;
  std::string path;  // Absolute, in the daemon's mount.
  SandboxSpec spec;
  absl::Time created;
  uint64_t input_files = 0;    // In its input root.
  uint64_t inputs_opened = 0;  // How many of them were opened or read.
  int64_t scratch_bytes = 0;   // Allocated on disk by what was written.
  int64_t nodes = 0;           // In the daemon's memory.
  bool is_stash = false;       // Released and kept: it cannot be used.
};

// How a sandbox was made out of a released one that was kept.
struct ReusedSandbox {
  std::string stash;  // The name that it had before.
  // Microseconds that it saves, roughly: lookups less notifications.
  int64_t score = 0;
  int64_t nodes_kept = 0;     // What the kernel knows and may go on knowing.
  int64_t notifications = 0;  // What it was told to forget.
  int64_t directories_visited = 0;  // Compared with the new input root's,
  int64_t directories_skipped = 0;  // and those that did not need to be.
  absl::Duration time;              // What it took.
};

struct CreatedSandbox {
  RunningSandbox info;
  absl::Duration create_time;  // What the daemon took.
  std::optional<ReusedSandbox> reused;
};

struct CreateOptions {
  // As whom. Only root may name somebody else than itself.
  bool owner_is_peer = true;  // else spec.owner_uid and spec.owner_gid
  // Never made out of a kept sandbox.
  bool never_reuse = false;
  // The absolute path, where the daemon sees it, of a control group
  // (cgroups(7), version 2, Linux 5.14) of this user's that the action is
  // started in. All in it and below it are killed when the sandbox is released
  // or its session ends, which may take up to 5 seconds. None if empty.
  std::string cgroup = {};
};

struct SandboxChange {
  enum class Kind : uint8_t {
    kAdded,
    kModified,  // Bytes were written, or a symlink's target changed.
    kDeleted,
    kTypeOrMode,  // The type changed, or the permission bits alone.
  };
  Kind kind = Kind::kAdded;
  std::string path;  // Relative to the sandbox.
};

struct CollectOptions {
  // Collect what is open for writing as it is now, instead of failing.
  bool force = false;
  // Send the outputs to the daemon's remote cache, too, as far as that lacks
  // them, and wait until they are there.
  bool send = false;
};

struct CollectedOutput {
  enum class Kind : uint8_t { kFile, kExecutable, kDirectory, kSymlink };
  Kind kind = Kind::kFile;
  std::string path;
  Digest digest;          // Files; kDirectory: of its Tree message.
  Digest root_directory;  // kDirectory: of its root Directory.
  std::string target;     // kSymlink.
};

struct CollectedOutputs {
  std::vector<CollectedOutput> outputs;
  std::vector<std::string> missing;  // Paths that do not exist.
};

struct StoreStats {
  int64_t capacity_bytes = 0;   // What the store may allocate on disk,
  int64_t accounted_bytes = 0;  // what it does: the sum of these owners.
  std::vector<std::pair<std::string, int64_t>> accounted_by_owner;
  int64_t blobs = 0;
  int64_t leased_blobs = 0;
  int64_t zombies = 0;     // Evicted, but still open.
  int64_t size_bytes = 0;  // The sum of the blobs' sizes.
  int64_t sandboxes = 0;
  int64_t sessions = 0;
  // Since the daemon started:
  int64_t evictions = 0;
  int64_t published = 0;
  int64_t damaged = 0;
  std::vector<Metric> metrics;  // Everything else that it counts.
};

struct EvictResult {
  int64_t blobs = 0;
  int64_t bytes = 0;  // The sum of their sizes.
  // Why the others stayed: NotFound, or FailedPrecondition if leased.
  std::vector<std::pair<Digest, absl::Status>> failures;
};

struct VerifyOptions {
  bool repair = false;  // Drop what is damaged.
  // Or move it to this directory: an absolute path, where the daemon sees it,
  // outside of its store and mount. For root and the daemon's own user.
  std::string quarantine = {};
  // Of the time, at most so much is spent reading. From 1 to 100.
  int disk_share_percent = 50;
};

struct VerifyResult {
  int64_t blobs = 0;
  int64_t bytes = 0;
  std::vector<Digest> damaged;
  int64_t dropped = 0;  // Of the damaged ones; those moved, too.
  int64_t moved = 0;    // To the quarantine.
  std::string stays;    // Why others that should have gone are still there.
  int64_t accounted_bytes = 0;
  // What a walk of the store finds: its files, and those without a name that
  // the daemon has open.
  int64_t allocated_bytes = 0;
  // What is allocated beyond all that was accounted while the walk lasted: 0,
  // unless somebody put files into the store, or the daemon has a bug.
  int64_t unaccounted_bytes = 0;
};

// Sandboxes created under it are released when it is destroyed, and when this
// process dies. It may outlive its Client. Thread safe.
class Session {
 public:
  virtual ~Session() = default;
  virtual const std::string& id() const = 0;
};

// Bytes done and in all.
using ByteProgress = std::function<void(int64_t, int64_t)>;

class Client {
 public:
  // `socket` is a path; "" stands for $CASEMENT_SOCKET, else
  // /run/casement/casement.sock for root and $XDG_RUNTIME_DIR/casement.sock for
  // others. Fails at once, Unavailable, if nobody answers there.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(
      absl::string_view socket = "");
  ~Client();

  // Blobs. Putting what the store has already costs a question.
  absl::StatusOr<Digest> Put(absl::string_view bytes);
  // Of a regular file. Aborted if it changes while it is read.
  absl::StatusOr<Digest> PutFile(const std::string& path);
  // Of a directory, with all below it: executable bits, symlinks and empty
  // directories are kept. Only what the store lacks is sent. InvalidArgument,
  // naming it, for a file that is none of those; Aborted if one changes while
  // it is read.
  absl::StatusOr<PutTreeResult> PutTree(const std::string& directory,
                                        const PutTreeOptions& options);
  // Those that the store does not have, in the order given, each once.
  absl::StatusOr<std::vector<Digest>> Missing(absl::Span<const Digest> digests);
  // NotFound if it is not there; DataLoss if other bytes come than were named.
  // A failure may leave some bytes written.
  absl::Status Get(const Digest& digest, int fd,
                   const ByteProgress& progress = {});
  // Into memory; ResourceExhausted for more than `bytes_max`.
  absl::StatusOr<std::string> GetBytes(const Digest& digest, int64_t bytes_max);
  // Sends blobs to the daemon's remote cache, as far as that lacks them, and
  // waits until they are there. FailedPrecondition if there is no remote cache,
  // or if a blob is neither here nor there; Unavailable or DeadlineExceeded if
  // it cannot be reached: casementd(8), --remote-timeout.
  absl::Status Send(absl::Span<const Digest> digests);

  // Sandboxes; casement/v1/sandboxes.proto has every error.
  absl::StatusOr<std::unique_ptr<Session>> StartSession();
  // Released with `session`, which may be null.
  absl::StatusOr<CreatedSandbox> Create(const SandboxSpec& spec,
                                        const Session* session = nullptr,
                                        const CreateOptions& options = {});
  absl::StatusOr<std::vector<SandboxChange>> Diff(absl::string_view name);
  // Puts outputs into the store. `paths` are relative to the sandbox; "." is
  // all of it. FailedPrecondition if one is open for writing. With `send` also
  // the errors of Send(): the outputs are in the store all the same.
  absl::StatusOr<CollectedOutputs> Collect(absl::string_view name,
                                           absl::Span<const std::string> paths,
                                           const CollectOptions& options = {});
  // Its directory is gone when this returns. With `stash` it is kept for a
  // later sandbox, unless a process is in it or has a file of it open.
  absl::Status Release(absl::string_view name, bool stash = false);
  // Those that this user may act on and the stashes that were theirs, sorted by
  // name.
  absl::StatusOr<std::vector<RunningSandbox>> List();

  // The store.
  absl::StatusOr<StoreStats> Stats();
  absl::StatusOr<EvictResult> Evict(absl::Span<const Digest> digests);
  // Everything that no live sandbox leases.
  absl::StatusOr<EvictResult> EvictUnleased();
  // Hashes every blob again, and compares what is accounted with what is on
  // disk. InvalidArgument for options that cannot be; ResourceExhausted if
  // another verification is running.
  absl::StatusOr<VerifyResult> Verify(const VerifyOptions& options,
                                      const ByteProgress& progress = {});

 private:
  struct Rep;  // gRPC, which users of this header need not have.
  explicit Client(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace casement

#endif  // CASEMENT_CLIENT_H_
