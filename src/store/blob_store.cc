// Finding, opening and holding blobs. The rest of BlobStore: blob_store_start,
// blob_store_publish, blob_store_evict, blob_store_verify.
#include "store/blob_store.h"

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

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/digest.h"
#include "store/blob_path.h"
#include "store/damaged.h"
#include "store/slot_table.h"

namespace casement {
namespace {

// The empty blob's, which needs no file. No slot has this index.
constexpr BlobId kEmptyBlobId = UINT32_MAX;

// List() looks at so many slots before it lets others have the lock.
constexpr size_t kListSlots = 4096;

// Missing() looks at so many.
constexpr size_t kDigestsAtOnce = 256;

// A missing name is an answer, not an accident: no message is built.
absl::Status NotHere() { return absl::Status(absl::StatusCode::kNotFound, ""); }

bool IsOutOfDescriptors(const absl::Status& status) {
  const std::optional<int> error_number = ErrnoOf(status);
  return error_number == EMFILE || error_number == ENFILE;
}

}  // namespace

OpenBlob::~OpenBlob() {
  if (store_ == nullptr) return;
  fd_.Reset();  // First the bytes go, then their account.
  store_->OnClosed(id_);
}

BlobRef::BlobRef(BlobRef&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), id_(other.id_) {}

BlobRef& BlobRef::operator=(BlobRef&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(id_, other.id_);
  return *this;
}

BlobRef::~BlobRef() {
  if (store_ != nullptr) store_->Unref(id_);
}

absl::StatusOr<std::shared_ptr<const OpenBlob>> BlobRef::Open() const {
  CASEMENT_CHECK(store_ != nullptr);
  return store_->OpenId(id_);
}

Lease::Lease(Lease&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), id_(other.id_) {}

Lease& Lease::operator=(Lease&& other) noexcept {
  std::swap(store_, other.store_);
  std::swap(id_, other.id_);
  return *this;
}

Lease::~Lease() {
  if (store_ != nullptr) store_->Unlease(id_);
}

bool BlobStore::Contains(const Digest& digest) const {
  if (digest.size_bytes() == 0) return true;
  MutexLock lock(mu_);
  return slots_.Find(digest) != nullptr;
}

std::vector<Digest> BlobStore::Missing(absl::Span<const Digest> digests) {
  std::vector<Digest> missing;
  absl::flat_hash_set<Digest> seen;
  while (!digests.empty()) {
    // Some at a time, so that others get the lock.
    const auto some = digests.subspan(0, kDigestsAtOnce);
    digests.remove_prefix(some.size());
    MutexLock lock(mu_);
    for (const Digest& digest : some) {
      if (digest.size_bytes() == 0 || TouchIfResidentLocked(digest)) continue;
      if (seen.insert(digest).second) missing.push_back(digest);
    }
  }
  return missing;
}

bool BlobStore::TouchIfResident(const Digest& digest) {
  MutexLock lock(mu_);
  return TouchIfResidentLocked(digest);
}

bool BlobStore::TouchIfResidentLocked(const Digest& digest) {
  Slot* const slot = slots_.Find(digest);
  if (slot == nullptr) return false;
  slots_.Use(*slot, NextTick());
  return true;
}

void BlobStore::Touch(const Digest& digest) { TouchIfResident(digest); }

absl::StatusOr<BlobRef> BlobStore::Ref(const Digest& digest) {
  if (digest.size_bytes() == 0) return BlobRef(this, kEmptyBlobId);
  MutexLock lock(mu_);
  Slot* const slot = slots_.Find(digest);
  if (slot == nullptr) return NotHere();
  ++slot->refs;
  return BlobRef(this, slots_.IdOf(*slot));
}

absl::StatusOr<Lease> BlobStore::LeaseBlob(const Digest& digest) {
  if (digest.size_bytes() == 0) return Lease(this, kEmptyBlobId);
  std::optional<Lease> lease = LeaseResident(digest);
  if (!lease.has_value()) return NotHere();
  return *std::move(lease);
}

void BlobStore::LeaseAwaited(absl::Span<const Digest> digests,
                             std::vector<Lease>& leases) {
  MutexLock lock(mu_);
  for (const Digest& digest : digests) {
    if (digest.size_bytes() == 0) {
      leases.push_back(Lease(this, kEmptyBlobId));
      continue;
    }
    Slot* slot = slots_.Find(digest);
    if (slot == nullptr) {
      slot = &slots_.Await(digest, EstimateBytes(digest.size_bytes()));
    } else {
      slot->used = NextTick();
    }
    slots_.AddLease(*slot);
    leases.push_back(Lease(this, slots_.IdOf(*slot)));
  }
}

std::vector<Digest> BlobStore::Awaited(absl::Span<const Digest> digests) const {
  std::vector<Digest> awaited;
  MutexLock lock(mu_);
  for (const Digest& digest : digests) {
    if (slots_.IsAwaited(digest)) awaited.push_back(digest);
  }
  return awaited;
}

std::optional<Lease> BlobStore::LeaseResident(const Digest& digest) {
  MutexLock lock(mu_);
  Slot* const slot = slots_.Find(digest);
  if (slot == nullptr) return std::nullopt;
  slot->used = NextTick();
  slots_.AddLease(*slot);
  return Lease(this, slots_.IdOf(*slot));
}

void BlobStore::Unref(BlobId id) {
  if (id == kEmptyBlobId) return;
  std::shared_ptr<const OpenBlob> closed;  // After the lock.
  MutexLock lock(mu_);
  Slot* const slot = slots_.Get(id);
  CASEMENT_CHECK(slot != nullptr && slot->refs > 0);
  if (--slot->refs > 0) return;
  const auto zombie = zombies_.find(id);
  if (zombie != zombies_.end()) {
    closed = std::move(zombie->second);
    zombies_.erase(zombie);
  }
  FreeIfUnusedLocked(*slot);
}

void BlobStore::Unlease(BlobId id) {
  if (id == kEmptyBlobId) return;
  MutexLock lock(mu_);
  Slot* const slot = slots_.Get(id);
  CASEMENT_CHECK(slot != nullptr);
  // A blob is used as long as it is leased.
  slots_.DropLease(*slot, NextTick());
  FreeIfUnusedLocked(*slot);
}

void BlobStore::GiveBack(std::vector<Lease> leases, uint64_t used) {
  // So many at a time that nobody waits long for the lock.
  constexpr size_t kLeasesAtOnce = 256;
  for (size_t begin = 0; begin < leases.size(); begin += kLeasesAtOnce) {
    const size_t end = std::min(begin + kLeasesAtOnce, leases.size());
    MutexLock lock(mu_);
    for (size_t i = begin; i < end; ++i) {
      Lease& lease = leases[i];
      if (std::exchange(lease.store_, nullptr) == nullptr) continue;
      if (lease.id_ == kEmptyBlobId) continue;
      Slot* const slot = slots_.Get(lease.id_);
      CASEMENT_CHECK(slot != nullptr);
      slots_.DropLease(*slot, used);
      FreeIfUnusedLocked(*slot);
    }
  }
}

int64_t BlobStore::LeasedBytes() const {
  MutexLock lock(mu_);
  return slots_.totals().leased_bytes + slots_.totals().awaited_bytes;
}

void BlobStore::FreeIfUnusedLocked(Slot& slot) {
  if (slot.state == Slot::State::kAwaited && slot.leases == 0) {
    slots_.Free(slot);
    return;
  }
  if (slot.state != Slot::State::kZombie || slot.refs > 0 || slot.leases > 0 ||
      open_.contains(slots_.IdOf(slot))) {
    return;
  }
  ledger_.Remove(Owner::kZombies, slot.allocated_bytes);
  slots_.Free(slot);
  zombie_freed_.NotifyAll();
}

void BlobStore::SetAllocatedLocked(Slot& slot, int64_t bytes) {
  const Owner owner =
      slot.state == Slot::State::kResident ? Owner::kBlobs : Owner::kZombies;
  ledger_.Add(owner, bytes - slot.allocated_bytes);
  slots_.SetAllocated(slot, bytes);
}

absl::StatusOr<std::shared_ptr<const OpenBlob>> BlobStore::OpenDigest(
    const Digest& digest) {
  ASSIGN_OR_RETURN(const BlobRef ref, Ref(digest));
  return ref.Open();
}

std::shared_ptr<const OpenBlob> BlobStore::FindOpenLocked(BlobId id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return nullptr;
  std::shared_ptr<const OpenBlob> blob = found->second.newest.lock();
  if (blob != nullptr) blob->was_used_ = true;
  return blob;
}

// The caller holds a BlobRef, so that the slot stays this publication's. The
// file is opened without a lock: while the slot says resident before and after,
// the path named this publication's file all along. If it was evicted in
// between, whoever did it opened the file before the unlink.
absl::StatusOr<std::shared_ptr<const OpenBlob>> BlobStore::OpenId(BlobId id) {
  if (id == kEmptyBlobId) return empty_;
  Digest digest;
  {
    MutexLock lock(mu_);
    Slot* const slot = slots_.Get(id);
    CASEMENT_CHECK(slot != nullptr);
    slots_.Use(*slot, NextTick());
    std::shared_ptr<const OpenBlob> blob = FindOpenLocked(id);
    if (blob != nullptr) return blob;
    digest = slot->digest;
    if (slot->state != Slot::State::kResident) {
      return DamagedBlobStatus(digest, "its file could not be kept");
    }
  }
  absl::StatusOr<UniqueFd> fd = OpenFile(id, digest);
  // Given back after the lock, as the fd.
  std::shared_ptr<const OpenBlob> replaced;
  std::shared_ptr<const OpenBlob> blob;
  MutexLock lock(mu_);
  blob = FindOpenLocked(id);
  if (blob != nullptr) return blob;
  if (!fd.ok()) return fd.status();
  if (slots_.Get(id)->state != Slot::State::kResident) {
    return DamagedBlobStatus(digest, "it was dropped");
  }
  blob = AddOpenLocked(id, digest, *std::move(fd));
  replaced = RememberLocked(blob);
  return blob;
}

std::shared_ptr<const OpenBlob> BlobStore::AddOpenLocked(BlobId id,
                                                         const Digest& digest,
                                                         UniqueFd fd) {
  std::shared_ptr<const OpenBlob> blob(
      new OpenBlob(this, id, digest, std::move(fd)));
  OpenEntry& entry = open_[id];
  entry.newest = blob;
  ++entry.count;
  return blob;
}

absl::StatusOr<UniqueFd> BlobStore::OpenAt(int parent, const std::string& path,
                                           int flags, mode_t mode) {
  absl::StatusOr<UniqueFd> fd = disk_.Open(parent, path, flags, mode);
  if (!IsOutOfDescriptors(fd.status())) return fd;
  CloseRecent();
  return disk_.Open(parent, path, flags, mode);
}

absl::StatusOr<UniqueFd> BlobStore::OpenFile(BlobId id, const Digest& digest) {
  absl::StatusOr<UniqueFd> fd =
      OpenAt(cas_.get(), BlobPath(digest), kBlobOpenFlags, 0);
  const std::optional<int> error_number = ErrnoOf(fd.status());
  if (error_number == ENOENT || error_number == ELOOP) {
    // Nobody but the store removes or replaces its files, except by mistake.
    // Or it was evicted just now; then it is no longer resident and this has no
    // effect.
    EvictId(id, EvictReason::kDamage).IgnoreError();
    return DamagedBlobStatus(digest, "its file is gone");
  }
  if (!fd.ok()) return fd.status();
  ASSIGN_OR_RETURN(const struct stat attributes, disk_.Stat(fd->get()));
  if (!S_ISREG(attributes.st_mode) ||
      attributes.st_size != digest.size_bytes()) {
    EvictId(id, EvictReason::kDamage).IgnoreError();
    return DamagedBlobStatus(digest, "its file has another size");
  }
  return fd;
}

std::shared_ptr<const OpenBlob> BlobStore::RememberLocked(
    const std::shared_ptr<const OpenBlob>& blob) {
  if (recent_.size() < options_.open_blobs_max) {
    blob->recent_place_ = recent_.size();
    recent_.push_back(blob);
    return nullptr;
  }
  if (recent_.empty()) return nullptr;
  for (;;) {
    recent_hand_ = (recent_hand_ + 1) % recent_.size();
    std::shared_ptr<const OpenBlob>& place = recent_[recent_hand_];
    if (place != nullptr && std::exchange(place->was_used_, false)) continue;
    if (place != nullptr) place->recent_place_.reset();
    blob->recent_place_ = recent_hand_;
    return std::exchange(place, blob);
  }
}

std::shared_ptr<const OpenBlob> BlobStore::ForgetLocked(const OpenBlob& blob) {
  if (!blob.recent_place_.has_value()) return nullptr;
  return std::move(recent_[*std::exchange(blob.recent_place_, std::nullopt)]);
}

void BlobStore::CloseRecent() {
  std::vector<std::shared_ptr<const OpenBlob>> closed;  // After the lock.
  MutexLock lock(mu_);
  for (const std::shared_ptr<const OpenBlob>& blob : recent_) {
    if (blob != nullptr) blob->recent_place_.reset();
  }
  closed.swap(recent_);
  recent_hand_ = 0;
}

void BlobStore::OnClosed(BlobId id) {
  MutexLock lock(mu_);
  const auto entry = open_.find(id);
  CASEMENT_CHECK(entry != open_.end());
  if (--entry->second.count > 0) return;
  open_.erase(entry);
  Slot* const slot = slots_.Get(id);
  CASEMENT_CHECK(slot != nullptr);
  FreeIfUnusedLocked(*slot);
}

absl::StatusOr<size_t> BlobStore::ReadPiece(const OpenBlob& blob,
                                            int64_t offset,
                                            absl::Span<char> buffer) {
  const Digest& digest = blob.digest();
  absl::StatusOr<size_t> count = disk_.Read(blob.fd(), buffer, offset);
  if (!count.ok()) {
    return Annotate(count.status(), "blob ", digest.ToString());
  }
  if (*count > 0) return count;
  DropDamaged(digest);
  return DamagedBlobStatus(digest, absl::StrCat("its file ends at ", offset,
                                                " bytes; it is dropped"));
}

absl::StatusOr<std::string> BlobStore::Read(const Digest& digest,
                                            int64_t bytes_max) {
  if (digest.size_bytes() > bytes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("blob ", digest.ToString(), " has more than the ",
                     bytes_max, " bytes that are read at once"));
  }
  ASSIGN_OR_RETURN(const std::shared_ptr<const OpenBlob> blob,
                   OpenDigest(digest));
  std::string bytes(static_cast<size_t>(digest.size_bytes()), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    absl::StatusOr<size_t> count = disk_.Read(
        blob->fd(), absl::MakeSpan(&bytes[done], bytes.size() - done),
        static_cast<int64_t>(done));
    if (!count.ok()) {
      return Annotate(count.status(), "blob ", digest.ToString());
    }
    if (*count == 0) {
      return DamagedBlobStatus(digest, "its file is too short");
    }
    done += *count;
  }
  return bytes;
}

