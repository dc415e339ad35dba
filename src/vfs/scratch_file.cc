#include "vfs/scratch_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "vfs/shown.h"

namespace casement {
namespace {

constexpr int64_t kBlockBytes = 4096;
// How much is copied before other threads' reservations get a turn.
constexpr int64_t kCopyBytes = int64_t{64} << 20;
// The other half of the process's descriptors is for blobs and clients.
constexpr size_t kDescriptorsDivisor = 2;
// How many files that are in use may be passed over for one that is not.
constexpr int kLooksMax = 32;

// The most that a change of `length` bytes at any offset can add: its blocks at
// both ends, and the extent blocks that ext4 may need to find them.
int64_t RoomFor(int64_t length) {
  return (length / kBlockBytes + 3) * kBlockBytes;
}

bool IsAllocated(int fd, int64_t offset, int64_t length) {
  return lseek(fd, offset, SEEK_HOLE) >= offset + length;
}

}  // namespace

size_t ScratchFiles::DefaultOpenMax() {
  struct rlimit limit {};
  CASEMENT_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  return limit.rlim_cur / kDescriptorsDivisor;
}

absl::StatusOr<std::shared_ptr<ScratchFile>> ScratchFiles::Create(
    std::shared_ptr<ByteBudget> budget) {
  ASSIGN_OR_RETURN(UniqueFd fd, store_.NewScratchFile());
  auto file =
      std::make_shared<ScratchFile>(*this, std::move(budget), std::move(fd));
  Opened(file);
  return file;
}

void ScratchFiles::Opened(const std::shared_ptr<ScratchFile>& file) {
  std::vector<std::shared_ptr<ScratchFile>> unused;
  std::vector<std::shared_ptr<ScratchFile>> used;  // May die with this.
  {
    MutexLock lock(mu_);
    open_.push_back(file);
    for (int looks = 1; open_.size() > open_max_; ++looks) {
      std::shared_ptr<ScratchFile> oldest = open_.front().lock();
      open_.pop_front();
      if (oldest == nullptr) continue;
      const bool stays = oldest->TakeUsed() && looks < kLooksMax;
      if (stays) open_.push_back(oldest);
      (stays ? used : unused).push_back(std::move(oldest));
    }
  }
  // Where one stays open, so would the others as a rule: they are left for the
  // next time.
  bool can_close = true;
  for (const std::shared_ptr<ScratchFile>& old : unused) {
    can_close = can_close && old->TryClose();
    if (can_close) continue;
    MutexLock lock(mu_);
    open_.push_back(old);
  }
}

ScratchFile::ScratchFile(ScratchFiles& files,
                         std::shared_ptr<ByteBudget> budget, UniqueFd fd)
    : files_(files),
      store_(files.store_),
      budget_(std::move(budget)),
      open_(std::make_shared<const UniqueFd>(std::move(fd))) {}

ScratchFile::~ScratchFile() {
  // First the bytes go, then their account.
  RemoveName();
  {
    MutexLock lock(open_mu_);
    open_ = nullptr;
  }
  MutexLock lock(settle_mu_);
  store_.ledger().Remove(Owner::kScratch, accounted_);
  budget_->GiveBack(accounted_);
}

absl::StatusOr<ScratchFile::OpenFile> ScratchFile::Open() {
  used_.store(true, std::memory_order_relaxed);
  OpenFile open;
  {
    MutexLock lock(open_mu_);
    if (open_ != nullptr) return open_;
    ASSIGN_OR_RETURN(UniqueFd fd, store_.OpenScratch(name_));
    open = open_ = std::make_shared<const UniqueFd>(std::move(fd));
  }
  files_.Opened(shared_from_this());
  return open;
}

bool ScratchFile::TryClose() {
  MutexLock lock(open_mu_);
  if (keep_open_) return false;
  if (name_.empty()) {
    absl::StatusOr<std::string> name = store_.NameScratch((*open_).get());
    if (!name.ok()) return false;
    name_ = *std::move(name);
  }
  open_ = nullptr;
  return true;
}

void ScratchFile::KeepOpen(bool keep) {
  MutexLock lock(open_mu_);
  keep_open_ = keep;
}

void ScratchFile::RemoveName() {
  MutexLock lock(open_mu_);
  if (!name_.empty()) store_.RemoveScratchName(std::exchange(name_, ""));
}

absl::Status ScratchFile::CheckWritable() const {
  if (!published_) return absl::OkStatus();
  return absl::FailedPreconditionError("the file has become a blob");
}

absl::StatusOr<ScratchFile::OpenFile> ScratchFile::OpenToWrite() {
  RETURN_IF_ERROR(CheckWritable());
  return Open();
}

absl::StatusOr<int64_t> ScratchFile::Reserve(int64_t bytes) {
  if (!budget_->Take(bytes)) {
    return ErrnoStatus(ENOSPC, "the sandbox's scratch limit of ",
                       budget_->bytes_max(), " bytes");
  }
  if (absl::Status reserved = store_.ReserveScratch(bytes); !reserved.ok()) {
    budget_->GiveBack(bytes);
    return reserved;
  }
  return bytes;
}

void ScratchFile::Settle(int fd, int64_t reserved) {
  int64_t excess = 0;
  {
    MutexLock lock(settle_mu_);
    struct stat status {};
    CASEMENT_CHECK(fstat(fd, &status) == 0);
    const int64_t allocated = status.st_blocks * 512;
    excess = accounted_ + reserved - allocated;
    accounted_ = allocated;
    size_ = status.st_size;
    blocks_ = status.st_blocks;
  }
  store_.ledger().Remove(Owner::kScratch, excess);
  budget_->GiveBack(excess);
}

absl::StatusOr<size_t> ScratchFile::Write(int64_t offset,
                                          absl::string_view bytes) {
  ReaderLock lock(io_mu_);
  return WriteLocked(offset, bytes);
}

absl::StatusOr<size_t> ScratchFile::WriteBack(int64_t offset,
                                              absl::string_view bytes,
                                              bool& is_dropped) {
  ReaderLock lock(io_mu_);
  const int64_t left = std::max(int64_t{0}, size() - offset);
  const size_t kept = std::min(bytes.size(), static_cast<size_t>(left));
  is_dropped = kept == 0;
  if (!is_dropped) {
    ASSIGN_OR_RETURN(const size_t wrote,
                     WriteLocked(offset, bytes.substr(0, kept)));
    if (wrote < kept) return wrote;
  }
  return bytes.size();
}

absl::StatusOr<size_t> ScratchFile::WriteLocked(int64_t offset,
                                                absl::string_view bytes) {
  ASSIGN_OR_RETURN(const OpenFile open, OpenToWrite());
  const int fd = open->get();
  const auto length = static_cast<int64_t>(bytes.size());
  absl::StatusOr<int64_t> reserved = Reserve(RoomFor(length));
  // At the limit what is there already can still be written over.
  if (!reserved.ok() && IsAllocated(fd, offset, length)) reserved = 0;
  RETURN_IF_ERROR(reserved.status());
  size_t done = 0;
  int error_number = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = pwrite(fd, bytes.data() + done, bytes.size() - done,
                                 offset + static_cast<int64_t>(done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      error_number = wrote < 0 ? errno : EIO;
      break;
    }
    done += static_cast<size_t>(wrote);
  }
  Settle(fd, *reserved);
  if (done == 0 && error_number != 0) {
    return ErrnoStatus(error_number, "writing");
  }
  return done;
}

absl::Status ScratchFile::Truncate(int64_t size) {
  WriterLock lock(io_mu_);
  ASSIGN_OR_RETURN(const OpenFile open, OpenToWrite());
  const int fd = open->get();
  // Making a file longer allocates nothing, but for its last block.
  ASSIGN_OR_RETURN(const int64_t reserved, size == 0
                                               ? absl::StatusOr<int64_t>(0)
                                               : Reserve(RoomFor(0)));
  const int result = ftruncate(fd, size);
  const int error_number = errno;
  Settle(fd, reserved);
  if (result != 0) return ErrnoStatus(error_number, "truncating");
  return absl::OkStatus();
}

absl::Status ScratchFile::Allocate(int mode, int64_t offset, int64_t length) {
  ReaderLock lock(io_mu_);
  ASSIGN_OR_RETURN(const OpenFile open, OpenToWrite());
  const int fd = open->get();
  const bool frees = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  ASSIGN_OR_RETURN(const int64_t reserved,
                   Reserve(RoomFor(frees ? 0 : length)));
  const int result = fallocate(fd, mode, offset, length);
  const int error_number = errno;
  Settle(fd, reserved);
  if (result != 0) return ErrnoStatus(error_number, "allocating");
  return absl::OkStatus();
}

absl::Status ScratchFile::CopyFrom(const OpenBlob& blob, int64_t bytes) {
  ReaderLock lock(io_mu_);
  ASSIGN_OR_RETURN(const OpenFile open, OpenToWrite());
  const int fd = open->get();
  ASSIGN_OR_RETURN(const int64_t reserved, Reserve(RoomFor(bytes)));
  absl::Status copied;
  if (bytes != blob.digest().size_bytes() ||
      ioctl(fd, FICLONE, blob.fd()) != 0) {
    off_t in = 0;
    off_t out = 0;
    while (out < bytes) {
      const ssize_t step = copy_file_range(
          blob.fd(), &in, fd, &out,
          static_cast<size_t>(std::min(bytes - out, kCopyBytes)), 0);
      if (step < 0 && errno == EINTR) continue;
      if (step <= 0) {
        copied = ErrnoStatus(step < 0 ? errno : EIO, "copying blob ",
                             blob.digest().ToString());
        break;
      }
    }
  }
  Settle(fd, reserved);
  return copied;
}

absl::StatusOr<size_t> ScratchFile::CopyRange(int from, int64_t from_offset,
                                              int64_t to_offset,
                                              size_t length) {
  ReaderLock lock(io_mu_);
  ASSIGN_OR_RETURN(const OpenFile open, OpenToWrite());
  const int fd = open->get();
  const auto wanted =
      static_cast<int64_t>(std::min(length, static_cast<size_t>(kCopyBytes)));
  ASSIGN_OR_RETURN(const int64_t reserved, Reserve(RoomFor(wanted)));
  off_t in = from_offset;
  off_t out = to_offset;
  const ssize_t copied =
      copy_file_range(from, &in, fd, &out, static_cast<size_t>(wanted), 0);
  const int error_number = errno;
  Settle(fd, reserved);
  if (copied < 0) return ErrnoStatus(error_number, "copying a range");
  return static_cast<size_t>(copied);
}

absl::StatusOr<BlobStore::PublishedScratch> ScratchFile::Publish() {
  WriterLock lock(io_mu_);
  RETURN_IF_ERROR(CheckWritable());
  KeepOpen(true);
  absl::StatusOr<BlobStore::PublishedScratch> published = PublishLocked();
  if (!published.ok()) KeepOpen(false);
  return published;
}

absl::StatusOr<BlobStore::PublishedScratch> ScratchFile::PublishLocked() {
  ASSIGN_OR_RETURN(const OpenFile open, Open());
  MutexLock settle(settle_mu_);
  ASSIGN_OR_RETURN(BlobStore::PublishedScratch published,
                   store_.PublishScratch(open->get(), accounted_));
  RemoveName();
  if (published.is_linked) {
    // The bytes are the blob's now, and none of the sandbox's.
    budget_->GiveBack(accounted_);
    accounted_ = 0;
    blob_ = std::move(published.ref);
  }
  published_ = true;
  return published;
}

absl::StatusOr<size_t> ScratchFile::Read(int64_t offset,
                                         absl::Span<char> buffer) {
  ASSIGN_OR_RETURN(const OpenFile open, Open());
  return ReadFully(open->get(), offset, buffer);
}

absl::StatusOr<int64_t> ScratchFile::Seek(int64_t offset, int whence) {
  ASSIGN_OR_RETURN(const OpenFile open, Open());
  return SeekIn(open->get(), offset, whence);
}

absl::Status ScratchFile::Sync() {
  ASSIGN_OR_RETURN(const OpenFile open, Open());
  if (fdatasync(open->get()) != 0) return ErrnoStatus(errno, "syncing");
  return absl::OkStatus();
}

}  // namespace casement
