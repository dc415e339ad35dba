// How blobs come in: BlobStore's Put(), uploads, scratch files.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/side_thread.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "model/hasher.h"
#include "store/blob_path.h"
#include "store/blob_store.h"
#include "store/scan.h"

namespace casement {
namespace {

constexpr mode_t kBlobMode = 0444;
constexpr mode_t kNamedScratchMode = 0600;
// An upload asks for room in steps of at least this, so that a large one
// neither evicts for bytes that may never come nor asks for each piece.
constexpr int64_t kReserveStepBytes = int64_t{1} << 20;
// From this size on, an upload's bytes are hashed and written at once, by two
// threads: a thread costs about 50 us.
constexpr int64_t kSideThreadBytes = int64_t{4} << 20;
// What adding a name to a directory can allocate: a leaf that is split and two
// levels of index (ext4's htree has at most three levels, two as a rule).
constexpr int64_t kDirectoryGrowthBlocks = 3;
// Extents that ext4 keeps in the inode, and in one block.
constexpr int64_t kInodeExtents = 4;
constexpr int64_t kBlockExtents = 340;

int64_t DivideUp(int64_t value, int64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

bool IsDiskFull(const absl::Status& status) {
  return ErrnoOf(status) == ENOSPC || ErrnoOf(status) == EDQUOT;
}

absl::Status NoRoom(const Digest& digest) {
  return ErrnoStatus(ENOSPC, "no room for blob ", digest.ToString());
}

}  // namespace

// Whole blocks, and those that describe where they are. Until a file has been
// written back, ext4 counts its blocks (delayed ones too) but not yet the
// latter; at worst every block is an extent of its own.
int64_t BlobStore::EstimateBytes(int64_t size_bytes) const {
  const int64_t blocks = DivideUp(size_bytes, block_bytes_);
  int64_t descriptions = 0;
  for (int64_t extents = blocks; extents > kInodeExtents;
       extents = DivideUp(extents, kBlockExtents)) {
    descriptions += DivideUp(extents, kBlockExtents);
  }
  return (blocks + descriptions) * block_bytes_;
}

absl::StatusOr<UniqueFd> BlobStore::NewFile(const std::string& directory) {
  if (is_read_only_) {
    return ErrnoStatus(EROFS, "the store is on read-only media");
  }
  const int flags = O_TMPFILE | O_RDWR;
  absl::StatusOr<UniqueFd> fd =
      OpenAt(directory_.get(), directory, flags, kBlobMode);
  // Inodes can run out as well.
  if (IsDiskFull(fd.status()) && FreeOnDisk(block_bytes_)) {
    fd = disk_.Open(directory_.get(), directory, flags, kBlobMode);
  }
  return fd;
}

// For minutes, ext4 passes over the inodes of files that were deleted, one by
// one, whenever it makes a new file in the same group of blocks. Shards lie in
// many (SpreadShards()), so that a store that makes and deletes files all the
// time has few to pass over in each.
absl::StatusOr<UniqueFd> BlobStore::NewFileIn(size_t shard,
                                              const char* otherwise) {
  if (shards_[shard].exists) {
    absl::StatusOr<UniqueFd> fd =
        NewFile(absl::StrCat("cas/", ShardName(shard)));
    if (ErrnoOf(fd.status()) != ENOENT) return fd;
  }
  return NewFile(otherwise);
}

class BlobStore::StoreUpload final : public Upload {
 public:
  StoreUpload(BlobStore& store, const Digest& digest, UniqueFd fd)
      : store_(store), digest_(digest), fd_(std::move(fd)) {}

  ~StoreUpload() override { Close(); }

  absl::Status Write(absl::Span<const absl::string_view> pieces) override {
    RETURN_IF_ERROR(Append(pieces));
    Hashed();
    Hash(pieces);
    return absl::OkStatus();
  }

  absl::Status Write(absl::Span<const absl::string_view> pieces,
                     std::shared_ptr<const void> owner) override {
    if (digest_.size_bytes() < kSideThreadBytes) return Write(pieces);
    RETURN_IF_ERROR(Append(pieces));
    if (!hashing_.has_value()) hashing_.emplace();
    hashing_->Run([this, owner = std::move(owner),
                   copies = std::vector<absl::string_view>(
                       pieces.begin(), pieces.end())] { Hash(copies); });
    return absl::OkStatus();
  }

