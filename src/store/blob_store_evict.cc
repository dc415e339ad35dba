// How blobs go: BlobStore's eviction, on request, for space, for damage.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/blob_store.h"

namespace casement {
namespace {

// A disk that refuses so many evictions in a row refuses the next one too.
constexpr int kFailuresMax = 8;

// Freeing the extents of a large file takes its time: 10 ms a GiB on ext4. Such
// a file is held open across the unlink, so that it happens after the locks.
constexpr int64_t kLargeBytes = int64_t{4} << 20;

// Watermarks where none are chosen, and the capacity below which there are none
// then.
constexpr int64_t kWatermarkCapacityMin = int64_t{1} << 30;
constexpr int kHighPercent = 99;
constexpr int kLowPercent = 98;

absl::Status Leased(const Digest& digest) {
  return absl::FailedPreconditionError(
      absl::StrCat("blob ", digest.ToString(), " is in use by a sandbox"));
}

absl::Status NotHere(const Digest& digest) {
  return absl::NotFoundError(
      absl::StrCat("blob ", digest.ToString(), " is not in the store"));
}

}  // namespace

// Room that somebody waits for.
struct BlobStore::Demand {
  Owner owner;
  int64_t bytes;
  // Evicted for it but still open: will be free soon, or not.
  int64_t expected_bytes = 0;
  int failures = 0;
  absl::Duration patience;
};

struct BlobStore::Eviction {
  BlobId id;
  EvictReason reason;
  Digest digest;
  bool has_looked = false;
  absl::Status refusal;
  // All to be destroyed without locks.
  UniqueFd file;
  std::shared_ptr<const OpenBlob> open;
  std::shared_ptr<const OpenBlob> recent;
};

bool BlobStore::GiveUpIdleLeases(uint64_t used_before) {
  return listener_.give_up_idle_leases &&
         listener_.give_up_idle_leases(used_before);
}

absl::Status BlobStore::Reserve(Owner owner, int64_t bytes) {
  Demand demand = {owner, bytes, 0, 0, options_.zombie_grace};
  for (;;) {
    {
      MutexLock lock(mu_);
      // The first bound keeps the sum from overflowing.
      if (bytes <= options_.capacity_bytes &&
          ledger_.Total() + bytes <= options_.capacity_bytes) {
        ledger_.Add(owner, bytes);
        return absl::OkStatus();
      }
    }
    RETURN_IF_ERROR(MakeRoom(demand));
  }
}

absl::Status BlobStore::MakeRoom(Demand& demand) {
  const auto full = [&] {
    return ErrnoStatus(ENOSPC, "the store is full: ", demand.bytes,
                       " bytes more do not fit its ", options_.capacity_bytes);
  };
  if (demand.bytes > options_.capacity_bytes) return full();
  std::optional<BlobId> oldest;
  uint64_t used = UINT64_MAX;
  int64_t bytes = 0;
  bool is_hopeless = false;
  {
    MutexLock lock(mu_);
    const int64_t excess =
        ledger_.Total() + demand.bytes - options_.capacity_bytes;
    if (excess <= 0) return absl::OkStatus();
    const bool is_waiting = slots_.totals().zombie_bytes > 0 &&
                            demand.patience > absl::ZeroDuration();
    is_hopeless = excess > slots_.unleased_bytes();
    // Blobs that are closed soon make room, or those evicted for it already do.
    if (is_waiting && (is_hopeless || demand.expected_bytes >= excess)) {
      const absl::Time start = absl::Now();
      zombie_freed_.WaitFor(mu_, demand.patience);
      demand.patience -= absl::Now() - start;
      return absl::OkStatus();
    }
    if (const Slot* slot = slots_.Oldest(); slot != nullptr) {
      oldest = slots_.IdOf(*slot);
      used = slot->used;
      bytes = slot->allocated_bytes;
    }
  }
  // What is refused in the end should cost nobody their blobs.
  if (is_hopeless) {
    return GiveUpIdleLeases(UINT64_MAX) ? absl::OkStatus() : full();
  }
  if (GiveUpIdleLeases(used) || !oldest.has_value()) return absl::OkStatus();
  const absl::Status evicted = EvictId(*oldest, EvictReason::kSpace);
  if (evicted.ok()) {
    demand.expected_bytes += bytes;
    demand.failures = 0;
  } else if (ErrnoOf(evicted).has_value() &&
             ++demand.failures >= kFailuresMax) {
    return Annotate(full(), evicted.message());
  }
  return absl::OkStatus();
}

// Counts what is evicted and not what is free at once: the kernel closes what
// it has looked up a moment after it was told, and until then more would go
// than is wanted.
bool BlobStore::FreeOnDisk(int64_t bytes) {
  const int64_t zombie_bytes = ledger_.Get(Owner::kZombies);
  int64_t evicted = 0;
  int failures = 0;
  while (evicted < bytes && failures < kFailuresMax) {
    const std::optional<Candidate> oldest = OldestBlob();
    if (GiveUpIdleLeases(oldest.has_value() ? oldest->used : UINT64_MAX)) {
      continue;
    }
    if (!oldest.has_value()) break;
    if (EvictId(oldest->id, EvictReason::kSpace).ok()) {
      evicted += oldest->allocated_bytes;
    } else {
      ++failures;
    }
  }
  if (evicted > 0) AwaitZombies(zombie_bytes);
  return evicted > 0;
}

void BlobStore::AwaitZombies(int64_t zombie_bytes_max) {
  const absl::Time deadline = absl::Now() + options_.zombie_grace;
  MutexLock lock(mu_);
  while (slots_.totals().zombie_bytes > zombie_bytes_max) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return;
    zombie_freed_.WaitFor(mu_, left);
  }
}