std::vector<BlobStore::Listed> BlobStore::List(uint64_t position,
                                               size_t limit) const {
  std::vector<Listed> listed;
  for (;;) {
    MutexLock lock(mu_);
    const size_t end = std::min<uint64_t>(
        slots_.size(),
        position < slots_.size() ? position + kListSlots : position);
    for (; position < end && listed.size() < limit; ++position) {
      const Slot& slot = slots_.at(position);
      if (slot.state == Slot::State::kResident) {
        listed.push_back({position, slot.digest});
      }
    }
    if (position >= slots_.size() || listed.size() == limit) return listed;
  }
}

uint64_t BlobStore::ListEnd() const {
  MutexLock lock(mu_);
  return slots_.size();
}

BlobStore::Stats BlobStore::GetStats() const {
  Stats stats;
  {
    MutexLock lock(mu_);
    const SlotTable::Totals& totals = slots_.totals();
    stats.blobs = totals.blobs;
    stats.leased_blobs = totals.leased_blobs;
    stats.zombies = totals.zombies;
    stats.awaited = totals.awaited;
    stats.size_bytes = totals.size_bytes;
  }
  stats.capacity_bytes = options_.capacity_bytes;
  stats.evictions = evictions_.load();
  stats.published = published_.load();
  stats.damaged = damaged_.load();
  return stats;
}

void BlobStore::SetListener(Listener listener) {
  listener_ = std::move(listener);
}

void BlobStore::CheckInvariants() const {
  MutexLock lock(mu_);
  slots_.CheckInvariants();
  const SlotTable::Totals& totals = slots_.totals();
  CASEMENT_CHECK(ledger_.Get(Owner::kBlobs) == totals.allocated_bytes);
  CASEMENT_CHECK(ledger_.Get(Owner::kZombies) == totals.zombie_bytes);
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_.at(i);
    if (slot.state != Slot::State::kZombie) continue;
    CASEMENT_CHECK(slot.refs > 0 || slot.leases > 0 ||
                   open_.contains(slots_.IdOf(slot)));
  }
  for (size_t i = 0; i < recent_.size(); ++i) {
    CASEMENT_CHECK(recent_[i] == nullptr || recent_[i]->recent_place_ == i);
  }
}

}  // namespace casement
