// sandbox/: the live sandboxes, as a directory of the mount and as the table
// that the control services work on.
//
// Thread safe. Lock order: SandboxDirectory::mu_ before Sandbox's.
#ifndef CASEMENT_VFS_SANDBOX_DIRECTORY_H_
#define CASEMENT_VFS_SANDBOX_DIRECTORY_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "vfs/area.h"
#include "vfs/occupants.h"
#include "vfs/read_lists.h"
#include "vfs/sandbox.h"
#include "vfs/sandbox_table.h"
#include "vfs/stash.h"

namespace casement {

inline constexpr InodeId kSandboxesId = 4;

class SandboxDirectory final
    : public SandboxTable,
      public Area,
      public std::enable_shared_from_this<SandboxDirectory> {
 public:
  struct Options {
    std::string path;       // Of the directory, in the mount.
    Attributes attributes;  // Of the directory.
    int64_t sandboxes_max = 100000;
    // For sandboxes that name no limit of their own.
    int64_t nodes_max = 10'000'000;
    Stashes::Options stashes;
  };

  SandboxDirectory(const SandboxContext& context, Options options)
      : context_(context),
        options_(std::move(options)),
        stashes_(options_.stashes) {}

  // Puts the directory into the node table.
  void Start();

  absl::StatusOr<SandboxInfo> Create(const SandboxSpec& asked,
                                     bool may_reuse) override;
  absl::StatusOr<std::vector<Change>> Diff(absl::string_view name) override;
  absl::StatusOr<Collected> Collect(absl::string_view name,
                                    absl::Span<const std::string> paths,
                                    bool force, const Stored& stored) override;
  absl::Status Release(absl::string_view name, bool stash) override;
  absl::StatusOr<SandboxInfo> Info(absl::string_view name) override;
  std::vector<SandboxInfo> List() override;
  // Ends them all, and all stashes.
  void ReleaseAll();
  void DropStashes();
  // Gives up those that are missed least. False if there were none.
  bool DropHalfOfStashes();

  // Since the daemon started.
  struct ReuseCounts {
    std::atomic<int64_t> exact{0};    // Served by a stash of the same root,
    std::atomic<int64_t> overlap{0};  // of another one,
    std::atomic<int64_t> misses{0};   // or by none, though it could have been.
    // Not kept, by Sandbox::Refusal.
    std::array<std::atomic<int64_t>, Sandbox::kRefusals> condemned{};
    std::atomic<int64_t> dropped{0};  // Kept, but not for ever.
    std::atomic<int64_t> nodes_kept{0};
    std::atomic<int64_t> visited{0};
    std::atomic<int64_t> skipped{0};
    std::atomic<int64_t> nanoseconds{0};  // That retargeting took.
  };
  const ReuseCounts& reuse_counts() const { return reuse_; }
  const Stashes& stashes() const { return stashes_; }

  absl::StatusOr<Entry> Lookup(Node& directory,
                               absl::string_view name) override;
  void Forget(Node& node, InodeId id, uint64_t count) override {}
  absl::StatusOr<Attributes> GetAttributes(Node& node) override;
  absl::Status List(Node& directory, uint64_t position,
                    const ListSink& sink) override;
  absl::StatusOr<Limits> GetLimits() override;

 private:
  struct Live {
    std::shared_ptr<Sandbox> sandbox;
    SandboxSpec spec;  // With its name.
    absl::Time created;
    Occupants::Moment entered;  // From when on its name is there.
    uint64_t position = 0;      // In a listing.
    std::optional<ReuseInfo> reuse;
  };

  static absl::Status CheckSpec(const SandboxSpec& spec);
  absl::StatusOr<std::shared_ptr<Sandbox>> Find(absl::string_view name);
  SandboxInfo Describe(const Live& live) const;
  // Gives the sandbox a name and a place among the live ones.
  absl::StatusOr<SandboxInfo> Admit(Live live);
  // A stash as a sandbox, if one serves. Takes the lease then.
  std::optional<Live> Reuse(const SandboxSpec& spec, ClosureLease& inputs);
  // Why it could not be kept.
  std::optional<Sandbox::Refusal> Keep(const Live& live);
  void End(const std::vector<Stash>& stashes);
  std::string MountPoint() const {
    return options_.path.substr(0, options_.path.rfind('/'));
  }
  // True if the kernel had to be told.
  bool ForgetListing();

  const SandboxContext context_;
  const Options options_;
  // Whether the kernel may remember a listing.
  std::atomic<bool> listed_{false};
  Stashes stashes_;
  ReadLists read_lists_;
  Occupants occupants_;
  ReuseCounts reuse_;

  Mutex mu_;
  absl::flat_hash_map<std::string, Live> live_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, std::string> positions_ ABSL_GUARDED_BY(mu_);
  uint64_t last_position_ ABSL_GUARDED_BY(mu_) = 2;
  uint64_t last_name_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace casement

#endif  // CASEMENT_VFS_SANDBOX_DIRECTORY_H_
