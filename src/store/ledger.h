// Who owns the bytes that the store takes on disk.
//
// Bytes are allocated bytes (st_blocks times 512), not sizes. A count is raised
// before the bytes are written and lowered after they are gone, so that the sum
// is never below what is allocated (G3). Thread safe, lock free.
#ifndef CASEMENT_STORE_LEDGER_H_
#define CASEMENT_STORE_LEDGER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace casement {

enum class Owner : uint8_t {
  kBlobs,    // Resident blobs.
  kZombies,  // Evicted blobs that are still open or mapped.
  kUploads,  // Blobs on their way in.
  kScratch,  // Files written in sandboxes.
  kIndex,    // The store's own files.
};
inline constexpr size_t kOwnerCount = 5;

class Ledger {
 public:
  void Add(Owner owner, int64_t bytes) {
    if (bytes > 0) added_.fetch_add(bytes);
    total_.fetch_add(bytes);
    of(owner).fetch_add(bytes);
  }
  void Remove(Owner owner, int64_t bytes) {
    of(owner).fetch_sub(bytes);
    total_.fetch_sub(bytes);
  }
  void Move(Owner from, Owner to, int64_t bytes) {
    of(to).fetch_add(bytes);
    of(from).fetch_sub(bytes);
  }

  int64_t Get(Owner owner) const {
    return bytes_[static_cast<size_t>(owner)].load();
  }
  int64_t Total() const { return total_.load(); }
  // All that was ever added, and only grows: what a walk of the disk may have
  // found is at most the total when it began and what was added meanwhile.
  int64_t Added() const { return added_.load(); }

 private:
  std::atomic<int64_t>& of(Owner owner) {
    return bytes_[static_cast<size_t>(owner)];
  }

  std::array<std::atomic<int64_t>, kOwnerCount> bytes_{};
  // Not summed up when asked for: a Move() in between would be counted twice,
  // or not at all.
  std::atomic<int64_t> total_{0};
  std::atomic<int64_t> added_{0};
};

}  // namespace casement

#endif  // CASEMENT_STORE_LEDGER_H_
