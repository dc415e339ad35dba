// Blobs on local disk, named by digest.
//
// Layout on disk, DESIGN.md section 4:
//   lock                     flock: one BlobStore per directory
//   cas/<hh>/<hash>-<size>   one regular file per blob, mode 0444
//   scratch/                 files that sandboxes wrote, as far as they are not
//                            open (those have no name); emptied by Open()
//   index                    sizes and LRU order; only a cache, see index.h
//
// Thread safe. A blob that Contains() reports has been verified against its
// digest. Blobs disappear, least recently used first, when space is needed; not
// while leased. Bytes behind a BlobRef or an OpenBlob stay readable even then.
// The empty blob is always there, stored or not; List() and Stats tell of it
// only if it is stored.
#ifndef CASEMENT_STORE_BLOB_STORE_H_
#define CASEMENT_STORE_BLOB_STORE_H_

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/parallel.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/disk.h"
#include "store/index.h"
#include "store/ledger.h"
#include "store/scan.h"
#include "store/slot_table.h"

namespace casement {

class BlobStore;

// A blob's file, open for reading. It stays readable while somebody holds this,
// evicted or not. All holders of one publication share one OpenBlob.
class OpenBlob {
 public:
  ~OpenBlob();
  OpenBlob(const OpenBlob&) = delete;
  OpenBlob& operator=(const OpenBlob&) = delete;

  int fd() const { return fd_.get(); }
  const Digest& digest() const { return digest_; }
  BlobId id() const { return id_; }

 private:
  friend class BlobStore;
  OpenBlob(BlobStore* store, BlobId id, const Digest& digest, UniqueFd fd)
      : store_(store), id_(id), digest_(digest), fd_(std::move(fd)) {}

  BlobStore* const store_;  // nullptr: nothing to account (the empty blob).
  const BlobId id_;
  const Digest digest_;
  UniqueFd fd_;
  // For BlobStore::recent_, and guarded as it is.
  mutable bool was_used_ = true;
  mutable std::optional<size_t> recent_place_;
};

// Keeps a blob's bytes readable without keeping it from being evicted: for
// files that the kernel knows and may have open. An evicted blob's bytes count
// as a zombie until its last BlobRef and OpenBlob are gone (G2, G4).
class BlobRef {
 public:
  BlobRef() = default;
  BlobRef(BlobRef&& other) noexcept;
  BlobRef& operator=(BlobRef&& other) noexcept;
  ~BlobRef();

  bool valid() const { return store_ != nullptr; }
  BlobId id() const { return id_; }
  // Opens the blob or shares what is open; marks it as used. Fails with the
  // errno of open(2) if the disk does, with DataLoss and EIO if the file is
  // gone or damaged.
  absl::StatusOr<std::shared_ptr<const OpenBlob>> Open() const;

 private:
  friend class BlobStore;
  BlobRef(BlobStore* store, BlobId id) : store_(store), id_(id) {}

  BlobStore* store_ = nullptr;
  BlobId id_;
};

// Keeps a blob from being evicted. Give back exactly once: by destruction, or
// with BlobStore::GiveBack().
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

 private:
  friend class BlobStore;
  Lease(BlobStore* store, BlobId id) : store_(store), id_(id) {}

  BlobStore* store_ = nullptr;
  BlobId id_;
};

// A blob on its way in. One thread at a time. Destroyed before Commit(), it
// leaves nothing.
class Upload {
 public:
  virtual ~Upload() = default;
  // ResourceExhausted, with ENOSPC, if the store is full of leased bytes or the
  // disk is full; InvalidArgument past the digest's size. After an error the
  // upload is lost.
  virtual absl::Status Write(absl::Span<const absl::string_view> pieces) = 0;
  // The same. May return before they are hashed, if that is left to another
  // thread; `owner` is held until then, and keeps them.
  virtual absl::Status Write(absl::Span<const absl::string_view> pieces,
                             std::shared_ptr<const void> owner) = 0;
  absl::Status Write(absl::string_view bytes) { return Write({&bytes, 1}); }
  virtual int64_t written_bytes() const = 0;
  // Reads what was written, not verified yet, beside Write() in another thread;
  // fewer bytes at its end. Not after Commit() has begun.
  virtual absl::StatusOr<size_t> Read(int64_t offset,
                                      absl::Span<char> buffer) const = 0;
  // Verifies and publishes. InvalidArgument if the bytes do not hash to the
  // digest. Publishing a resident digest changes nothing but its LRU place.
  // Call it once, last.
  virtual absl::Status Commit() = 0;
};

