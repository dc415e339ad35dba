// Blobs on local disk, named by digest.
//
// Layout on disk, DESIGN.md section 4:
//   lock                     flock: one BlobStore per directory
//   cas/<hh>/<hash>-<size>   one regular file per blob, mode 0444
//   scratch/                 files that sandboxes write; emptied by Open()
//   index                    sizes and LRU order; only a cache, see index.h
//
// Thread safe. A blob that Contains() reports has been verified against its
// digest. Blobs disappear, least recently used first, when space is needed; not
// while leased. Bytes behind a BlobRef or an OpenBlob stay readable even then.
// The empty blob is always there.
#ifndef CASEMENT_STORE_BLOB_STORE_H_
#define CASEMENT_STORE_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/disk.h"
#include "store/ledger.h"

namespace casement {

class BlobStore;

// Names one publication of a blob; a digest that is evicted and published again
// gets another. Never reused while the daemon runs.
using BlobId = uint64_t;

// A blob's file, open for reading. It stays readable while somebody holds this,
// evicted or not. All holders of one publication share one OpenBlob.
class OpenBlob {
 public:
  virtual ~OpenBlob() = default;
  virtual int fd() const = 0;
  virtual const Digest& digest() const = 0;
  virtual BlobId id() const = 0;
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
  // errno of open(2) if the disk does.
  absl::StatusOr<std::shared_ptr<const OpenBlob>> Open() const;

 private:
  friend class BlobStore;
  BlobStore* store_ = nullptr;
  BlobId id_ = 0;
};

// Keeps a blob from being evicted. Give back exactly once: by destruction.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease();

 private:
  friend class BlobStore;
  BlobStore* store_ = nullptr;
  BlobId id_ = 0;
};

// A blob on its way in. One thread at a time. Destroyed before Commit(), it
// leaves nothing.
class Upload {
 public:
  virtual ~Upload() = default;
  // ResourceExhausted, with ENOSPC, if the store is full of leased bytes or the
  // disk is full; InvalidArgument past the digest's size.
  virtual absl::Status Write(absl::string_view bytes) = 0;
  virtual int64_t written_bytes() const = 0;
  // Verifies and publishes. InvalidArgument if the bytes do not hash to the
  // digest. Publishing a resident digest changes nothing but its LRU place.
  virtual absl::Status Commit() = 0;
};

class BlobStore {
 public:
  struct Options {
    std::string directory;
    // What the store's files may allocate on disk, of every owner.
    int64_t capacity_bytes = int64_t{50} << 30;
  };

  // FailedPrecondition if another process has the store open. Creates the
  // directory's parts as needed; the directory itself must exist. A store on
  // read-only media is served without its index, and nothing can be put (G13).
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(Disk& disk,
                                                         const Clock& clock,
                                                         Options options);
  // Writes the index. All leases, refs, open blobs and uploads must be gone.
  virtual ~BlobStore() = default;

  // Keeps a copy of `bytes`. InvalidArgument if they do not hash to `digest`.
  virtual absl::Status Put(const Digest& digest, absl::string_view bytes) = 0;
  virtual absl::StatusOr<std::unique_ptr<Upload>> StartUpload(
      const Digest& digest) = 0;

  // A new, unnamed file under scratch/, open for reading and writing, with mode
  // 0444 so that it can become a blob as it is.
  virtual absl::StatusOr<UniqueFd> NewScratchFile() = 0;
  // Asks that scratch may grow by `bytes`, evicting if need be, and accounts
  // them. ENOSPC if it may not. Give back with ledger().Remove().
  virtual absl::Status ReserveScratch(int64_t bytes) = 0;
  // Hashes the file and publishes it by link(2), copying nothing (an existing
  // digest keeps its own file). Nobody may write to the file from now on.
  // `accounted_bytes` of scratch become the blob's; where the blob exists
  // already they are removed. Returns the digest.
  virtual absl::StatusOr<Digest> PublishScratch(int fd,
                                                int64_t accounted_bytes) = 0;

  virtual bool Contains(const Digest& digest) const = 0;
  // Those that are not here, in the order given, each once. Marks the others as
  // used.
  virtual std::vector<Digest> Missing(absl::Span<const Digest> digests) = 0;
  // NotFound, without a message, if the blob is not here.
  virtual absl::StatusOr<BlobRef> Ref(const Digest& digest) = 0;
  virtual absl::StatusOr<Lease> LeaseBlob(const Digest& digest) = 0;
  // Ref() and Open() in one.
  absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenDigest(
      const Digest& digest);
  // All of a blob, for small ones. DataLoss if its file is shorter than its
  // digest says, ResourceExhausted if it is larger than `bytes_max`.
  absl::StatusOr<std::string> Read(const Digest& digest, int64_t bytes_max);
  // Marks as used.
  virtual void Touch(const Digest& digest) = 0;

  // NotFound if it is not here, FailedPrecondition if it is leased.
  virtual absl::Status Evict(const Digest& digest) = 0;
  // Evicts everything that is not leased; how many blobs and bytes.
  struct Evicted {
    int64_t blobs = 0;
    int64_t bytes = 0;
  };
  virtual Evicted EvictUnleased() = 0;

  // Up to `limit` resident blobs whose position is at least `position`, in
  // order of position: for a listing that is streamed. Positions are stable
  // while a blob is resident.
  struct Listed {
    uint64_t position;
    Digest digest;
  };
  virtual std::vector<Listed> List(uint64_t position, size_t limit) const = 0;

  struct Stats {
    int64_t blobs = 0;
    int64_t leased_blobs = 0;
    int64_t zombies = 0;
    int64_t size_bytes = 0;      // The sum of the blobs' sizes.
    int64_t capacity_bytes = 0;
    int64_t evictions = 0;       // Since the start, as are the following.
    int64_t published = 0;
    int64_t damaged = 0;
  };
  virtual Stats GetStats() const = 0;
  Ledger& ledger() { return ledger_; }

  // Hashes every blob again. A damaged one is reported and, with `repair`,
  // dropped. `progress` is called now and then with bytes done and in all.
  struct VerifyReport {
    int64_t blobs = 0;
    int64_t bytes = 0;
    std::vector<Digest> damaged;
    int64_t accounted_bytes = 0;
    int64_t allocated_bytes = 0;  // What a walk of the store's files finds.
  };
  virtual absl::StatusOr<VerifyReport> Verify(
      bool repair, const std::function<void(int64_t, int64_t)>& progress) = 0;
  // Drops a blob found damaged while being read; later reads find it missing.
  virtual void DropDamaged(const Digest& digest) = 0;

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
  virtual void SetListener(Listener listener) = 0;

  // I1  the ledger's blobs are the sum of the resident blobs' allocated bytes
  // I2  a digest with a lease is resident
  // I3  the LRU list holds exactly the resident blobs without a lease
  // I4  no slot is both free and reachable
  virtual void CheckInvariants() const = 0;

 protected:
  friend class BlobRef;
  friend class Lease;
  virtual absl::StatusOr<std::shared_ptr<const OpenBlob>> OpenId(BlobId id) = 0;
  virtual void Unref(BlobId id) = 0;
  virtual void Unlease(BlobId id) = 0;

  Ledger ledger_;
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_STORE_H_
