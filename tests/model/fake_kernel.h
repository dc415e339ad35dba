// What the kernel does between system calls and the vfs: it remembers names,
// found and missing, until it is told otherwise; counts lookups; forgets nodes
// that no name, file or mapping holds; and looks up under the directory's lock,
// which a notification waits for. As read in Linux 6.18, fs/fuse/dir.c.
//
// For tasks of a Scheduler: its own state needs no lock.
#ifndef CASEMENT_TESTS_MODEL_FAKE_KERNEL_H_
#define CASEMENT_TESTS_MODEL_FAKE_KERNEL_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/mutex.h"
#include "vfs/data_path.h"
#include "vfs/file_system.h"
#include "vfs/kernel_notifier.h"

namespace casement {

class FakeKernel final : public KernelNotifier {
 public:
  explicit FakeKernel(DataPath data_path) : data_path_(data_path) {}
  void Mount(FileSystem& vfs) { vfs_ = &vfs; }

  // An open file. To be given to Close(), once.
  struct File {
    InodeId id = 0;
    std::shared_ptr<const OpenBlob> passthrough;
    bool writer = false;
  };

  // System calls. `path` is relative to the mount: "cas/...".
  absl::StatusOr<File> Open(absl::string_view path, int flags);
  absl::StatusOr<std::string> Read(const File& file);
  absl::Status Write(const File& file, absl::string_view bytes);
  void Close(File file);
  // ENOENT if there is no such name.
  absl::Status Stat(absl::string_view path);
  // A lookup whose caller was killed before the answer.
  void InterruptedStat(absl::string_view path);
  // Memory is wanted: forgets every name that nothing below needs.
  void Shrink();
  // How many nodes it knows, the root not counted.
  size_t nodes() const { return nodes_.size(); }

  void Queue(KernelNote note) override;
  void Settle(InodeId id) override {}
  void Drain() override;
  bool Tell(std::vector<KernelNote> notes) override;
  // The notify thread: until Stop(), and everything was told.
  void Serve();
  void Stop();

 private:
  using Name = std::pair<InodeId, std::string>;
  struct Known {
    InodeId id = 0;  // 0: known not to exist.
    bool is_expired = false;
  };
  struct Inode {
    uint64_t lookups = 0;
    // Names, names below it, open files and system calls under way.
    int pins = 0;
  };

  // A pinned node.
  absl::StatusOr<InodeId> Walk(absl::string_view path, bool revalidate);
  absl::StatusOr<InodeId> Lookup(InodeId parent, const std::string& name);
  // What is remembered of a name, pinned if it is a node.
  std::optional<InodeId> Remembered(const Name& name);
  absl::StatusOr<Entry> Ask(InodeId parent, const std::string& name);
  void Pin(InodeId id);
  void Unpin(InodeId id);
  void Forget(Name name);
  void Handle(const KernelNote& note);
  uint64_t Add(std::vector<KernelNote> notes);
  void WaitUntilTold(uint64_t count);
  SharedMutex& LockOf(InodeId directory);

  const DataPath data_path_;
  FileSystem* vfs_ = nullptr;
  std::map<Name, Known> names_;
  std::map<InodeId, Inode> nodes_;
  std::map<InodeId, std::unique_ptr<SharedMutex>> directory_locks_;
  std::map<Name, std::unique_ptr<Mutex>> name_locks_;

  Mutex mu_;
  CondVar changed_;
  std::deque<KernelNote> queue_ ABSL_GUARDED_BY(mu_);
  uint64_t queued_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t told_ ABSL_GUARDED_BY(mu_) = 0;
  bool is_stopping_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_FAKE_KERNEL_H_
