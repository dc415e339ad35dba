#include "model/posix_call.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <random>
#include <sstream>

namespace casement {
namespace {

struct KindInfo {
  const char* name;
  int weight;
};

// In the order of CallKind.
constexpr std::array<KindInfo, static_cast<size_t>(CallKind::kKinds)> kKinds = {
    {{"open", 14},
     {"tmpfile", 2},
     {"close", 4},
     {"read", 4},
     {"pread", 6},
     {"write", 6},
     {"pwrite", 8},
     {"truncate", 3},
     {"ftruncate", 4},
     {"fallocate", 4},
     {"lseek", 2},
     {"seek_data", 3},
     {"map_shared", 3},
     {"map_private", 1},
     {"copy_file_range", 3},
     {"sendfile", 2},
     {"fsync", 1},
     {"stat", 4},
     {"fstat", 3},
     {"access", 2},
     {"readlink", 2},
     {"mkdir", 5},
     {"mknod", 2},
     {"socket", 1},
     {"unlink", 5},
     {"rmdir", 3},
     {"rename", 10},
     {"link", 5},
     {"link_open", 2},
     {"symlink", 3},
     {"chmod", 5},
     {"fchmod", 2},
     {"chown", 3},
     {"fchown", 2},
     {"utimes", 3},
     {"futimes", 2},
     {"list", 3},
     {"list_changing", 1},
     {"setxattr", 4},
     {"getxattr", 2},
     {"listxattr", 2},
     {"removexattr", 2},
     {"flock", 2},
     {"lock", 2},
     // Generation 2, weighed among themselves.
     {"readv", 2},
     {"writev", 3},
     {"splice", 3},
     {"hold_map", 3},
     {"write_map", 4},
     {"read_map", 3},
     {"sync_map", 2},
     {"drop_map", 1},
     {"process_lock", 3},
     {"set_flags", 1}}};
constexpr auto kGeneration2 = static_cast<size_t>(CallKind::kReadVector);

class Generator {
 public:
  explicit Generator(const SequenceOptions& options)
      : options_(options),
        random_(options.seed),
        extra_(options.seed ^ 0x9e3779b97f4a7c15U) {}

  Call Next() {
    Call call;
    call.kind = Kind();
    if (options_.many_actors && Chance(30)) {
      call.actor = Chance(50) ? Actor::kUser : Actor::kOtherUser;
    }
    call.umask = Pick<uint32_t>({022, 022, 0, 077});
    call.path = Path();
    call.other = Path();
    call.slot = Below(kSlots);
    call.other_slot = Below(kSlots);
    call.flags = Flags(call.kind);
    call.mode = Mode();
    call.offset = Offset();
    call.length = Length();
    call.uid = Id();
    call.gid = Id();
    call.seed = random_();
    // Of another user's file the kernel does not say that it is a chown
    // (casement(7)).
    if (call.actor != Actor::kRunner && call.gid == UINT32_MAX) call.gid = 0;
    if (options_.generation >= 2) Extend(call);
    return call;
  }

 private:
  // What generation 2 adds, from random numbers of its own.
  void Extend(Call& call) {
    const auto below = [this](uint64_t bound) {
      return static_cast<unsigned>(extra_() % bound);
    };
    if (options_.many_processes) {
      call.process = below(kProcesses);
      call.thread = below(kThreads);
    }
    if (below(100) < 25) {
      call.kind = PickKind(kGeneration2, kKinds.size(), extra_);
      call.flags = static_cast<int>(below(8));
    }
    if (call.kind == CallKind::kOpen && below(100) < 6) {
      call.flags |= below(2) == 0 ? O_DIRECT : O_DSYNC;
    }
    if (call.kind == CallKind::kMknod && below(3) == 0) call.flags |= 4;
    if (call.kind == CallKind::kRename && call.flags == 0 && below(100) < 5) {
      call.flags = RENAME_WHITEOUT;
    }
    if (below(50) == 0 && IsAtOffset(call.kind)) {
      call.offset = below(2) == 0 ? kTooLargeBytes : INT64_MAX - 10;
    }
  }

  static bool IsAtOffset(CallKind kind) {
    switch (kind) {
      case CallKind::kPread:
      case CallKind::kPwrite:
      case CallKind::kTruncate:
      case CallKind::kFtruncate:
      case CallKind::kReadVector:
      case CallKind::kWriteVector:
        return true;
      default:
        return false;
    }
  }

  // The standard's distributions differ between libraries; this does not.
  unsigned Below(uint64_t bound) {
    return static_cast<unsigned>(random_() % bound);
  }
  bool Chance(unsigned percent) { return Below(100) < percent; }
  template <typename T>
  T Pick(std::initializer_list<T> choices) {
    return choices.begin()[Below(choices.size())];
  }

  static CallKind PickKind(size_t first, size_t end, std::mt19937_64& random) {
    int total = 0;
    for (size_t i = first; i < end; ++i) total += kKinds[i].weight;
    int at = static_cast<int>(random() % static_cast<uint64_t>(total));
    for (size_t i = first; i < end; ++i) {
      at -= kKinds[i].weight;
      if (at < 0) return static_cast<CallKind>(i);
    }
    return CallKind::kOpen;
  }
  CallKind Kind() { return PickKind(0, kGeneration2, random_); }

