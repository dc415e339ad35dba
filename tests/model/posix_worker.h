// A process that plays its part of a sequence, in a sandbox and in a plain
// folder, one call at a time: when it is told to.
#ifndef CASEMENT_TESTS_MODEL_POSIX_WORKER_H_
#define CASEMENT_TESTS_MODEL_POSIX_WORKER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "model/posix_call.h"
#include "model/posix_player.h"

namespace casement {

// The two folders, and what all processes know of their mappings. In memory
// that these share.
struct Stage {
  std::string sandbox;
  std::string plain;
  UnsyncedMaps* sandbox_unsynced = nullptr;
  UnsyncedMaps* plain_unsynced = nullptr;
};

class PosixWorker {
 public:
  // `calls` must outlive it.
  PosixWorker(const Stage& stage, const std::vector<Call>& calls,
              unsigned process);
  // Ends the process, and with it its descriptors and mappings.
  ~PosixWorker();
  PosixWorker(const PosixWorker&) = delete;
  PosixWorker& operator=(const PosixWorker&) = delete;

  struct Results {
    std::string plain;
    std::string sandbox;
  };
  Results Play(size_t index);
  // What can only read the plain folder's file of this number is not used any
  // more, on either side.
  void Freeze(uint64_t number);

 private:
  UniqueFd socket_;
  pid_t pid_ = -1;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_POSIX_WORKER_H_
