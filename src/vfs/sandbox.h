// One action's tree: lazy inputs below, changes above.
//
// Every lookup and every change passes through here, so the sandbox always
// knows what was done to it: what it holds in memory is what was looked at, and
// what differs from its input root. See sandbox_nodes.h.
//
// Thread safe, with one mutex that is never held across I/O. After Kill() every
// call fails with ESTALE.
#ifndef CASEMENT_VFS_SANDBOX_H_
#define CASEMENT_VFS_SANDBOX_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "casement/sandbox_spec.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/area.h"
#include "vfs/data_path.h"
#include "vfs/kernel_notifier.h"
#include "vfs/node_table.h"
#include "vfs/sandbox_nodes.h"
#include "vfs/sandbox_table.h"
#include "vfs/scratch_file.h"

namespace casement {

// What sandboxes work with. All of it outlives them.
struct SandboxContext {
  BlobStore& store;
  ScratchFiles& scratch_files;
  DirectoryTable& directories;
  NodeTable& nodes;
  KernelNotifier& notifier;
  const Clock& clock;
  DataPath data_path;
  BlobFetcher* fetcher = nullptr;  // If there is a remote cache.
};

// Of all extended attributes in a sandbox: they are in memory.
inline constexpr int64_t kSandboxXattrBytesMax = int64_t{64} << 20;

class Sandbox final : public Area,
                      public std::enable_shared_from_this<Sandbox> {
 public:
  Sandbox(const SandboxContext& context, const SandboxSpec& spec,
          ClosureLease inputs);

  // Makes the root directory. Call it once, first.
  void Start();
  // What a lookup of the sandbox's name is answered with.
  absl::StatusOr<Entry> LookupRoot();
  uint64_t root_number() const { return first_number_; }
  // Ends it: gives its leases and scratch files back.
  void Kill();

  // Reuse. A sandbox that nobody is in any more can be kept, pristine; until it
  // is retargeted every call fails with ESTALE, and its leases are given back.
  // Both wait for the kernel: not for threads that answer its requests.
  //
  // Why not; then it must be killed.
  enum class Refusal : uint8_t {
    kOccupied,  // A process is in it: not found out here.
    kOpen,      // One of its files is open.
    kBusy,      // It is being collected, or is gone.
    kWorn,      // It has served so many roots that they cost too much memory.
    kRefused,   // The kernel did not take a notification.
  };
  static constexpr size_t kRefusals = 5;
  std::optional<Refusal> Stash();
  // Whether its files are closed, in passthrough mode; elsewhere the kernel
  // does not say. It reports a close a moment later.
  bool WaitUntilClosed(absl::Duration timeout);
  // The inputs that its action opened or read, if there is a remote cache to
  // fetch them from; once, before it is released.
  std::vector<Digest> TakeInputsRead();
  // Stashes::HeavyDirectories() of its inputs, the latest if it is a stash.
  std::vector<Digest> HeavyDirectories() const;
  // What serving this input root would cost. Score 0: it cannot.
  RetargetCost CostOf(const InternedDirectory& root);
  // Makes a stash a sandbox over `inputs`, with the owner and policy that it
  // has. Takes the lease if it succeeds; if not it must be killed.
  std::optional<RetargetCost> Retarget(const SandboxSpec& spec,
                                       ClosureLease& inputs);

  // Sorted by path.
  absl::StatusOr<std::vector<Change>> Diff();
  using Stored = SandboxTable::Stored;
  absl::StatusOr<Collected> Collect(absl::Span<const std::string> paths,
                                    const Stored& stored);
  // Files that may be open for writing or mapped so.
  struct Writables {
    absl::flat_hash_map<uint64_t, std::string> paths;  // By st_ino.
    std::vector<InodeId> ids;
  };
  // Those at and below `paths`. In cached mode: all that the kernel knows.
  absl::StatusOr<Writables> FindWritables(absl::Span<const std::string> paths);
  // Fills in what the sandbox knows: counts and bytes.
  void Describe(SandboxInfo& info) const;

  absl::StatusOr<Entry> Lookup(Node& directory,
                               absl::string_view name) override;
  void Forget(Node& node, InodeId id, uint64_t count) override;
  absl::StatusOr<Attributes> GetAttributes(Node& node) override;
  absl::StatusOr<Attributes> SetAttributes(Node& node,
                                           const AttributeChange& change,
                                           const Caller& caller) override;
  absl::Status List(Node& node, uint64_t position,
                    const ListSink& sink) override;
  absl::StatusOr<std::string> ReadLink(Node& node) override;
  absl::StatusOr<Opened> Open(Node& node, InodeId id,
                              const OpenRequest& request) override;
  void Closed(Node& node, InodeId id, OpenedAs as) override;
  absl::StatusOr<size_t> Read(Node& node, int64_t offset,
                              absl::Span<char> buffer) override;
  absl::StatusOr<size_t> Write(Node& node, int64_t offset,
                               absl::string_view bytes,
                               const WriteRequest& request) override;
  absl::StatusOr<Entry> MakeDirectory(Place place, uint32_t mode,
                                      const Caller& caller) override;
  absl::StatusOr<Entry> MakeFile(Place place, const NewFile& file,
                                 const Caller& caller) override;
  absl::StatusOr<Entry> MakeSymlink(Place place, absl::string_view target,
                                    const Caller& caller) override;
  absl::StatusOr<Entry> Link(Node& node, Place place) override;
  absl::Status Unlink(Place place) override;
  absl::Status RemoveDirectory(Place place) override;
  absl::Status Rename(Place from, Place to, unsigned flags,
                      const Caller& caller) override;
  absl::Status Allocate(Node& node, int mode, int64_t offset, int64_t length,
                        const Caller& caller) override;
  absl::StatusOr<int64_t> Seek(Node& node, int64_t offset, int whence) override;
  absl::Status Sync(Node& node) override;
  absl::StatusOr<size_t> CopyRange(Node& from, int64_t from_offset, Node& to,
                                   int64_t to_offset, size_t length,
                                   const Caller& caller) override;
  absl::StatusOr<Entry> MakeTemporary(Node& directory, uint32_t mode,
                                      const Caller& caller) override;
  absl::StatusOr<std::string> GetXattr(Node& node,
                                       absl::string_view name) override;
  absl::StatusOr<std::string> ListXattrs(Node& node) override;
  absl::Status SetXattr(Node& node, absl::string_view name,
                        absl::string_view value, int flags) override;
  absl::Status RemoveXattr(Node& node, absl::string_view name) override;
  absl::StatusOr<Limits> GetLimits() override;

  // I10  a node in a children map that is not `changed` is the input that the
  //      map's directory has under that name; each name in it is an added one
  //      or an entry's that is not hidden, and points to where that is kept
  // I11  the kernel-known nodes, and only they, are in the node table
  // I12  a changed node's directories are below_changed, up to the root
  // I13  a directory's subdirectories are those that a listing shows
  void CheckInvariants() const;

 private:
  using NodePtr = boost::intrusive_ptr<SandboxNode>;
  using FilePtr = boost::intrusive_ptr<FileNode>;
  // A directory and a name in it that have been checked.
  struct Spot {
    DirectoryNode& directory;
    absl::string_view name;
  };
  // Where a file's bytes are: one of the two is set.
  struct Source {
    std::shared_ptr<ScratchFile> scratch;
    std::optional<Digest> blob;
  };

  absl::Status CheckAliveLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckAliveLocked(const SandboxNode& node) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<ByteBudget> Budget();
  absl::StatusOr<Spot> SpotLocked(const Place& place)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  timespec Now() const;

  // Names.
  NodePtr FindChildLocked(DirectoryNode& directory, absl::string_view name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  NodePtr MakeInputLocked(DirectoryNode& directory, size_t index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `is_reborn`: of a name that moves, what RemoveNameLocked() said of it.
  void AddNameLocked(const Spot& spot, const NodePtr& node,
                     bool is_reborn = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether the kernel knows the name as a file's second number's.
  bool RemoveNameLocked(const Spot& spot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // After the node has lost its last name.
  void UnlinkedLocked(SandboxNode& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Entry> AddNewLocked(const Place& place, const NodePtr& node,
                                     uint32_t mode, const Caller& caller)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // A new node's number, owner and times, as its directory says.
  void OwnLocked(SandboxNode& node, const DirectoryNode& directory,
                 uint32_t mode, const Caller& caller)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckRoomLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ReplaceLocked(const Spot& to, const NodePtr& target)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckRenameLocked(const NodePtr& node, const NodePtr& target,
                                 unsigned flags) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry AnswerLocked(const NodePtr& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Entry AnswerLocked(const NodePtr& node, const Spot& spot)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  Attributes ShowLocked(const SandboxNode& node) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void DropIfCleanLocked(SandboxNode& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkChangedLocked(SandboxNode& node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MarkBelowLocked(DirectoryNode* directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // It changed in a way that the kernel knows of, but may mistake.
  void SettleLocked(const SandboxNode& node) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The names in it changed.
  void TouchLocked(DirectoryNode& directory) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Reuse: sandbox_stash.cc.
  class RetargetPlan;
  // Makes a directory what its `base` says.
  void ShowInputLocked(DirectoryNode& directory)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UndoLocked(std::vector<KernelNote>& notes, std::vector<NodePtr>& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void UndoNamesLocked(DirectoryNode& directory, std::vector<KernelNote>& notes,
                       std::vector<NodePtr>& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends `top` and all below it, whose name is being taken away.
  static void DetachLocked(const NodePtr& top, std::vector<NodePtr>& dropped);
  void RetargetDirectoryLocked(DirectoryNode& directory,
                               const InternedDirectory& to,
                               std::vector<NodePtr>& dropped)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Bytes.
  absl::StatusOr<Source> SourceOf(FileNode& file);
  Source SourceLocked(FileNode& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The file's scratch bytes; copies its first `keep_bytes` from its blob if
  // it has none yet.
  absl::StatusOr<std::shared_ptr<ScratchFile>> WritableData(FileNode& file,
                                                            int64_t keep_bytes);
  // AbsentBlobStatus() if it can be fetched.
  absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenInput(
      const Digest& digest);
  // Whether `digest`, which OpenInput() said this of, can be read as it comes.
  bool IsComing(const absl::Status& status, const Digest& digest) const;
  // AbsentBlobStatus() if these bytes of it have not.
  absl::StatusOr<size_t> ReadComing(const FileNode& file, const Digest& digest,
                                    int64_t offset, absl::Span<char> buffer);
  absl::StatusOr<std::shared_ptr<ScratchFile>> CopyOnWrite(const Digest& digest,
                                                           int64_t keep_bytes);
  // Runs `write` on the scratch bytes, again if they became a blob meanwhile.
  template <typename Result, typename Function>
  Result WithWritable(FileNode& file, int64_t keep_bytes, Function write);
  void WroteLocked(FileNode& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Truncate(FileNode& file, int64_t size);
  // Extended attributes: sandbox_xattrs.cc.
  absl::Status CheckXattrLocked(const SandboxNode& node,
                                absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckXattrChangeLocked(const SandboxNode& node,
                                      absl::string_view name) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Opened> OpenForWriting(FileNode& file, InodeId id,
                                        const OpenRequest& request);
  // Which of S_ISUID and S_ISGID a file loses if `caller` writes to it.
  uint32_t SuidBits(SandboxNode& node, const Caller& caller);
  // Takes S_ISUID and S_ISGID away because `caller` wrote to it.
  void ClearSuid(SandboxNode& node, const Caller& caller);
  // Whether `id` must not be opened: the file is written, and `id` is, or was
  // when it became so, open in passthrough mode.
  bool IsOutdatedLocked(const FileNode& file, InodeId id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool IsOpenedWithoutItsNameLocked(const FileNode& file) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether `id` of an outdated file can be opened all the same: by the daemon,
  // or as those who have it open in passthrough mode do.
  bool CanServeOutdatedLocked(const FileNode& file) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool ReadsAsOthersLocked(const FileNode& file, InodeId id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Source> SourceToOpen(FileNode& file, InodeId id);
  absl::Status RebornLocked(FileNode& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status CheckInputWritableLocked(const SandboxNode& node,
                                        uint32_t caller_uid) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Whether a change of size is what the kernel does after a failed write.
  bool EndsFailedWriteLocked(SandboxNode& node, int64_t size)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ApplyLocked(SandboxNode& node, const AttributeChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // Outputs: sandbox_collect.cc.
  class Collector;
  absl::StatusOr<Collected> CollectPaths(absl::Span<const std::string> paths,
                                         const Stored& stored);
  absl::StatusOr<std::optional<Output>> CollectPath(const std::string& path,
                                                    const Stored& stored);
  absl::StatusOr<Output> CollectDirectory(const NodePtr& node,
                                          const Stored& stored);
  bool MayHaveWriterLocked(const FileNode& file) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Null if there is no such path. Symlinks are not followed.
  NodePtr WalkLocked(const std::vector<std::string>& components)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status PublishBelow(const NodePtr& top, const Stored& stored);
  // Its digest; none if it was written meanwhile.
  absl::StatusOr<std::optional<Digest>> PublishFile(FileNode& file);

  const SandboxContext context_;
  const uint64_t first_number_;

  // Order: Sandbox::mu_ before the node table's.
  mutable Mutex mu_;
  CondVar copied_;  // A FileNode::copying became false.
  CondVar closed_;  // open_files_ became 0.
  SandboxSpec spec_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<ByteBudget> budget_ ABSL_GUARDED_BY(mu_);  // Of scratch.
  std::shared_ptr<ByteBudget> xattr_budget_ ABSL_GUARDED_BY(mu_);  // Of memory.
  ClosureLease inputs_ ABSL_GUARDED_BY(mu_);
  boost::intrusive_ptr<DirectoryNode> root_ ABSL_GUARDED_BY(mu_);
  // Roots of the Directories that nodes came from: of this action's inputs, and
  // of earlier ones'.
  std::vector<std::shared_ptr<const InternedDirectory>> bases_
      ABSL_GUARDED_BY(mu_);
  bool dead_ ABSL_GUARDED_BY(mu_) = false;
  bool stashed_ ABSL_GUARDED_BY(mu_) = false;
  uint32_t life_ ABSL_GUARDED_BY(mu_) = 1;       // Which action it serves.
  int readers_ ABSL_GUARDED_BY(mu_) = 0;         // Collect() calls under way.
  int64_t open_files_ ABSL_GUARDED_BY(mu_) = 0;  // As Open() counts them.
  // Files, directories and so on that are not inputs and have a name.
  int64_t added_nodes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t kernel_nodes_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t inputs_opened_ ABSL_GUARDED_BY(mu_) = 0;
  // Those, if there is a remote cache to fetch them from another time.
  std::vector<Digest> inputs_read_ ABSL_GUARDED_BY(mu_);
};

}  // namespace casement

#endif  // CASEMENT_VFS_SANDBOX_H_
