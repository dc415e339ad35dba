// A SandboxTable for tests of what talks to one: sandboxes are plain
// directories without inputs, and every file in one is an output.
//
// It obeys SandboxTable's contract as far as calls and errors go: names,
// missing blobs, limits, leases. Thread safe.
#ifndef CASEMENT_TESTS_SUPPORT_FAKE_SANDBOX_TABLE_H_
#define CASEMENT_TESTS_SUPPORT_FAKE_SANDBOX_TABLE_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/sandbox_table.h"

namespace casement {

class FakeSandboxTable final : public SandboxTable {
 public:
  // Sandboxes are made below `folder`, which exists.
  FakeSandboxTable(BlobStore& store, DirectoryTable& directories,
                   std::string folder)
      : store_(store), directories_(directories), folder_(std::move(folder)) {}

  absl::StatusOr<SandboxInfo> Create(const SandboxSpec& spec,
                                     bool may_reuse) override;
  absl::StatusOr<std::vector<Change>> Diff(absl::string_view name) override;
  absl::StatusOr<Collected> Collect(absl::string_view name,
                                    absl::Span<const std::string> paths,
                                    bool force, const Stored& stored) override;
  absl::Status Release(absl::string_view name, bool stash) override;
  absl::StatusOr<SandboxInfo> Info(absl::string_view name) override;
  std::vector<SandboxInfo> List() override;

  // What Diff() says of `name` instead of looking.
  void SetChanges(const std::string& name, std::vector<Change> changes);
  // Whether the last Release() asked to keep the sandbox.
  bool was_stashed() const;

 private:
  struct Live {
    SandboxInfo info;
    ClosureLease lease;
    std::vector<Change> changes;
    std::set<std::string> inputs;  // Their paths.
  };

  absl::Status CopyInputs(const InternedDirectory& directory,
                          const std::string& prefix, Live& live);

  absl::StatusOr<Output> CollectOne(const std::string& sandbox,
                                    const std::string& path);

  BlobStore& store_;
  DirectoryTable& directories_;
  const std::string folder_;
  mutable Mutex mu_;
  std::map<std::string, Live, std::less<>> live_ ABSL_GUARDED_BY(mu_);
  int created_ ABSL_GUARDED_BY(mu_) = 0;
  bool was_stashed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_FAKE_SANDBOX_TABLE_H_