int64_t BlobStore::PercentOfCapacity(int percent) const {
  const int64_t capacity = options_.capacity_bytes;
  return capacity / 100 * percent + capacity % 100 * percent / 100;
}

// Zombies are on their way out, or held by somebody: evicting more for them
// would only cost the store its blobs.
void BlobStore::EvictToLowWatermark() {
  int high = options_.high_watermark_percent;
  int low = options_.low_watermark_percent;
  if (high == 0) {
    if (options_.capacity_bytes < kWatermarkCapacityMin) return;
    high = kHighPercent;
    low = kLowPercent;
  }
  const int64_t staying = ledger_.Total() - ledger_.Get(Owner::kZombies);
  if (staying > PercentOfCapacity(high)) {
    FreeOnDisk(staying - PercentOfCapacity(low));
  }
}

std::optional<BlobStore::Candidate> BlobStore::OldestBlob() const {
  MutexLock lock(mu_);
  const Slot* const slot = const_cast<SlotTable&>(slots_).Oldest();
  if (slot == nullptr) return std::nullopt;
  return Candidate{slots_.IdOf(*slot), slot->used, slot->allocated_bytes};
}

absl::Status BlobStore::Evict(const Digest& digest) {
  for (;;) {
    BlobId id = 0;
    {
      MutexLock lock(mu_);
      const Slot* const slot = slots_.Find(digest);
      if (slot == nullptr) return NotHere(digest);
      id = slots_.IdOf(*slot);
    }
    const absl::Status evicted = EvictId(id, EvictReason::kRequest);
    if (absl::IsFailedPrecondition(evicted) && GiveUpIdleLeases(UINT64_MAX)) {
      continue;
    }
    return evicted;
  }
}

BlobStore::Evicted BlobStore::EvictUnleased() {
  Evicted evicted;
  int failures = 0;
  const uint64_t start = NextTick();
  while (failures < kFailuresMax) {
    BlobId id = 0;
    int64_t bytes = 0;
    {
      MutexLock lock(mu_);
      const Slot* const slot = slots_.Oldest();
      if (slot == nullptr || slot->used > start) break;
      id = slots_.IdOf(*slot);
      bytes = slot->allocated_bytes;
    }
    const absl::Status status = EvictId(id, EvictReason::kRequest);
    if (status.ok()) {
      ++evicted.blobs;
      evicted.bytes += bytes;
    } else if (ErrnoOf(status).has_value()) {
      ++failures;
    }
  }
  return evicted;
}

void BlobStore::DropDamaged(const Digest& digest) {
  BlobId id = 0;
  {
    MutexLock lock(mu_);
    const Slot* const slot = slots_.Find(digest);
    if (slot == nullptr) return;
    id = slots_.IdOf(*slot);
  }
  EvictId(id, EvictReason::kDamage).IgnoreError();
}