class BlobStore {
 public:
  struct Options {
    std::string directory;
    // What the store's files may allocate on disk, of every owner.
    int64_t capacity_bytes = int64_t{50} << 30;
    // Maintain() evicts from above the high down to the low one, in percent of
    // the capacity. 0: 99 and 98, and none below 1 GiB, where a few percent are
    // not worth a blob.
    int high_watermark_percent = 0;
    int low_watermark_percent = 0;
    // Files of blobs kept open after their last use. 0: a quarter of what
    // RLIMIT_NOFILE allows, at most 4096.
    size_t open_blobs_max;
    // How long a writer waits for blobs that it evicted, but that are still
    // open, to be closed, before it evicts more. The kernel lets go of a file
    // soon after it was told.
    absl::Duration zombie_grace = absl::Milliseconds(50);
    // How often Maintain() makes blobs durable and writes the index.
    absl::Duration sync_interval = absl::Seconds(60);
    // Gets one line about each thing that should not be: a torn blob, a foreign
    // file. Thread safe. To standard error by default.
    std::function<void(absl::string_view)> log;
    // Tells boots apart. Read from /proc/sys/kernel/random/boot_id by default.
    std::string boot_id;
  };

  // FailedPrecondition if another process has the store open. Creates the
  // directory's parts as needed; the directory itself must exist. A store on
  // read-only media is served without its index, and nothing can be put (G13).
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(Disk& disk,
                                                         const Clock& clock,
                                                         Options options);
  // Writes the index. All leases, refs, open blobs and uploads must be gone.
  ~BlobStore();
  BlobStore(const BlobStore&) = delete;
  BlobStore& operator=(const BlobStore&) = delete;

