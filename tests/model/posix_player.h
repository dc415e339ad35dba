// Makes system calls in one folder and says in words what came of them, so that
// two folders can be compared by comparing words.
//
// What may differ between two file systems is left out: inode numbers, times
// other than those that were set, sizes of directories, atime.
#ifndef CASEMENT_TESTS_MODEL_POSIX_PLAYER_H_
#define CASEMENT_TESTS_MODEL_POSIX_PLAYER_H_

#include <sys/stat.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "model/posix_call.h"

namespace casement {

// Which files have a mapping that was written to and not synced since, in any
// process: of such a file it is open when its times move (mmap(3p)). Shared
// between the processes of a sequence, which take turns.
struct UnsyncedMaps {
  std::array<std::array<uint64_t, kMaps>, kProcesses> numbers{};  // Or 0.

  bool Has(uint64_t number) const;
};

class Player {
 public:
  // `process`: which of `unsynced` it writes.
  Player(const std::string& folder, UnsyncedMaps& unsynced, unsigned process);
  ~Player();
  Player(const Player&) = delete;
  Player& operator=(const Player&) = delete;

  // The result, what became of the files it names, and which times moved.
  std::string Play(const Call& call);

  // For masking what may differ. 0: no such file.
  uint64_t NumberOf(const std::string& path) const;
  // Descriptors and mappings.
  struct Uses {
    std::array<bool, kSlots> slots{};
    std::array<bool, kMaps> maps{};
  };
  // Those that can only read the file with this number.
  Uses ReadersOf(uint64_t number) const;
  // Descriptors stay open, but no call uses them until they are opened again;
  // mappings go.
  void Freeze(const Uses& uses);

 private:
  struct Watched;
  // A mapping that outlives its call.
  struct Held {
    char* bytes = nullptr;
    size_t size = 0;
    bool writable = false;
    UniqueFd fd;  // To see how long the file is now.
  };
  std::vector<Watched> Watch(const Call& call) const;

  std::string Result(const Call& call);
  std::string Data(const Call& call);
  std::string Names(const Call& call);
  std::string Metadata(const Call& call);
  std::string Open(const Call& call);
  std::string Vector(const Call& call);
  std::string Splice(const Call& call);
  std::string Map(const Call& call, bool shared);
  std::string HeldMap(const Call& call);
  std::string HoldMap(const Call& call, Held& held);
  void DropMap(unsigned map);
  std::string SetFlags(const Call& call);
  std::string SeekData(const Call& call);
  std::string Copy(const Call& call);
  std::string List(const Call& call);
  std::string ListChanging(const Call& call);
  std::string BindSocket(const Call& call);
  std::string Attributes(const Call& call);
  std::string Attribute(const Call& call, const std::string& path);
  std::string Lock(const Call& call);
  void CloseSlot(unsigned slot) {
    slots_[slot].Reset();
    frozen_[slot] = false;
  }
  // The slot that a call on a descriptor uses: the next one that is open.
  unsigned Choose(unsigned slot) const;
  int Fd(unsigned slot) const {
    const unsigned chosen = Choose(slot);
    return frozen_[chosen] ? -1 : slots_[chosen].get();
  }
  // What stat(2) says, but for what may differ.
  std::string Shown(const struct stat& status) const;

  const std::string folder_;
  const UniqueFd root_;
  UnsyncedMaps& unsynced_;
  const unsigned process_;
  std::array<Held, kMaps> maps_;
  std::array<UniqueFd, kSlots> slots_;
  std::array<bool, kSlots> frozen_{};
};

// Everything below `folder`: a line of words by path.
std::map<std::string, std::string> SnapshotOf(const std::string& folder);

// Runs the rest of the scope with an actor's rights, where the process may.
class ActingAs {
 public:
  explicit ActingAs(Actor actor);
  ~ActingAs();
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;

 private:
  const bool changed_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_POSIX_PLAYER_H_
