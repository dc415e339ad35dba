// The bytes of a file that a sandbox wrote: a file in the store, nameless as
// long as it is open. There may be more of them than a process may have open:
// those that were not used lately get a name and are closed.
//
// Thread safe. Every byte that it takes on disk is asked for before it is
// written: from the sandbox's budget and from the store's (BlobStore::
// ReserveScratch), and given back when the file goes.
#ifndef CASEMENT_VFS_SCRATCH_FILE_H_
#define CASEMENT_VFS_SCRATCH_FILE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "store/blob_store.h"

namespace casement {

// What a sandbox may take of something. Thread safe.
class ByteBudget {
 public:
  // `bytes_max` 0: no limit of its own.
  explicit ByteBudget(int64_t bytes_max) : bytes_max_(bytes_max) {}

  bool Take(int64_t bytes) {
    const int64_t before = used_.fetch_add(bytes);
    if (bytes_max_ == 0 || before + bytes <= bytes_max_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  void GiveBack(int64_t bytes) { used_.fetch_sub(bytes); }
  int64_t used() const { return used_.load(); }
  int64_t bytes_max() const { return bytes_max_; }

 private:
  const int64_t bytes_max_;
  std::atomic<int64_t> used_{0};
};

class ScratchFile;

// Makes them, and sees that not too many are open.
class ScratchFiles {
 public:
  // Half of what RLIMIT_NOFILE allows now.
  static size_t DefaultOpenMax();

  // `store` must outlive it, and it its files.
  explicit ScratchFiles(BlobStore& store, size_t open_max = DefaultOpenMax())
      : store_(store), open_max_(open_max) {}
  ScratchFiles(const ScratchFiles&) = delete;
  ScratchFiles& operator=(const ScratchFiles&) = delete;

  absl::StatusOr<std::shared_ptr<ScratchFile>> Create(
      std::shared_ptr<ByteBudget> budget);

 private:
  friend class ScratchFile;

  // `file` has been opened; closes others if they are too many. Best effort: a
  // full disk may have no room for a name.
  void Opened(const std::shared_ptr<ScratchFile>& file);

  BlobStore& store_;
  const size_t open_max_;
  Mutex mu_;  // A leaf.
  // In the order in which they were opened, or found in use. Some may be gone.
  std::deque<std::weak_ptr<ScratchFile>> open_ ABSL_GUARDED_BY(mu_);
};

class ScratchFile : public std::enable_shared_from_this<ScratchFile> {
 public:
  // While it lives the file stays open under this descriptor.
  using OpenFile = std::shared_ptr<const UniqueFd>;

  // By ScratchFiles::Create().
  ScratchFile(ScratchFiles& files, std::shared_ptr<ByteBudget> budget,
              UniqueFd fd);
  ~ScratchFile();

  // Takes the first `bytes` bytes of `blob`, sharing them where the disk's file
  // system can (reflink) and copying them inside the kernel elsewhere.
  absl::Status CopyFrom(const OpenBlob& blob, int64_t bytes);

  // These six fail with FailedPrecondition, and nothing done, once the file
  // has become a blob: its node then has other bytes.
  absl::StatusOr<size_t> Write(int64_t offset, absl::string_view bytes);
  // As Write(), but what would make the file longer is dropped: the kernel may
  // write a page back that was truncated away in the meantime. It is told that
  // all of it was written; `is_dropped`: whether nothing was.
  absl::StatusOr<size_t> WriteBack(int64_t offset, absl::string_view bytes,
                                   bool& is_dropped);
  absl::Status Truncate(int64_t size);
  // From an open file, as copy_file_range(2); at most 64 MiB at once.
  absl::StatusOr<size_t> CopyRange(int from, int64_t from_offset,
                                   int64_t to_offset, size_t length);
  // `mode` as in fallocate(2).
  absl::Status Allocate(int mode, int64_t offset, int64_t length);
  // Hashes and publishes; from here on the file is a blob's.
  absl::StatusOr<BlobStore::PublishedScratch> Publish();

  absl::StatusOr<size_t> Read(int64_t offset, absl::Span<char> buffer);
  absl::StatusOr<int64_t> Seek(int64_t offset, int whence);
  absl::Status Sync();
  // For reading and writing.
  absl::StatusOr<OpenFile> Open();
  // As of the last change; no system call.
  int64_t size() const { return size_.load(); }
  int64_t blocks() const { return blocks_.load(); }  // Of 512 bytes.

 private:
  friend class ScratchFiles;

  // Whether it was used since it was last asked.
  bool TakeUsed() { return used_.exchange(false); }
  // Gives it a name, if it has none, and closes it once nobody uses it. False
  // if it stays open.
  bool TryClose();
  void KeepOpen(bool keep);
  void RemoveName();

  // Asks for room for a change that can add at most `bytes`. The answer is to
  // be settled by Settle() after the change, whatever became of it. `fd` is
  // this file's.
  absl::StatusOr<int64_t> Reserve(int64_t bytes);
  void Settle(int fd, int64_t reserved);
  absl::Status CheckWritable() const ABSL_SHARED_LOCKS_REQUIRED(io_mu_);
  absl::StatusOr<OpenFile> OpenToWrite() ABSL_SHARED_LOCKS_REQUIRED(io_mu_);
  absl::StatusOr<size_t> WriteLocked(int64_t offset, absl::string_view bytes)
      ABSL_SHARED_LOCKS_REQUIRED(io_mu_);
  absl::StatusOr<BlobStore::PublishedScratch> PublishLocked()
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(io_mu_);

  ScratchFiles& files_;
  BlobStore& store_;
  const std::shared_ptr<ByteBudget> budget_;
  // Once the file is a blob's: evicted while it is open here, its bytes are a
  // zombie's until open_ is closed.
  BlobRef blob_ ABSL_GUARDED_BY(io_mu_);
  Mutex open_mu_;  // Held while a name is made or removed, and while it opens.
  OpenFile open_ ABSL_GUARDED_BY(open_mu_);  // nullptr: closed.
  // In the store. Kept when the file is opened again: one that had a name and
  // lost it can never become a blob (linkat(2) of a file without links).
  std::string name_ ABSL_GUARDED_BY(open_mu_);
  // It becomes a blob, or is one, which must not be written to by another name.
  bool keep_open_ ABSL_GUARDED_BY(open_mu_) = false;
  std::atomic<bool> used_{true};
  // Held shared by writers, exclusively by Publish(), because a blob never
  // changes, and by Truncate(), for WriteBack().
  mutable SharedMutex io_mu_;
  bool published_ ABSL_GUARDED_BY(io_mu_) = false;
  // Guards accounted_, so that two settlements do not both count one block.
  mutable Mutex settle_mu_;
  int64_t accounted_ ABSL_GUARDED_BY(settle_mu_) = 0;
  std::atomic<int64_t> size_{0};
  std::atomic<int64_t> blocks_{0};
};

}  // namespace casement

#endif  // CASEMENT_VFS_SCRATCH_FILE_H_
