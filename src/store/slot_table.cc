#include "store/slot_table.h"

#include <cstdint>
#include <limits>
#include <memory>

#include "base/check.h"
#include "casement/digest.h"

namespace casement {
namespace {

// How far the place of a blob whose lease went is searched for. Idle leases go
// only when they are older than the oldest blob, so that their place is at the
// very end; what is not found within these steps is placed there, which makes
// it go a little early rather than the store stand still.
constexpr int kSearchStepsMax = 128;

}  // namespace

// The first capacity is arbitrary; the set needs its functions from the start.
SlotTable::SlotTable()
    : resident_(16, HashOfSlot{this}, EqualSlot{this}),
      awaited_(16, HashOfSlot{this}, EqualSlot{this}) {}

void SlotTable::Reserve(size_t blobs) { resident_.reserve(blobs); }

BlobId SlotTable::IdOf(const Slot& slot) const {
  return static_cast<BlobId>(slot.generation) << 32 | slot.index;
}

uint32_t SlotTable::TakeFreeIndex() {
  if (first_free_ != kNone) {
    const uint32_t index = first_free_;
    first_free_ = Ref(index).newer;
    return index;
  }
  CASEMENT_CHECK(size_ < kNone);
  if (size_ % kChunkSlots == 0) {
    chunks_.push_back(std::make_unique<Slot[]>(kChunkSlots));
  }
  const uint32_t index = static_cast<uint32_t>(size_++);
  Ref(index).index = index;
  return index;
}

Slot& SlotTable::NewSlot(const Digest& digest, Slot::State state) {
  const uint32_t index = TakeFreeIndex();
  Slot& slot = Ref(index);
  const uint32_t generation = slot.generation;
  slot = Slot();
  slot.index = index;
  slot.generation = generation;
  slot.digest = digest;
  slot.state = state;
  return slot;
}

Slot& SlotTable::Insert(const Digest& digest, uint64_t used) {
  Slot* const slot = TryInsert(digest, used);
  CASEMENT_CHECK(slot != nullptr);
  return *slot;
}

Slot* SlotTable::TryInsert(const Digest& digest, uint64_t used) {
  Slot* slot = nullptr;
  resident_.lazy_emplace(digest, [&](const auto& construct) {
    slot = &NewResident(digest);
    construct(slot->index);
  });
  if (slot == nullptr) return nullptr;
  slot->used = used;
  if (IsListed(*slot)) ListBefore(*slot, kNone);
  Count(*slot, 1);
  return slot;
}

// Not counted yet.
Slot& SlotTable::NewResident(const Digest& digest) {
  const auto awaited = awaited_.find(digest);
  if (awaited == awaited_.end()) {
    return NewSlot(digest, Slot::State::kResident);
  }
  Slot& slot = Ref(*awaited);
  awaited_.erase(awaited);
  Count(slot, -1);
  slot.state = Slot::State::kResident;
  slot.allocated_bytes = 0;
  return slot;
}

Slot& SlotTable::Await(const Digest& digest, int64_t bytes) {
  const auto place = awaited_.lazy_emplace(digest, [&](const auto& construct) {
    CASEMENT_CHECK(Find(digest) == nullptr);
    Slot& slot = NewSlot(digest, Slot::State::kAwaited);
    slot.allocated_bytes = bytes;
    Count(slot, 1);
    construct(slot.index);
  });
  return Ref(*place);
}

Slot* SlotTable::Find(const Digest& digest) {
  const auto found = resident_.find(digest);
  return found == resident_.end() ? nullptr : &Ref(*found);
}

const Slot* SlotTable::Find(const Digest& digest) const {
  const auto found = resident_.find(digest);
  return found == resident_.end() ? nullptr : &Ref(*found);
}

Slot* SlotTable::Get(BlobId id) {
  const uint32_t index = static_cast<uint32_t>(id);
  if (index >= size_) return nullptr;
  Slot& slot = Ref(index);
  if (slot.generation != id >> 32 || slot.state == Slot::State::kFree) {
    return nullptr;
  }
  return &slot;
}

Slot* SlotTable::Oldest() { return oldest_ == kNone ? nullptr : &Ref(oldest_); }

void SlotTable::Use(Slot& slot, uint64_t used) {
  slot.used = used;
  if (!IsListed(slot)) return;
  Unlist(slot);
  ListBefore(slot, kNone);
}

void SlotTable::AddLease(Slot& slot) {
  if (IsListed(slot)) Unlist(slot);
  Count(slot, -1);
  ++slot.leases;
  Count(slot, 1);
}

void SlotTable::DropLease(Slot& slot, uint64_t used) {
  CASEMENT_CHECK(slot.leases > 0);
  Count(slot, -1);
  --slot.leases;
  Count(slot, 1);
  if (used > slot.used) slot.used = used;
  if (IsListed(slot)) ListByUse(slot);
}

void SlotTable::SetAllocated(Slot& slot, int64_t allocated_bytes) {
  Count(slot, -1);
  slot.allocated_bytes = allocated_bytes;
  Count(slot, 1);
}

void SlotTable::StartEviction(Slot& slot) {
  CASEMENT_CHECK(slot.state == Slot::State::kResident);
  if (IsListed(slot)) Unlist(slot);
  CASEMENT_CHECK(resident_.erase(slot.index) == 1);
  Count(slot, -1);
  slot.state = Slot::State::kEvicting;
  Count(slot, 1);
}

void SlotTable::UndoEviction(Slot& slot, uint64_t used) {
  CASEMENT_CHECK(slot.state == Slot::State::kEvicting);
  Count(slot, -1);
  slot.state = Slot::State::kResident;
  Count(slot, 1);
  CASEMENT_CHECK(resident_.insert(slot.index).second);
  slot.used = used;
  if (IsListed(slot)) ListBefore(slot, kNone);
}

void SlotTable::FinishEviction(Slot& slot) {
  CASEMENT_CHECK(slot.state == Slot::State::kEvicting);
  slot.state = Slot::State::kZombie;
}

void SlotTable::Free(Slot& slot) {
  CASEMENT_CHECK(slot.state == Slot::State::kZombie ||
                 slot.state == Slot::State::kAwaited);
  CASEMENT_CHECK(slot.leases == 0 && slot.refs == 0);
  Count(slot, -1);
  if (slot.state == Slot::State::kAwaited) awaited_.erase(slot.index);
  slot.state = Slot::State::kFree;
  // An id is never used twice: a slot that ran out of generations is retired.
  if (slot.generation == std::numeric_limits<uint32_t>::max()) return;
  ++slot.generation;
  slot.newer = first_free_;
  first_free_ = slot.index;
}

void SlotTable::Count(const Slot& slot, int64_t sign) {
  switch (slot.state) {
    case Slot::State::kFree:
      return;
    case Slot::State::kResident:
      totals_.blobs += sign;
      totals_.size_bytes += sign * slot.digest.size_bytes();
      totals_.allocated_bytes += sign * slot.allocated_bytes;
      if (slot.leases > 0) {
        totals_.leased_blobs += sign;
        totals_.leased_bytes += sign * slot.allocated_bytes;
      }
      return;
    case Slot::State::kEvicting:
    case Slot::State::kZombie:
      totals_.zombies += sign;
      totals_.zombie_bytes += sign * slot.allocated_bytes;
      return;
    case Slot::State::kAwaited:
      totals_.awaited += sign;
      totals_.awaited_bytes += sign * slot.allocated_bytes;
      return;
  }
}

void SlotTable::ListBefore(Slot& slot, uint32_t newer) {
  const uint32_t index = slot.index;
  const uint32_t older = newer == kNone ? newest_ : Ref(newer).older;
  slot.newer = newer;
  slot.older = older;
  (newer == kNone ? newest_ : Ref(newer).older) = index;
  (older == kNone ? oldest_ : Ref(older).newer) = index;
}

void SlotTable::Unlist(Slot& slot) {
  (slot.newer == kNone ? newest_ : Ref(slot.newer).older) = slot.older;
  (slot.older == kNone ? oldest_ : Ref(slot.older).newer) = slot.newer;
}

void SlotTable::ListByUse(Slot& slot) {
  if (newest_ == kNone || Ref(newest_).used <= slot.used) {
    ListBefore(slot, kNone);
    return;
  }
  uint32_t newer = oldest_;
  for (int step = 0; step < kSearchStepsMax; ++step) {
    if (Ref(newer).used > slot.used) {
      ListBefore(slot, newer);
      return;
    }
    newer = Ref(newer).newer;  // The newest one ends the search.
  }
  // Keeps the list sorted by `used`.
  slot.used = Ref(newer).older == kNone ? 0 : Ref(Ref(newer).older).used;
  ListBefore(slot, newer);
}

void SlotTable::CheckInvariants() const {
  CheckSlots();
  CheckList();
}

void SlotTable::CheckSlots() const {
  Totals sums;
  for (size_t i = 0; i < size_; ++i) {
    const Slot& slot = Ref(i);
    CASEMENT_CHECK(slot.index == i);
    const auto found = resident_.find(slot.digest);
    const bool is_found = found != resident_.end() && *found == i;
    CASEMENT_CHECK(is_found == (slot.state == Slot::State::kResident));
    const auto awaited = awaited_.find(slot.digest);
    const bool is_awaited = awaited != awaited_.end() && *awaited == i;
    CASEMENT_CHECK(is_awaited == (slot.state == Slot::State::kAwaited));
    if (slot.state == Slot::State::kFree) {
      CASEMENT_CHECK(slot.leases == 0 && slot.refs == 0);
    } else if (slot.state == Slot::State::kResident) {
      ++sums.blobs;
      sums.allocated_bytes += slot.allocated_bytes;
      if (slot.leases > 0) sums.leased_bytes += slot.allocated_bytes;
    } else if (slot.state == Slot::State::kAwaited) {
      CASEMENT_CHECK(slot.leases > 0 && slot.refs == 0);
      ++sums.awaited;
      sums.awaited_bytes += slot.allocated_bytes;
    } else {
      ++sums.zombies;
      sums.zombie_bytes += slot.allocated_bytes;
    }
  }
  CASEMENT_CHECK(sums.blobs == totals_.blobs);
  CASEMENT_CHECK(sums.allocated_bytes == totals_.allocated_bytes);
  CASEMENT_CHECK(sums.leased_bytes == totals_.leased_bytes);
  CASEMENT_CHECK(sums.zombies == totals_.zombies);
  CASEMENT_CHECK(sums.zombie_bytes == totals_.zombie_bytes);
  CASEMENT_CHECK(sums.awaited == totals_.awaited);
  CASEMENT_CHECK(sums.awaited_bytes == totals_.awaited_bytes);
  CASEMENT_CHECK(awaited_.size() == static_cast<size_t>(totals_.awaited));
  CASEMENT_CHECK(resident_.size() == static_cast<size_t>(totals_.blobs));
}

void SlotTable::CheckList() const {
  int64_t listed = 0;
  for (uint32_t i = oldest_; i != kNone; i = Ref(i).newer) {
    const Slot& slot = Ref(i);
    CASEMENT_CHECK(IsListed(slot));
    CASEMENT_CHECK(slot.newer == kNone ? newest_ == i
                                       : Ref(slot.newer).older == i);
    CASEMENT_CHECK(slot.newer == kNone || slot.used <= Ref(slot.newer).used);
    ++listed;
  }
  CASEMENT_CHECK(listed == totals_.blobs - totals_.leased_blobs);
}

}  // namespace casement