  // Few names, so that they meet. Never "..": it would leave the folder.
  std::string Path() {
    static const std::string longest(255, 'l');
    static const std::string too_long(256, 't');
    const std::string directory =
        Pick<std::string>({"", "", "", "d/", "d/", "d/s/", "e/", "n/", "n/m/"});
    if (Chance(2)) return directory + (Chance(80) ? longest : too_long);
    if (Chance(2)) return directory + "\u00e9\x01 \n";
    if (Chance(1)) return directory + "a/";
    return directory +
           Pick<std::string>({"a", "a", "b", "b", "tool", "link", "x", "x", "y",
                              "z", "d", "e", "n", "m", "s", "big", "none"});
  }

  int Flags(CallKind kind) {
    switch (kind) {
      case CallKind::kOpen:
        return OpenFlags();
      case CallKind::kTemporary:
        return Pick({O_RDWR, O_WRONLY, O_RDWR | O_EXCL});
      case CallKind::kFallocate:
        return Pick({0, 0, int{FALLOC_FL_KEEP_SIZE},
                     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     int{FALLOC_FL_ZERO_RANGE},
                     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE});
      case CallKind::kSeek:
        return Pick({SEEK_SET, SEEK_CUR, SEEK_END});
      case CallKind::kSeekData:
        return Pick({SEEK_DATA, SEEK_HOLE});
      case CallKind::kStat:
      case CallKind::kChown:
      case CallKind::kUtimes:
        return Pick({0, AT_SYMLINK_NOFOLLOW});
      case CallKind::kAccess:
        return Pick({F_OK, R_OK, W_OK, X_OK});
      case CallKind::kRename:
        return Pick({0, 0, 0, 0, int{RENAME_NOREPLACE}, int{RENAME_EXCHANGE}});
      case CallKind::kSetAttribute:
        return Pick({0, 0, int{XATTR_CREATE}, int{XATTR_REPLACE}});
      case CallKind::kFlock:
        return Pick({LOCK_SH, LOCK_EX, LOCK_UN}) | LOCK_NB;
      case CallKind::kLock:
        return Pick({F_RDLCK, F_WRLCK, F_UNLCK});
      default:
        return static_cast<int>(Below(4));
    }
  }

  int OpenFlags() {
    int flags = Pick({O_RDONLY, O_RDONLY, O_RDWR, O_RDWR, O_WRONLY});
    if (Chance(30)) flags |= O_CREAT;
    if (Chance(8)) flags |= O_EXCL | O_CREAT;
    if (Chance(12)) flags |= O_TRUNC;
    if (Chance(15)) flags |= O_APPEND;
    if (Chance(8)) flags |= O_NOFOLLOW;
    if (Chance(6)) flags |= O_DIRECTORY;
    if (Chance(5)) flags |= O_SYNC;
    // O_EXCL without O_CREAT and O_CREAT with O_DIRECTORY mean nothing.
    if ((flags & O_DIRECTORY) != 0) flags &= ~(O_CREAT | O_EXCL);
    if (Chance(4)) flags = O_PATH | (Chance(50) ? O_NOFOLLOW : 0);
    return flags;
  }

  uint32_t Mode() {
    return Pick<uint32_t>({0644, 0644, 0755, 0777, 0600, 0444, 0000, 0700, 0711,
                           04755, 02755, 02745, 06777, 01777, 02770, 01755});
  }

  int64_t Offset() {
    if (Chance(3)) return -1;
    return static_cast<int64_t>(
        Chance(60) ? Below(300)
                   : (Chance(50) ? Below(70000) : Below(20) * 4096));
  }

  int64_t Length() {
    if (Chance(3)) return 0;
    return static_cast<int64_t>(Chance(60) ? Below(200) : Below(40000));
  }

  uint32_t Id() {
    return Pick<uint32_t>({0, kUserId, kUserId, kOtherUserId, UINT32_MAX});
  }

  const SequenceOptions options_;
  std::mt19937_64 random_;
  std::mt19937_64 extra_;
};

}  // namespace

std::vector<Call> MakeCalls(const SequenceOptions& options) {
  Generator generator(options);
  std::vector<Call> calls;
  calls.reserve(static_cast<size_t>(options.calls));
  for (int i = 0; i < options.calls; ++i) calls.push_back(generator.Next());
  return calls;
}

std::string ToString(const Call& call) {
  const auto brief = [](const std::string& path) {
    return path.size() > 40 ? path.substr(0, 10) + "..." : path;
  };
  std::ostringstream text;
  text << kKinds[static_cast<size_t>(call.kind)].name << " '"
       << brief(call.path) << "' '" << brief(call.other) << "' slot "
       << call.slot << "," << call.other_slot << std::hex << " flags 0x"
       << call.flags << std::oct << " mode 0" << call.mode << " umask 0"
       << call.umask << std::dec << " offset " << call.offset << " length "
       << call.length << " ids " << static_cast<int>(call.uid) << ","
       << static_cast<int>(call.gid) << " actor "
       << static_cast<int>(call.actor) << " process " << call.process << ","
       << call.thread;
  return text.str();
}

}  // namespace casement