  int64_t written_bytes() const override { return written_bytes_; }

  absl::StatusOr<size_t> Read(int64_t offset,
                              absl::Span<char> buffer) const override {
    return store_.disk_.Read(fd_.get(), buffer, offset);
  }

  absl::Status Commit() override {
    if (std::exchange(is_over_, true)) {
      return absl::FailedPreconditionError(
          absl::StrCat("the upload of ", digest_.ToString(), " is over"));
    }
    absl::Status status = Verify();
    if (status.ok()) status = Publish();
    Close();
    return Annotate(status, "uploading ", digest_.ToString());
  }

  // All of it, in place of Write() and Commit(), once it is known to hash to
  // the digest.
  absl::Status Put(absl::string_view verified) {
    RETURN_IF_ERROR(Append({&verified, 1}));
    return Annotate(Publish(), "uploading ", digest_.ToString());
  }

 private:
  absl::Status Append(absl::Span<const absl::string_view> pieces) {
    if (is_over_) {
      return absl::FailedPreconditionError(
          absl::StrCat("the upload of ", digest_.ToString(), " is over"));
    }
    const absl::Status status = Store(pieces);
    if (!status.ok()) is_over_ = true;
    return Annotate(status, "uploading ", digest_.ToString());
  }

  absl::Status Store(absl::Span<const absl::string_view> pieces) {
    int64_t size = written_bytes_;
    for (const absl::string_view piece : pieces) size += piece.size();
    if (size > digest_.size_bytes()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "more bytes than the ", digest_.size_bytes(), " of its digest"));
    }
    RETURN_IF_ERROR(ReserveFor(size));
    RETURN_IF_ERROR(WriteAt(written_bytes_, size, pieces));
    written_bytes_ = size;
    return absl::OkStatus();
  }

  void Hash(absl::Span<const absl::string_view> pieces) {
    for (const absl::string_view piece : pieces) hasher_.Update(piece);
  }

  // Returns when all that was given to the other thread is hashed.
  void Hashed() {
    if (hashing_.has_value()) hashing_->Wait();
  }

  absl::Status WriteAt(int64_t offset, int64_t end,
                       absl::Span<const absl::string_view> pieces) {
    std::vector<absl::string_view> left(pieces.begin(), pieces.end());
    size_t first = 0;
    while (offset < end) {
      const auto rest = absl::MakeConstSpan(left).subspan(first);
      absl::StatusOr<size_t> count =
          store_.disk_.Write(fd_.get(), rest, offset);
      if (IsDiskFull(count.status()) &&
          store_.FreeOnDisk(std::max(end - offset, kReserveStepBytes))) {
        count = store_.disk_.Write(fd_.get(), rest, offset);
      }
      if (!count.ok()) return count.status();
      offset += *count;
      size_t written = *count;
      while (first < left.size() && written >= left[first].size()) {
        written -= left[first++].size();
      }
      if (written > 0) left[first].remove_prefix(written);
    }
    return absl::OkStatus();
  }

  absl::Status ReserveFor(int64_t size) {
    const int64_t needed = store_.EstimateBytes(size) - reserved_bytes_;
    if (needed <= 0) return absl::OkStatus();
    const int64_t in_all = store_.EstimateBytes(digest_.size_bytes());
    const int64_t step =
        std::max(needed, std::min(kReserveStepBytes, in_all - reserved_bytes_));
    RETURN_IF_ERROR(store_.Reserve(Owner::kUploads, step));
    reserved_bytes_ += step;
    return absl::OkStatus();
  }

  absl::Status Verify() {
    if (written_bytes_ != digest_.size_bytes()) {
      return absl::InvalidArgumentError(
          absl::StrCat("it ended after ", written_bytes_, " bytes"));
    }
    Hashed();
    const Digest hashed = hasher_.Finish();
    if (hashed != digest_) {
      return absl::InvalidArgumentError(
          absl::StrCat("the bytes hash to ", hashed.ToString()));
    }
    return absl::OkStatus();
  }

  absl::Status Publish() {
    // A file of the empty blob needs nothing but is written like any other.
    ASSIGN_OR_RETURN(
        const Publication publication,
        store_.Publish(fd_.get(), digest_, Owner::kUploads, reserved_bytes_));
    if (publication.is_linked) reserved_bytes_ = 0;
    fd_.Reset();  // Before publication.ref.
    return absl::OkStatus();
  }

