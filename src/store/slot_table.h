// What the store remembers of each blob, in few bytes, and which goes first.
//
// Pure memory: no files, no locks; BlobStore's mutex guards it. A slot is
// resident (findable by its digest), evicting (its file is being unlinked),
// a zombie (unlinked, but somebody still uses it), awaited (leased before it is
// there: it will come from elsewhere), or free. The LRU list holds exactly the
// resident slots without a lease.
//
// 1,000,000 blobs take 96 bytes a slot and 5 bytes for each of the hash set's
// 2^21 places: 107 bytes a blob (issue 4 allows 150).
#ifndef CASEMENT_STORE_SLOT_TABLE_H_
#define CASEMENT_STORE_SLOT_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "casement/digest.h"

namespace casement {

// Names one publication of a blob; a digest that is evicted and published again
// gets another. Never reused while the daemon runs. The slot's generation in
// the upper half, its index in the lower.
using BlobId = uint64_t;

struct Slot {
  enum class State : uint8_t { kFree, kResident, kEvicting, kZombie, kAwaited };

  Digest digest;
  int64_t allocated_bytes = 0;
  int64_t changed_ns = 0;  // The file's ctime: tells publications apart.
  uint64_t used = 0;       // When it was last used, in BlobStore's ticks.
  uint32_t older = 0;      // Neighbours in the LRU list.
  uint32_t newer = 0;
  uint32_t leases = 0;
  uint32_t refs = 0;
  uint32_t index = 0;       // Its own place in the table.
  uint32_t generation = 1;  // So that no id is 0.
  State state = State::kFree;
  bool is_durable = false;    // A syncfs came after its publication.
  bool is_confirmed = false;  // At the start: found in a directory.
};

static_assert(sizeof(Slot) <= 96);

class SlotTable {
 public:
  SlotTable();
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

  void Reserve(size_t blobs);
  // A resident slot, the most recently used; the awaited one, with its leases,
  // if there is one. Its digest must not be resident.
  Slot& Insert(const Digest& digest, uint64_t used);
  // The same, but nullptr if its digest is resident.
  Slot* TryInsert(const Digest& digest, uint64_t used);
  // Has the memory fetched that a TryInsert() soon after this one will need.
  void Prefetch(const Digest& digest) const { resident_.prefetch(digest); }
  // The awaited slot, made if there is none, which `bytes` on disk are expected
  // of. Its digest must not be resident. Give it a lease at once.
  Slot& Await(const Digest& digest, int64_t bytes);
  // The resident slot, or nullptr.
  Slot* Find(const Digest& digest);
  const Slot* Find(const Digest& digest) const;
  bool IsAwaited(const Digest& digest) const {
    return awaited_.contains(digest);
  }
  // nullptr if this publication's slot is free or somebody else's.
  Slot* Get(BlobId id);
  BlobId IdOf(const Slot& slot) const;
  // The resident unleased slot that was used longest ago, or nullptr.
  Slot* Oldest();

  void Use(Slot& slot, uint64_t used);
  void AddLease(Slot& slot);
  // A resident slot whose last lease goes enters the LRU list where `used`
  // belongs, searched for from the old end for a bounded number of steps.
  void DropLease(Slot& slot, uint64_t used);
  void SetAllocated(Slot& slot, int64_t allocated_bytes);

  // resident -> evicting: no longer to be found.
  void StartEviction(Slot& slot);
  // evicting -> resident, for the failure of an eviction.
  void UndoEviction(Slot& slot, uint64_t used);
  // evicting -> zombie.
  void FinishEviction(Slot& slot);
  // zombie or awaited -> free. Nobody may hold it.
  void Free(Slot& slot);

  // Slots by position, for walks in pieces. Positions of free slots included.
  size_t size() const { return size_; }
  const Slot& at(size_t position) const { return Ref(position); }
  Slot& at(size_t position) { return Ref(position); }

  struct Totals {
    int64_t blobs = 0;  // Resident ones, as in all that follows but `zombies`.
    int64_t size_bytes = 0;
    int64_t allocated_bytes = 0;
    int64_t leased_blobs = 0;
    int64_t leased_bytes = 0;  // Allocated.
    int64_t zombies = 0;       // Those being evicted included.
    int64_t zombie_bytes = 0;
    int64_t awaited = 0;
    int64_t awaited_bytes = 0;  // What they are expected to allocate.
  };
  const Totals& totals() const { return totals_; }
  int64_t unleased_bytes() const {
    return totals_.allocated_bytes - totals_.leased_bytes;
  }

  // BlobStore's I2 to I4, and that the totals are the sums.
  void CheckInvariants() const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kChunkSlots = 4096;

  // Look through the index at the digest in the slot.
  struct HashOfSlot {
    using is_transparent = void;
    size_t operator()(const Digest& digest) const {
      return absl::HashOf(digest);
    }
    size_t operator()(uint32_t index) const {
      return absl::HashOf(table->Ref(index).digest);
    }
    const SlotTable* table;
  };
  struct EqualSlot {
    using is_transparent = void;
    const Digest& of(const Digest& digest) const { return digest; }
    const Digest& of(uint32_t index) const { return table->Ref(index).digest; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return of(a) == of(b);
    }
    const SlotTable* table;
  };

  Slot& Ref(size_t index) const {
    return chunks_[index / kChunkSlots][index % kChunkSlots];
  }
  Slot& NewSlot(const Digest& digest, Slot::State state);
  Slot& NewResident(const Digest& digest);
  uint32_t TakeFreeIndex();
  void Count(const Slot& slot, int64_t sign);
  bool IsListed(const Slot& slot) const {
    return slot.state == Slot::State::kResident && slot.leases == 0;
  }
  // Into the LRU list, before `newer` (kNone: as the newest).
  void ListBefore(Slot& slot, uint32_t newer);
  void Unlist(Slot& slot);
  void ListByUse(Slot& slot);
  void CheckSlots() const;
  void CheckList() const;

  // Chunks, so that growing neither copies nor needs twice the memory.
  std::vector<std::unique_ptr<Slot[]>> chunks_;
  size_t size_ = 0;
  uint32_t first_free_ = kNone;  // Chained by Slot::newer.
  uint32_t oldest_ = kNone;
  uint32_t newest_ = kNone;
  absl::flat_hash_set<uint32_t, HashOfSlot, EqualSlot> resident_;
  absl::flat_hash_set<uint32_t, HashOfSlot, EqualSlot> awaited_;
  Totals totals_;
};

}  // namespace casement

#endif  // CASEMENT_STORE_SLOT_TABLE_H_