  // Keeps a copy of `bytes`. InvalidArgument if they do not hash to `digest`.
  absl::Status Put(const Digest& digest, absl::string_view bytes);
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const Digest& digest);

  // A new, unnamed file, open for reading and writing, with mode 0444 so that
  // it can become a blob as it is.
  absl::StatusOr<UniqueFd> NewScratchFile();
  // Gives such a file a name under scratch/, by which it can be opened again
  // after it was closed. Whoever has the name removes it, once it is published
  // or not wanted any more.
  absl::StatusOr<std::string> NameScratch(int fd);
  absl::StatusOr<UniqueFd> OpenScratch(const std::string& name);
  void RemoveScratchName(const std::string& name);
  // Asks that scratch may grow by `bytes`, evicting if need be, and accounts
  // them. ENOSPC if it may not. Give back with ledger().Remove().
  absl::Status ReserveScratch(int64_t bytes);
  // Hashes the file and publishes it by link(2), copying nothing. Nobody may
  // write to the file from now on.
  struct PublishedScratch {
    Digest digest;
    Lease lease;
    // The file is the blob's, and `accounted_bytes` of scratch are its account.
    // False if the digest was resident: it keeps its own file, and this one is
    // scratch still.
    bool is_linked = false;
    // If it is: keep it for as long as the file is open. Evicted by then, the
    // bytes would be accounted as nobody's.
    BlobRef ref;
  };
  absl::StatusOr<PublishedScratch> PublishScratch(int fd,
                                                  int64_t accounted_bytes);

  bool Contains(const Digest& digest) const;
  // Those that are not here, in the order given, each once. Marks the others as
  // used.
  std::vector<Digest> Missing(absl::Span<const Digest> digests);
  // NotFound, without a message, if the blob is not here.
  absl::StatusOr<BlobRef> Ref(const Digest& digest);
  absl::StatusOr<Lease> LeaseBlob(const Digest& digest);
  // Adds one for each to `leases`. A blob that is not here is leased from when
  // it comes.
  void LeaseAwaited(absl::Span<const Digest> digests,
                    std::vector<Lease>& leases);
  // Ends leases on blobs that were last used at `used`, a NextTick(): they are
  // evicted as if they had not been leased since.
  void GiveBack(std::vector<Lease> leases, uint64_t used);
  // Counts uses: of two, the later one has the higher number.
  uint64_t NextTick() { return tick_.fetch_add(1) + 1; }
  // Those of `digests` that are leased and not here yet.
  std::vector<Digest> Awaited(absl::Span<const Digest> digests) const;
  // What leases hold now of the capacity, in allocated bytes: of what is here,
  // and of what is awaited.
  int64_t LeasedBytes() const;
  // What a blob of this size that is not leased yet takes on disk, at most.
  int64_t EstimateBytes(int64_t size_bytes) const;
  // Ref() and Open() in one.
  absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenDigest(
      const Digest& digest);
  // Reads a blob from `offset`, which is before its end, on: how many bytes, at
  // least one. DataLoss, and it is dropped, if its file ends there.
  absl::StatusOr<size_t> ReadPiece(const OpenBlob& blob, int64_t offset,
                                   absl::Span<char> buffer);
  // All of a blob, for small ones. DataLoss if its file is shorter than its
  // digest says, ResourceExhausted if it is larger than `bytes_max`.
  absl::StatusOr<std::string> Read(const Digest& digest, int64_t bytes_max);
  // Marks as used.
  void Touch(const Digest& digest);

  // NotFound if it is not here, FailedPrecondition if it is leased. Idle
  // closures are given up first if it is.
  absl::Status Evict(const Digest& digest);
  // Evicts everything that is not leased and was not used after this call
  // began; how many blobs and bytes. Idle closures keep theirs.
  struct Evicted {
    int64_t blobs = 0;
    int64_t bytes = 0;
  };
  Evicted EvictUnleased();

  // Up to `limit` resident blobs whose position is at least `position`, in
  // order of position: for a listing that is streamed. Positions are stable
  // while a blob is resident.
  struct Listed {
    uint64_t position;
    Digest digest;
  };
  std::vector<Listed> List(uint64_t position, size_t limit) const;
  // Beyond the positions of all blobs that are resident now.
  uint64_t ListEnd() const;

  struct Stats {
    int64_t blobs = 0;
    int64_t leased_blobs = 0;
    int64_t zombies = 0;
    int64_t awaited = 0;     // Leased, and not here yet.
    int64_t size_bytes = 0;  // The sum of the blobs' sizes.
    int64_t capacity_bytes = 0;
    int64_t evictions = 0;  // Since the start, as are the following.
    int64_t published = 0;
    int64_t damaged = 0;
  };
  Stats GetStats() const;
  Ledger& ledger() { return ledger_; }

  // Hashes every blob again that is here when it begins, and compares the
  // ledger with the disk. What comes meanwhile was hashed as it came.
  struct VerifyOptions {
    bool repair = false;  // Drop what is damaged.
    // Or move it to this directory; quarantine.h. Not below `mount`.
    std::string quarantine = {};
    std::string mount = {};
    // Of the time, at most so much is spent reading. From 1 to 100.
    int disk_share_percent = 100;
    // Called now and then with bytes done and in all, from one thread at a
    // time.
    std::function<void(int64_t, int64_t)> progress = {};
    // Asked before each piece, by any thread. True: Verify() ends, Cancelled.
    std::function<bool()> is_cancelled = {};
  };
  struct VerifyReport {
    int64_t blobs = 0;
    int64_t bytes = 0;
    std::vector<Digest> damaged;
    int64_t dropped = 0;  // Of the damaged ones; moved ones too.
    int64_t moved = 0;
    absl::Status stays;  // Why others were not dropped, if they should be.
    int64_t accounted_bytes = 0;
    // What a walk of the store finds: its files, and those without a name that
    // this process has open.
    int64_t allocated_bytes = 0;
    // What is allocated beyond all that was accounted at any time of the walk:
    // 0, unless somebody puts files into the store, or we have a bug (G3).
    int64_t unaccounted_bytes = 0;
  };
  // InvalidArgument for a share or quarantine that cannot be.
  absl::StatusOr<VerifyReport> Verify(const VerifyOptions& options);
  // Drops a blob found damaged while being read; later reads find it missing.
  // Leases do not keep it: they end with their holders, on nothing.
  void DropDamaged(const Digest& digest);

  // To be called now and then (each second, say), by one thread that may block:
  // evicts what is above the low watermark, so that writers need not wait for
  // it; and each sync_interval makes new blobs durable and writes the index.
  absl::Status Maintain();
  // The second half of Maintain(), now.
  absl::Status Sync();
  // Whether nothing can be put or evicted, for the media is read-only.
  bool is_read_only() const { return is_read_only_; }

  // Called after a blob appeared or went, with no lock held, so that views can
  // tell the kernel. Set once, before threads start.
  struct Listener {
    std::function<void(const Digest&)> published;
    std::function<void(const Digest&)> evicted;
    // Asked before blobs are evicted for space: gives up leases that nobody
    // uses now, oldest first, if the oldest was last used before `used_before`.
    // True if it gave up any. See DirectoryTable.
    std::function<bool(uint64_t used_before)> give_up_idle_leases;
  };
  void SetListener(Listener listener);

  // I1  the ledger's blobs are the sum of the resident blobs' allocated bytes,
  //     its zombies that of the slots being evicted and evicted
  // I2  a digest with a lease is resident, or awaited, or was dropped as
  // damaged I3  the LRU list holds exactly the resident blobs without a lease
  // I4  no slot is both free and reachable
  // I5  a zombie is referred to, leased or open
  void CheckInvariants() const;

 private:
  friend class BlobRef;
  friend class Lease;
  friend class OpenBlob;
  class StoreUpload;

  // A directory of blobs. Its mutex puts the link(2) and unlink(2) of one path
  // in the order in which the slots say they happened: without it, a blob that
  // is published again while it is being evicted could lose its new file. It is
  // the only mutex held across system calls; opening and reading blobs do not
  // take it.
  struct Shard {
    Mutex mu;
    std::atomic<bool> exists{false};  // Set under mu.
    int64_t directory_bytes ABSL_GUARDED_BY(mu) = 0;
    int64_t foreign_bytes ABSL_GUARDED_BY(mu) = 0;
  };
  // The OpenBlobs of one publication. More than one only while all but the
  // newest are on their way out.
  struct OpenEntry {
    std::weak_ptr<const OpenBlob> newest;
    int count = 0;
  };
  struct Publication {
    bool is_linked = false;  // False if the digest was resident already.
    Lease lease;
    BlobRef ref;  // If it is linked: to outlive the file's descriptor.
  };
  enum class EvictReason { kSpace, kRequest, kDamage };

  BlobStore(Disk& disk, const Clock& clock, Options options);

  // blob_store_start.cc
  absl::Status Start();
  absl::Status LockDirectory();
  absl::Status MakeParts();
  void SpreadShards();
  absl::Status ClearScratch();
  absl::Status AccountParts();
  absl::Status LoadBlobs();
  absl::Status LoadIndex(std::array<bool, kShardCount>& is_trusted,
                         bool& may_be_torn);
  void AddIndexed(const std::vector<IndexEntry>& entries,
                  const std::array<bool, kShardCount>& is_trusted);
  absl::Status ScanShards(const std::array<bool, kShardCount>& is_trusted,
                          bool may_be_torn);
  void TakeScan(const ShardScan& scan, size_t shard,
                std::vector<FoundBlob>& added);
  int64_t AllocatedAtStart(const FoundBlob& found, bool is_final) const;
  void AddFound(std::vector<FoundBlob>& added);
  void DropUnconfirmed();
  void AccountShards();
  absl::Status SyncAndWriteIndex(bool is_closing);
  absl::Status SyncLocked(bool is_closing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(sync_mu_);
  void SettleFresh(const std::vector<BlobId>& fresh);
  absl::Status WriteIndex(bool is_closing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(sync_mu_);
  // What it allocates.
  absl::StatusOr<int64_t> WriteNewIndex(bool is_closing)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(sync_mu_);
  IndexHeader MakeIndexHeader(bool is_closing, int64_t now_ns);
  std::vector<BlobId> OldestFirst(IndexHeader& header);
  absl::Status AddEntries(const std::vector<BlobId>& order,
                          IndexWriter& writer);

  // blob_store_publish.cc
  //
  // Accounts `bytes` of `owner`, evicting if need be. ENOSPC if it cannot.
  absl::Status Reserve(Owner owner, int64_t bytes);
  absl::StatusOr<std::unique_ptr<StoreUpload>> NewUpload(const Digest& digest);
  absl::StatusOr<UniqueFd> NewFile(const std::string& directory);
  // In a shard, if that is there.
  absl::StatusOr<UniqueFd> NewFileIn(size_t shard, const char* otherwise);
  // Gives a complete, verified file its name. `accounted_bytes` of `from`
  // become the blob's, if it is linked.
  absl::StatusOr<Publication> Publish(int fd, const Digest& digest, Owner from,
                                      int64_t accounted_bytes);
  absl::Status LinkLocked(Shard& shard, int fd, const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mu);
  absl::Status CheckIsDirectory(const std::string& shard);
  absl::Status ReplaceForeignLocked(Shard& shard, int fd, const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mu);
  void SettleDirectoryLocked(Shard& shard, size_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mu);
  // Accounts what the directory takes now, in place of `counted_bytes`.
  void SettleDirectory(int parent, const std::string& path,
                       int64_t& counted_bytes);
  bool TouchIfResident(const Digest& digest);
  bool TouchIfResidentLocked(const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Also of the empty blob only if it is stored.
  std::optional<Lease> LeaseResident(const Digest& digest);

  // blob_store_evict.cc
  //
  // Frees `bytes` on the disk itself, whatever the capacity. False if nothing
  // could be evicted.
  bool FreeOnDisk(int64_t bytes);
  // One step towards room for `bytes`: OK if it is worth trying again.
  struct Demand;
  absl::Status MakeRoom(Demand& demand);
  absl::Status EvictId(BlobId id, EvictReason reason);
  struct Eviction;
  absl::Status MarkLocked(Shard& shard, Eviction& eviction)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mu);
  // False if the file must be opened first.
  bool TryMark(Eviction& eviction);
  absl::Status UnlinkLocked(Shard& shard, Eviction& eviction)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(shard.mu);
  // Waits for evicted blobs to be closed, until zombies have no more bytes than
  // that, or for zombie_grace.
  void AwaitZombies(int64_t zombie_bytes_max);
  int64_t PercentOfCapacity(int percent) const;
  void EvictToLowWatermark();
  // Which would go next.
  struct Candidate {
    BlobId id;
    uint64_t used;
    int64_t allocated_bytes;
  };
  std::optional<Candidate> OldestBlob() const;
  bool GiveUpIdleLeases(uint64_t used_before);

  // blob_store_verify.cc
  class Verification;
  absl::Status VerifySome(Verification& verification);
  absl::Status VerifyBlob(const Digest& digest, Verification& verification);
  // Whether the file is the blob; errors are for what says nothing of it.
  absl::StatusOr<bool> Rehash(int fd, const Digest& digest,
                              Verification& verification);
  // `fd` is the blob's file, or -1 if it cannot be opened.
  void RepairBlob(const BlobRef& blob, const Digest& digest, int fd,
                  Verification& verification);
  bool IsResident(BlobId id) const;
  absl::Status CompareLedger(VerifyReport& report);
  absl::StatusOr<int64_t> WalkAllocated();
  absl::Status AddNameless(absl::flat_hash_set<ino_t>& found, int64_t& bytes);

  // blob_store.cc
  absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenId(BlobId id);
  absl::StatusOr<UniqueFd> OpenFile(BlobId id, const Digest& digest);
  std::shared_ptr<const OpenBlob> FindOpenLocked(BlobId id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const OpenBlob> AddOpenLocked(BlobId id, const Digest& digest,
                                                UniqueFd fd)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The result must be destroyed after mu_ is released, as every OpenBlob.
  std::shared_ptr<const OpenBlob> RememberLocked(
      const std::shared_ptr<const OpenBlob>& blob)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<const OpenBlob> ForgetLocked(const OpenBlob& blob)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CloseRecent();
  // As Disk::Open(). Where no descriptor is left it takes those of blobs that
  // nobody uses.
  absl::StatusOr<UniqueFd> OpenAt(int parent, const std::string& path,
                                  int flags, mode_t mode);
  void OnClosed(BlobId id);
  void Unref(BlobId id);
  void Unlease(BlobId id);
  void FreeIfUnusedLocked(Slot& slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void SetAllocatedLocked(Slot& slot, int64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Disk& disk_;  // These are set once.
  const Clock& clock_;
  Options options_;
  bool is_read_only_ = false;
  bool is_started_ = false;
  bool needs_index_ = false;
  int64_t block_bytes_ = 4096;
  UniqueFd directory_;
  UniqueFd cas_;
  UniqueFd lock_;
  std::shared_ptr<const OpenBlob> empty_;
  Listener listener_;

  Ledger ledger_;
  std::atomic<uint64_t> tick_{0};
  std::atomic<int64_t> evictions_{0};
  std::atomic<int64_t> published_{0};
  std::atomic<int64_t> damaged_{0};

  // Order: sync_mu_, then one Shard::mu, then mu_.
  Mutex sync_mu_;  // One Sync() at a time; held while it writes.
  absl::Time last_sync_ ABSL_GUARDED_BY(sync_mu_) = absl::InfinitePast();
  int64_t index_bytes_ ABSL_GUARDED_BY(sync_mu_) = 0;
  // Of one that is being written, or could not be removed.
  int64_t new_index_bytes_ ABSL_GUARDED_BY(sync_mu_) = 0;
  std::array<Shard, kShardCount> shards_;

  static constexpr char kScratchName[] = "scratch";
  std::atomic<uint64_t> scratch_numbers_{0};  // For places and names.
  Mutex scratch_mu_;  // A leaf, held while a name is made.
  int64_t scratch_directory_bytes_ ABSL_GUARDED_BY(scratch_mu_) = 0;

  mutable Mutex mu_;  // Never held across a system call.
  SlotTable slots_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<BlobId, OpenEntry> open_ ABSL_GUARDED_BY(mu_);
  // Evicted blobs that have a BlobRef.
  absl::flat_hash_map<BlobId, std::shared_ptr<const OpenBlob>> zombies_
      ABSL_GUARDED_BY(mu_);
  // Blobs kept open after use, so that those read often are not opened again
  // for each read: a clock, which passes over what was used since it came by.
  std::vector<std::shared_ptr<const OpenBlob>> recent_ ABSL_GUARDED_BY(mu_);
  size_t recent_hand_ ABSL_GUARDED_BY(mu_) = 0;
  // Published since the last sync: their allocation is not final.
  std::vector<BlobId> fresh_ ABSL_GUARDED_BY(mu_);
  bool is_changed_ ABSL_GUARDED_BY(mu_) = false;  // Since the last index.
  CondVar zombie_freed_;
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_STORE_H_
