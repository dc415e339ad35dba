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

class Player {
 public:
  explicit Player(const std::string& folder);

  // The result, what became of the files it names, and which times moved.
  std::string Play(const Call& call);

  // For masking what may differ. 0: no such file or descriptor.
  uint64_t NumberOf(const std::string& path) const;
  struct OpenSlot {
    uint64_t number = 0;
    bool read_only = false;
  };
  OpenSlot SlotAt(unsigned slot) const;
  void CloseSlot(unsigned slot) {
    slots_[slot].Reset();
    frozen_[slot] = false;
  }
  // Stays open, but no call uses it until it is opened again.
  void FreezeSlot(unsigned slot) { frozen_[slot] = true; }
  // The slot that a call on a descriptor uses: the next one that is open.
  unsigned Choose(unsigned slot) const;

 private:
  struct Watched;
  std::vector<Watched> Watch(const Call& call) const;

  std::string Result(const Call& call);
  std::string Data(const Call& call);
  std::string Names(const Call& call);
  std::string Metadata(const Call& call);
  std::string Open(const Call& call);
  std::string Map(const Call& call, bool shared);
  std::string SeekData(const Call& call);
  std::string Copy(const Call& call);
  std::string List(const Call& call);
  std::string ListChanging(const Call& call);
  std::string BindSocket(const Call& call);
  std::string Attributes(const Call& call);
  std::string Attribute(const Call& call, const std::string& path);
  std::string Lock(const Call& call);
  int Fd(unsigned slot) const {
    const unsigned chosen = Choose(slot);
    return frozen_[chosen] ? -1 : slots_[chosen].get();
  }

  const std::string folder_;
  const UniqueFd root_;
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