  // First the bytes go, then their account.
  void Close() {
    is_over_ = true;
    fd_.Reset();
    store_.ledger_.Remove(Owner::kUploads, std::exchange(reserved_bytes_, 0));
  }

  BlobStore& store_;
  const Digest digest_;
  UniqueFd fd_;
  int64_t written_bytes_ = 0;
  Hasher hasher_;
  int64_t reserved_bytes_ = 0;
  bool is_over_ = false;
  std::optional<SideThread> hashing_;  // Last: it uses `hasher_`.
};

absl::StatusOr<std::unique_ptr<Upload>> BlobStore::StartUpload(
    const Digest& digest) {
  return NewUpload(digest);
}

absl::StatusOr<std::unique_ptr<BlobStore::StoreUpload>> BlobStore::NewUpload(
    const Digest& digest) {
  // Said now instead of after so many bytes.
  if (digest.size_bytes() > options_.capacity_bytes ||
      EstimateBytes(digest.size_bytes()) > options_.capacity_bytes) {
    return Annotate(NoRoom(digest), "the store holds at most ",
                    options_.capacity_bytes, " bytes");
  }
  absl::StatusOr<UniqueFd> fd = NewFileIn(ShardOf(digest), "cas");
  if (!fd.ok()) return Annotate(fd.status(), "uploading ", digest.ToString());
  return std::make_unique<StoreUpload>(*this, digest, *std::move(fd));
}

absl::Status BlobStore::Put(const Digest& digest, absl::string_view bytes) {
  const Digest hashed = Digest::Of(bytes);
  if (hashed != digest) {
    return absl::InvalidArgumentError(
        absl::StrCat("storing ", digest.ToString(), ": the bytes hash to ",
                     hashed.ToString()));
  }
  if (TouchIfResident(digest)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::unique_ptr<StoreUpload> upload,
                   NewUpload(digest));
  return upload->Put(bytes);
}

absl::StatusOr<UniqueFd> BlobStore::NewScratchFile() {
  return NewFileIn(scratch_numbers_.fetch_add(1) % kShardCount, kScratchName);
}

absl::StatusOr<std::string> BlobStore::NameScratch(int fd) {
  // Whoever is not root may not open a blob for writing.
  RETURN_IF_ERROR(disk_.ChangeMode(fd, kNamedScratchMode));
  const std::string name =
      absl::StrCat(kScratchName, "/", scratch_numbers_.fetch_add(1));
  MutexLock lock(scratch_mu_);
  ledger_.Add(Owner::kIndex, kDirectoryGrowthBlocks * block_bytes_);
  const absl::Status linked = disk_.Link(fd, directory_.get(), name);
  SettleDirectory(directory_.get(), kScratchName, scratch_directory_bytes_);
  ledger_.Remove(Owner::kIndex, kDirectoryGrowthBlocks * block_bytes_);
  RETURN_IF_ERROR(linked);
  return name;
}

absl::StatusOr<UniqueFd> BlobStore::OpenScratch(const std::string& name) {
  return OpenAt(directory_.get(), name, O_RDWR | O_NOFOLLOW, 0);
}

void BlobStore::RemoveScratchName(const std::string& name) {
  const absl::Status unlinked = disk_.Unlink(directory_.get(), name);
  if (!unlinked.ok()) options_.log(unlinked.message());
}

absl::Status BlobStore::ReserveScratch(int64_t bytes) {
  return Reserve(Owner::kScratch, bytes);
}

absl::StatusOr<BlobStore::PublishedScratch> BlobStore::PublishScratch(
    int fd, int64_t accounted_bytes) {
  ASSIGN_OR_RETURN(const Digest digest, HashFile(disk_, fd, [](int64_t) {}));
  absl::StatusOr<Publication> publication =
      Publish(fd, digest, Owner::kScratch, accounted_bytes);
  if (!publication.ok()) {
    return Annotate(publication.status(), "storing ", digest.ToString());
  }
  return PublishedScratch{.digest = digest,
                          .lease = std::move(publication->lease),
                          .is_linked = publication->is_linked,
                          .ref = std::move(publication->ref)};
}

