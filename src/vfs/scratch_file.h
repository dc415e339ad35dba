// The bytes of a file that a sandbox wrote: a nameless file in the store.
//
// Thread safe. Every byte that it takes on disk is asked for before it is
// written: from the sandbox's budget and from the store's (BlobStore::
// ReserveScratch), and given back when the file goes.
#ifndef CASEMENT_VFS_SCRATCH_FILE_H_
#define CASEMENT_VFS_SCRATCH_FILE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

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

class ScratchFile {
 public:
  // `store` and `budget` must outlive the file.
  static absl::StatusOr<std::shared_ptr<ScratchFile>> Create(
      BlobStore& store, std::shared_ptr<ByteBudget> budget);
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

  absl::StatusOr<size_t> Read(int64_t offset, absl::Span<char> buffer) const;
  absl::StatusOr<int64_t> Seek(int64_t offset, int whence) const;
  absl::Status Sync() const;
  // For reading, while the file lives.
  int fd() const { return fd_.get(); }
  // As of the last change; no system call.
  int64_t size() const { return size_.load(); }
  int64_t blocks() const { return blocks_.load(); }  // Of 512 bytes.

 private:
  ScratchFile(BlobStore& store, std::shared_ptr<ByteBudget> budget, UniqueFd fd)
      : store_(store), budget_(std::move(budget)), fd_(std::move(fd)) {}

  // Asks for room for a change that can add at most `bytes`. The answer is to
  // be settled by Settle() after the change, whatever became of it.
  absl::StatusOr<int64_t> Reserve(int64_t bytes);
  void Settle(int64_t reserved);
  bool IsAllocated(int64_t offset, int64_t length) const;
  absl::Status CheckWritable() const ABSL_SHARED_LOCKS_REQUIRED(io_mu_);
  absl::StatusOr<size_t> WriteLocked(int64_t offset, absl::string_view bytes)
      ABSL_SHARED_LOCKS_REQUIRED(io_mu_);

  BlobStore& store_;
  const std::shared_ptr<ByteBudget> budget_;
  // Once the file is a blob's: evicted while it is open here, its bytes are a
  // zombie's until fd_ is closed.
  BlobRef blob_ ABSL_GUARDED_BY(io_mu_);
  UniqueFd fd_;  // Set once.
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
