// The store and the vfs in one process, without FUSE and gRPC, and what has to
// hold of them after each step of a schedule.
//
// Names: blob i has the bytes Bytes(i). The tree, if there is one, has the
// blobs as f0, f1..., the odd ones executable.
#ifndef CASEMENT_TESTS_MODEL_RACE_WORLD_H_
#define CASEMENT_TESTS_MODEL_RACE_WORLD_H_

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "model/fake_kernel.h"
#include "model/scheduler.h"
#include "model/stepped_disk.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "support/fake_clock.h"
#include "support/temp_directory.h"
#include "vfs/file_system.h"
#include "vfs/node_table.h"
#include "vfs/sandbox_directory.h"
#include "vfs/scratch_file.h"
#include "vfs/views.h"

namespace casement {

class RaceWorld {
 public:
  struct Options {
    DataPath data_path = DataPath::kPassthrough;
    bool is_on_disk = false;  // And not in memory, which is faster.
    int blobs = 1;            // All of them are there at first.
    bool has_tree = false;
    // Room for this many bytes more than what is there at first. 0: much.
    int64_t spare_bytes = 0;
    bool is_fine = false;  // See Scheduler.
    // At the end, to compare the account to the byte.
    bool is_synced = false;
    // Disk calls may fail, so that any operation may.
    std::function<int(absl::string_view)> fail;
  };

  explicit RaceWorld(Options options);
  ~RaceWorld();

  // Runs the tasks with the schedule that `choose` makes, and checks after each
  // step and at the end. Call it once.
  void Run(std::vector<std::pair<std::string, std::function<void()>>> tasks,
           Scheduler::Chooser choose);
  std::string History() const { return history_; }
  int steps() const { return steps_; }

  // What tasks do. Each checks what it sees, and fails the test.
  void Put(int blob);
  // An upload that ends in the middle, and then succeeds.
  void UploadTwice(int blob);
  void Evict(int blob);
  void EvictUnleased();
  void Stat(const std::string& path);
  void InterruptedStat(const std::string& path);
  void Sync();
  void Shrink() { kernel_.Shrink(); }
  void GiveUpIdleLeases() { directories_->GiveUpAllIdleLeases(); }
  // Open files, read when opened and again when closed.
  struct Held {
    FakeKernel::File file;
    int blob = 0;
    const char* map = nullptr;
  };
  using HeldPtr = std::shared_ptr<Held>;
  // Null if there is no such name, which must not be if it `must_be_there`.
  HeldPtr Open(const std::string& path, int blob, bool must_be_there = false);
  // As by mmap(2), where the kernel has the blob's file: the mapping is the
  // blob's, whatever becomes of its name.
  void Map(const HeldPtr& held);
  void Read(const HeldPtr& held);
  void Close(HeldPtr held);
  // While it lives the blob must be there. Invalid if it was not.
  Lease LeaseBlob(int blob);
  void CheckLeased(int blob);
  // "" if something was missing.
  std::string CreateSandbox(InputsPolicy inputs, bool may_reuse = false);
  void WriteInSandbox(const std::string& name, int blob);
  void CollectFromSandbox(const std::string& name, int blob);
  void ReleaseSandbox(const std::string& name, bool stash = false);

  std::string CasPath(int blob, bool is_executable) const;
  std::string TreePath(int blob) const;
  std::string SandboxPath(const std::string& name, int blob) const;
  const std::string& Bytes(int blob) const { return bytes_.at(blob); }
  int blobs() const { return options_.blobs; }

 private:
  void OpenStore(int64_t capacity_bytes);
  void Build();
  // After each step.
  void Look();
  static void LookAt(const std::function<void()>& check);
  void LookAtBytes();
  void LookAtAccount();
  // What the store's files allocate, those without a name included.
  int64_t Allocated() const;
  std::map<std::string, int64_t> AllocatedByFile() const;
  // After the last step: G2, G12.
  void CheckEnd();
  void CheckFiles();
  bool MayFail() const { return options_.fail != nullptr; }
  void ExpectPut(const absl::Status& put);
  void ExpectBytes(const absl::StatusOr<std::string>& read, int blob);

  const Options options_;
  TempDirectory folder_;
  SteppedDisk disk_;
  FakeClock clock_;
  std::vector<std::string> bytes_;
  std::vector<Digest> digests_;
  Digest root_digest_;
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<DirectoryTable> directories_;
  std::unique_ptr<ScratchFiles> scratch_files_;
  NodeTable nodes_;
  FakeKernel kernel_;
  std::shared_ptr<Views> views_;
  std::shared_ptr<SandboxDirectory> sandboxes_;
  std::unique_ptr<FileSystem> vfs_;
  std::list<Held*> held_;
  std::map<std::string, std::weak_ptr<Area>> live_;  // Sandboxes, by name.
  int64_t allocated_bytes_ = 0;
  int writers_ = 0;
  std::string history_;
  int steps_ = 0;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_RACE_WORLD_H_
