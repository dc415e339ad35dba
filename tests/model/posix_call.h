// Random sequences of system calls: what one is, and how to make them.
//
// A call says everything that it needs, so that any subset of a sequence is one
// too: that is how a failing sequence is made short.
#ifndef CASEMENT_TESTS_MODEL_POSIX_CALL_H_
#define CASEMENT_TESTS_MODEL_POSIX_CALL_H_

#include <cstdint>
#include <string>
#include <vector>

namespace casement {

enum class CallKind : uint8_t {
  kOpen,
  kTemporary,  // O_TMPFILE
  kClose,
  kRead,
  kPread,
  kWrite,
  kPwrite,
  kTruncate,
  kFtruncate,
  kFallocate,
  kSeek,
  kSeekData,
  kMapShared,
  kMapPrivate,
  kCopyRange,
  kSendfile,
  kSync,
  kStat,
  kFstat,
  kAccess,
  kReadlink,
  kMkdir,
  kMknod,
  kSocket,
  kUnlink,
  kRmdir,
  kRename,
  kLink,
  kLinkOpen,  // An open descriptor, by its name in /proc.
  kSymlink,
  kChmod,
  kFchmod,
  kChown,
  kFchown,
  kUtimes,
  kFutimes,
  kList,
  kListChanging,
  kSetAttribute,
  kGetAttribute,
  kListAttributes,
  kRemoveAttribute,
  kFlock,
  kLock,
  // From here on: generation 2.
  kReadVector,
  kWriteVector,
  kSplice,    // Into a pipe and out of it again.
  kHoldMap,   // A shared mapping that stays.
  kWriteMap,  // Dirty until it is synced, dropped or written back.
  kReadMap,
  kSyncMap,
  kDropMap,
  kProcessLock,  // fcntl(2)'s own, which all threads of a process share.
  kSetFlags,
  kKinds,
};

// Who calls. The first is whoever runs the sequence.
enum class Actor : uint8_t { kRunner, kUser, kOtherUser };
inline constexpr uint32_t kUserId = 1001;
// kOtherUser is also in kUser's group.
inline constexpr uint32_t kOtherUserId = 1002;

// Who plays a call: processes with descriptors and mappings of their own, each
// with several threads.
inline constexpr unsigned kProcesses = 3;
inline constexpr unsigned kThreads = 2;

struct Call {
  CallKind kind = CallKind::kOpen;
  unsigned process = 0;
  unsigned thread = 0;
  Actor actor = Actor::kRunner;
  uint32_t umask = 022;
  std::string path;
  std::string other;
  unsigned slot = 0;  // Of an open descriptor.
  unsigned other_slot = 0;
  int flags = 0;  // As the call takes them.
  uint32_t mode = 0;
  int64_t offset = 0;
  int64_t length = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t seed = 0;  // Of the bytes that are written.
};

inline constexpr unsigned kSlots = 6;
// No file on ext4 has this size.
inline constexpr int64_t kTooLargeBytes = int64_t{1} << 44;
inline constexpr unsigned kMaps = 2;

struct SequenceOptions {
  uint64_t seed = 0;
  int calls = 0;
  bool many_actors = false;     // Else the runner only.
  bool many_processes = false;  // Else the first thread of the first.
  // Which calls there are. A seed means another sequence in each, so that one
  // that found a difference in an older generation can still be played.
  int generation = 2;
};
std::vector<Call> MakeCalls(const SequenceOptions& options);

std::string ToString(const Call& call);

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_POSIX_CALL_H_