// The steps, and why in this order:
// 1. Under the shard's mutex, so that nobody gives the path to another file.
// 2. If somebody refers to the blob, its file is opened: after the unlink it
//    can no longer be. If that fails it stays.
// 3. The slot is marked. From now on the blob cannot be found, and whoever
//    opens it by its BlobRef gets what was opened in step 2.
// 4. The file is unlinked.
// 5. Without locks: the last descriptors are closed, then the account lowered.
absl::Status BlobStore::EvictId(BlobId id, EvictReason reason) {
  Eviction eviction = {id, reason};
  {
    MutexLock lock(mu_);
    const Slot* const slot = slots_.Get(id);
    if (slot == nullptr) return absl::NotFoundError("the blob is gone");
    eviction.digest = slot->digest;
  }
  const Digest& digest = eviction.digest;
  Shard& shard = shards_[ShardOf(digest)];
  absl::Status unlinked;
  {
    MutexLock shard_lock(shard.mu);
    RETURN_IF_ERROR(MarkLocked(shard, eviction));
    unlinked = UnlinkLocked(shard, eviction);
    SettleDirectoryLocked(shard, ShardOf(digest));
  }
  if (!unlinked.ok()) {
    // It could not be found for a moment.
    if (listener_.published) listener_.published(digest);
    return Annotate(unlinked, "evicting ", digest.ToString());
  }
  eviction.file.Reset();
  {
    MutexLock lock(mu_);
    Slot* const slot = slots_.Get(id);
    slots_.FinishEviction(*slot);
    FreeIfUnusedLocked(*slot);
  }
  if (reason == EvictReason::kDamage) {
    options_.log(
        absl::StrCat("dropped blob ", digest.ToString(), ": it was damaged"));
  }
  (reason == EvictReason::kDamage ? damaged_ : evictions_).fetch_add(1);
  if (listener_.evicted) listener_.evicted(digest);
  return absl::OkStatus();
}

absl::Status BlobStore::MarkLocked(Shard& shard, Eviction& eviction) {
  if (TryMark(eviction)) return eviction.refusal;
  absl::StatusOr<UniqueFd> file =
      disk_.Open(cas_.get(), BlobPath(eviction.digest), kBlobOpenFlags, 0);
  if (ErrnoOf(file.status()) == EMFILE || ErrnoOf(file.status()) == ENFILE) {
    CloseRecent();
    file = disk_.Open(cas_.get(), BlobPath(eviction.digest), kBlobOpenFlags, 0);
  }
  // A file that is gone cannot be kept; who refers to it will be told.
  if (!file.ok() && ErrnoOf(file.status()) != ENOENT) return file.status();
  if (file.ok()) eviction.file = *std::move(file);
  eviction.has_looked = true;
  CASEMENT_CHECK(TryMark(eviction));
  return eviction.refusal;
}

bool BlobStore::TryMark(Eviction& eviction) {
  const bool is_damaged = eviction.reason == EvictReason::kDamage;
  MutexLock lock(mu_);
  Slot* const slot = slots_.Get(eviction.id);
  if (slot == nullptr || slot->state != Slot::State::kResident) {
    eviction.refusal = NotHere(eviction.digest);
    return true;
  }
  if (slot->leases > 0 && !is_damaged) {
    eviction.refusal = Leased(eviction.digest);
    return true;
  }
  eviction.open = FindOpenLocked(eviction.id);
  const bool wants_file =
      eviction.open == nullptr && !is_damaged &&
      (slot->refs > 0 || eviction.digest.size_bytes() >= kLargeBytes);
  if (wants_file && !eviction.has_looked) return false;
  if (wants_file && slot->refs > 0 && eviction.file.valid()) {
    eviction.open =
        AddOpenLocked(eviction.id, eviction.digest, std::move(eviction.file));
  }
  if (eviction.open != nullptr) {
    eviction.recent = ForgetLocked(*eviction.open);
    // Damaged bytes are not given to anybody else.
    if (is_damaged) open_[eviction.id].newest.reset();
    if (slot->refs > 0 && !is_damaged) zombies_[eviction.id] = eviction.open;
  }
  ledger_.Move(Owner::kBlobs, Owner::kZombies, slot->allocated_bytes);
  slots_.StartEviction(*slot);
  is_changed_ = true;
  return true;
}

absl::Status BlobStore::UnlinkLocked(Shard& shard, Eviction& eviction) {
  const absl::Status unlinked =
      disk_.Unlink(cas_.get(), BlobPath(eviction.digest));
  if (unlinked.ok() || ErrnoOf(unlinked) == ENOENT) return absl::OkStatus();
  std::shared_ptr<const OpenBlob> zombie;  // Destroyed after the lock.
  MutexLock lock(mu_);
  Slot* const slot = slots_.Get(eviction.id);
  if (eviction.reason == EvictReason::kDamage) {
    // The file stays, but is not served.
    ledger_.Add(Owner::kIndex, slot->allocated_bytes);
    shard.foreign_bytes += slot->allocated_bytes;
    return absl::OkStatus();
  }
  const auto found = zombies_.find(eviction.id);
  if (found != zombies_.end()) {
    zombie = std::move(found->second);
    zombies_.erase(found);
  }
  slots_.UndoEviction(*slot, NextTick());
  ledger_.Move(Owner::kZombies, Owner::kBlobs, slot->allocated_bytes);
  return unlinked;
}

}  // namespace casement