absl::StatusOr<BlobStore::Publication> BlobStore::Publish(
    int fd, const Digest& digest, Owner from, int64_t accounted_bytes) {
  Publication publication;
  Shard& shard = shards_[ShardOf(digest)];
  {
    MutexLock shard_lock(shard.mu);
    // Whoever publishes holds a lease before anybody can evict the blob again.
    if (std::optional<Lease> resident = LeaseResident(digest)) {
      publication.lease = *std::move(resident);
      return publication;
    }
    ledger_.Add(Owner::kIndex, kDirectoryGrowthBlocks * block_bytes_);
    absl::Status linked = LinkLocked(shard, fd, digest);
    SettleDirectoryLocked(shard, ShardOf(digest));
    ledger_.Remove(Owner::kIndex, kDirectoryGrowthBlocks * block_bytes_);
    RETURN_IF_ERROR(linked);
    // Only link(2) can fail for reasons that matter: fstat(2) of an open file
    // does not. Should it, the estimate stands until the next start.
    const absl::StatusOr<struct stat> attributes = disk_.Stat(fd);
    MutexLock lock(mu_);
    Slot& slot = slots_.Insert(digest, NextTick());
    int64_t bytes = EstimateBytes(digest.size_bytes());
    if (attributes.ok()) {
      slot.changed_ns = ChangedNs(*attributes);
      bytes = std::max(bytes, int64_t{attributes->st_blocks} * 512);
    }
    ledger_.Move(from, Owner::kBlobs, accounted_bytes);
    slots_.SetAllocated(slot, accounted_bytes);
    SetAllocatedLocked(slot, bytes);
    slots_.AddLease(slot);
    publication.lease = Lease(this, slots_.IdOf(slot));
    ++slot.refs;
    publication.ref = BlobRef(this, slots_.IdOf(slot));
    publication.is_linked = true;
    fresh_.push_back(slots_.IdOf(slot));
    is_changed_ = true;
  }
  published_.fetch_add(1);
  if (listener_.published) listener_.published(digest);
  return publication;
}

absl::Status BlobStore::LinkLocked(Shard& shard, int fd, const Digest& digest) {
  ASSIGN_OR_RETURN(const struct stat attributes, disk_.Stat(fd));
  // The umask had a say; and nobody sees this file yet.
  if ((attributes.st_mode & 07777) != kBlobMode) {
    RETURN_IF_ERROR(disk_.ChangeMode(fd, kBlobMode));
  }
  if (!shard.exists) {
    const absl::Status made =
        disk_.MakeDirectory(cas_.get(), ShardName(ShardOf(digest)), 0700);
    if (!made.ok() && ErrnoOf(made) != EEXIST) return made;
    RETURN_IF_ERROR(CheckIsDirectory(ShardName(ShardOf(digest))));
    shard.exists = true;
  }
  absl::Status linked = disk_.Link(fd, cas_.get(), BlobPath(digest));
  if (ErrnoOf(linked) == EEXIST) {
    return ReplaceForeignLocked(shard, fd, digest);
  }
  return linked;
}

// A symlink there would lead link(2) and unlink(2) out of the store.
absl::Status BlobStore::CheckIsDirectory(const std::string& shard) {
  ASSIGN_OR_RETURN(const struct stat attributes,
                   disk_.StatPath(cas_.get(), shard));
  if (S_ISDIR(attributes.st_mode)) return absl::OkStatus();
  return ErrnoStatus(ENOTDIR, "cas/", shard, " in the store");
}

// There is something at the blob's path that the store does not serve: a file
// of another size, a symlink. It is in the way of verified bytes.
absl::Status BlobStore::ReplaceForeignLocked(Shard& shard, int fd,
                                             const Digest& digest) {
  const std::string path = BlobPath(digest);
  options_.log(absl::StrCat("replacing what was at cas/", path));
  RETURN_IF_ERROR(disk_.Unlink(cas_.get(), path));
  return disk_.Link(fd, cas_.get(), path);
}

void BlobStore::SettleDirectoryLocked(Shard& shard, size_t number) {
  SettleDirectory(cas_.get(), ShardName(number), shard.directory_bytes);
}

void BlobStore::SettleDirectory(int parent, const std::string& path,
                                int64_t& counted_bytes) {
  const absl::StatusOr<struct stat> attributes = disk_.StatPath(parent, path);
  if (!attributes.ok()) return;
  const int64_t bytes = int64_t{attributes->st_blocks} * 512;
  ledger_.Add(Owner::kIndex, bytes - std::exchange(counted_bytes, bytes));
}

}  // namespace casement
