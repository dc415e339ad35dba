#include "model/posix_player.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <set>
#include <sstream>
#include <stdexcept>

namespace casement {
namespace {

constexpr int64_t kReadMax = 1 << 20;
// Times before this were set by a call; later ones are the clock's.
constexpr int64_t kClockStart = 1600000000;

std::string Failed() {
  return std::string("failed: ") + strerrorname_np(errno);
}

std::string Outcome(int64_t result) {
  return result < 0 ? Failed() : std::to_string(result);
}

uint64_t HashOf(const char* bytes, size_t size) {
  uint64_t hash = 14695981039346656037U;  // FNV-1a.
  for (size_t i = 0; i < size; ++i) {
    hash = (hash ^ static_cast<unsigned char>(bytes[i])) * 1099511628211U;
  }
  return hash;
}

std::string Described(const char* bytes, int64_t size) {
  if (size < 0) return Failed();
  std::ostringstream text;
  text << size << " bytes, hash " << std::hex
       << HashOf(bytes, static_cast<size_t>(size));
  return text.str();
}

std::string BytesFrom(uint64_t seed, int64_t length) {
  std::string bytes(static_cast<size_t>(length), 0);
  for (char& byte : bytes) {
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<char>(seed >> 56);
  }
  return bytes;
}

std::string TimeText(const timespec& time) {
  if (time.tv_sec >= kClockStart) return "clock";
  return std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

// What must be the same on every file system.
std::string ShownBut(const struct stat& status, bool times) {
  std::ostringstream text;
  text << std::oct << status.st_mode << std::dec << " links " << status.st_nlink
       << " owner " << status.st_uid << ":" << status.st_gid << " device "
       << status.st_rdev;
  if (!S_ISDIR(status.st_mode)) text << " size " << status.st_size;
  if (!times) return text.str();
  // The kernel does not let FUSE know when a FIFO is written.
  if (!S_ISFIFO(status.st_mode)) {
    text << " mtime " << TimeText(status.st_mtim);
  }
  return text.str();
}

bool IsDirectory(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

uint64_t NumberOfOpen(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

bool IsDirect(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0;
}

// What O_DIRECT wants on ext4: whole blocks, from memory that is aligned. Other
// file systems want less.
constexpr int64_t kDirectBytes = 4096;

// As much of `length` bytes at `offset` as `fd` can be asked for.
struct Piece {
  Piece(int fd, int64_t offset, int64_t length)
      : offset(offset),
        length(static_cast<size_t>(length)),
        memory(new (std::align_val_t(kDirectBytes)) char[this->length + 1]) {
    if (!IsDirect(fd)) return;
    this->offset -= offset % kDirectBytes;
    this->length -= this->length % kDirectBytes;
  }
  ~Piece() { operator delete[](memory, std::align_val_t(kDirectBytes)); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  int64_t offset;
  size_t length;
  char* const memory;
};

void Fill(char* bytes, uint64_t seed, size_t length) {
  const std::string wanted = BytesFrom(seed, static_cast<int64_t>(length));
  std::copy(wanted.begin(), wanted.end(), bytes);
}

// Whether a write there fails because of the offset, but may take away a
// set-ID bit first (casement(7)).
bool MayTakeSetId(int fd, int64_t offset) {
  struct stat status {};
  return offset >= kTooLargeBytes && fstat(fd, &status) == 0 &&
         (status.st_mode & (S_ISUID | S_ISGID)) != 0;
}

// For threads: the C library's calls change the whole process.
void SetIds(gid_t group, bool in_group, uid_t uid, gid_t gid) {
  if (syscall(SYS_setgroups, in_group ? 1 : 0, &group) != 0 ||
      syscall(SYS_setresgid, -1, gid, -1) != 0 ||
      syscall(SYS_setresuid, -1, uid, -1) != 0) {
    throw std::runtime_error("changing users");
  }
}

struct DirCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};

}  // namespace

ActingAs::ActingAs(Actor actor)
    : changed_(actor != Actor::kRunner && geteuid() == 0) {
  if (!changed_) return;
  const bool other = actor == Actor::kOtherUser;
  const uid_t id = other ? kOtherUserId : kUserId;
  SetIds(kUserId, /*in_group=*/other, id, id);
}

ActingAs::~ActingAs() {
  if (!changed_) return;
  const int saved = errno;
  if (syscall(SYS_setresuid, -1, 0, -1) != 0) abort();
  SetIds(0, /*in_group=*/false, 0, 0);
  errno = saved;
}

bool UnsyncedMaps::Has(uint64_t number) const {
  return std::any_of(numbers.begin(), numbers.end(), [number](const auto& of) {
    return std::find(of.begin(), of.end(), number) != of.end();
  });
}

// A file whose times are compared before and after a call.
struct Player::Watched {
  std::string path;
  struct stat status {};
  bool exists = false;
  bool unsynced = false;
};

Player::Player(const std::string& folder, UnsyncedMaps& unsynced,
               unsigned process)
    : folder_(folder),
      root_(open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
      unsynced_(unsynced),
      process_(process) {
  if (!root_.valid()) throw std::runtime_error("cannot open " + folder);
}

Player::~Player() {
  for (unsigned map = 0; map < kMaps; ++map) DropMap(map);
}

std::string Player::Shown(const struct stat& status) const {
  return ShownBut(status, !unsynced_.Has(status.st_ino));
}

uint64_t Player::NumberOf(const std::string& path) const {
  struct stat status {};
  return fstatat(root_.get(), path.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0
             ? status.st_ino
             : 0;
}

Player::Uses Player::ReadersOf(uint64_t number) const {
  Uses uses;
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    const int fd = slots_[slot].get();
    const int flags = fcntl(fd, F_GETFL);
    uses.slots[slot] = flags >= 0 &&
                       (flags & (O_ACCMODE | O_PATH)) == O_RDONLY &&
                       NumberOfOpen(fd) == number;
  }
  for (unsigned map = 0; map < kMaps; ++map) {
    uses.maps[map] = !maps_[map].writable && maps_[map].bytes != nullptr &&
                     NumberOfOpen(maps_[map].fd.get()) == number;
  }
  return uses;
}

void Player::Freeze(const Uses& uses) {
  for (unsigned slot = 0; slot < kSlots; ++slot) {
    if (!uses.slots[slot]) continue;
    // Locks through what is opened later do not meet those of earlier ones.
    struct flock all {};
    all.l_type = F_UNLCK;
    flock(slots_[slot].get(), LOCK_UN);
    fcntl(slots_[slot].get(), F_OFD_SETLK, &all);
    fcntl(slots_[slot].get(), F_SETLK, &all);
    frozen_[slot] = true;
  }
  for (unsigned map = 0; map < kMaps; ++map) {
    if (uses.maps[map]) DropMap(map);
  }
}

unsigned Player::Choose(unsigned slot) const {
  for (unsigned i = 0; i < kSlots; ++i) {
    const unsigned next = (slot + i) % kSlots;
    if (slots_[next].valid() && !frozen_[next]) return next;
  }
  return slot;
}

std::vector<Player::Watched> Player::Watch(const Call& call) const {
  const auto parent = [](const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
  };
  std::vector<Watched> watched = {{.path = call.path},
                                  {.path = call.other},
                                  {.path = parent(call.path)},
                                  {.path = parent(call.other)}};
  for (Watched& file : watched) {
    file.exists = fstatat(root_.get(), file.path.c_str(), &file.status,
                          AT_SYMLINK_NOFOLLOW) == 0;
  }
  Watched open = {.path = "open"};
  open.exists = fstat(Fd(call.slot), &open.status) == 0;
  watched.push_back(open);
  for (Watched& file : watched) {
    file.unsynced = file.exists && unsynced_.Has(file.status.st_ino);
  }
  return watched;
}

std::string Player::Play(const Call& call) {
  const std::vector<Watched> before = Watch(call);
  std::string text;
  {
    const mode_t umask_before = umask(call.umask);
    const ActingAs acting(call.actor);
    text = Result(call);
    umask(umask_before);
  }
  const std::vector<Watched> after = Watch(call);
  const auto later = [](const timespec& one, const timespec& other) {
    return one.tv_sec != other.tv_sec || one.tv_nsec != other.tv_nsec;
  };
  for (size_t i = 0; i < after.size(); ++i) {
    text += "; ";
    if (!after[i].exists) {
      text += "-";
      continue;
    }
    text += Shown(after[i].status);
    // Another file is open there now; ext4 uses numbers again.
    const bool opens =
        call.kind == CallKind::kOpen || call.kind == CallKind::kTemporary;
    if (opens && i + 1 == after.size()) continue;
    if (S_ISFIFO(after[i].status.st_mode)) continue;
    if (before[i].unsynced || after[i].unsynced) continue;
    if (!before[i].exists ||
        before[i].status.st_ino != after[i].status.st_ino) {
      continue;
    }
    const struct stat& was = before[i].status;
    const struct stat& is = after[i].status;
    if (later(was.st_mtim, is.st_mtim)) text += " mtime-set";
    if (later(was.st_ctim, is.st_ctim)) text += " ctime-set";
  }
  return text;
}

std::string Player::Result(const Call& call) {
  std::string text = Data(call);
  if (text.empty()) text = Names(call);
  if (text.empty()) text = Metadata(call);
  return text;
}

// Calls on what is in files.
std::string Player::Data(const Call& call) {
  const int fd = Fd(call.slot);
  const Piece piece(fd, call.offset, call.length);
  switch (call.kind) {
    case CallKind::kOpen:
    case CallKind::kTemporary:
      return Open(call);
    case CallKind::kClose:
      CloseSlot(Choose(call.slot));
      return "closed";
    case CallKind::kRead:
      if (IsDirect(fd)) return "nothing aligned";
      return Described(piece.memory, read(fd, piece.memory, piece.length));
    case CallKind::kPread:
      return Described(piece.memory,
                       pread(fd, piece.memory, piece.length, piece.offset));
    case CallKind::kWrite:
      if (IsDirect(fd)) return "nothing aligned";
      Fill(piece.memory, call.seed, piece.length);
      return Outcome(write(fd, piece.memory, piece.length));
    case CallKind::kPwrite:
      // It appends then, at any offset.
      if (IsDirect(fd) && (fcntl(fd, F_GETFL) & O_APPEND) != 0) return "-";
      if (MayTakeSetId(fd, call.offset)) return "set-ID";
      Fill(piece.memory, call.seed, piece.length);
      return Outcome(pwrite(fd, piece.memory, piece.length, piece.offset));
    case CallKind::kTruncate:
      return Outcome(
          truncate((folder_ + "/" + call.path).c_str(), call.offset));
    case CallKind::kFtruncate:
      return Outcome(ftruncate(fd, call.offset));
    case CallKind::kFallocate:
      return Outcome(fallocate(fd, call.flags, call.offset, call.length));
    case CallKind::kSeek:
      // Where a listing ends is the file system's own business.
      if (IsDirectory(fd)) return "seeking in a directory";
      return Outcome(lseek(fd, call.offset, call.flags));
    case CallKind::kSeekData:
      return SeekData(call);
    case CallKind::kMapShared:
      return Map(call, /*shared=*/true);
    case CallKind::kMapPrivate:
      return Map(call, /*shared=*/false);
    case CallKind::kCopyRange:
    case CallKind::kSendfile:
      return Copy(call);
    case CallKind::kSync:
      return Outcome((call.flags & 1) != 0 ? fsync(fd) : fdatasync(fd));
    case CallKind::kReadVector:
    case CallKind::kWriteVector:
      return Vector(call);
    case CallKind::kSplice:
      return Splice(call);
    case CallKind::kHoldMap:
    case CallKind::kWriteMap:
    case CallKind::kReadMap:
    case CallKind::kSyncMap:
    case CallKind::kDropMap:
      return HeldMap(call);
    default:
      return "";
  }
}

// In three pieces, one of them empty; at an offset or where the file stands.
std::string Player::Vector(const Call& call) {
  const int fd = Fd(call.slot);
  if (IsDirect(fd)) return "nothing aligned";
  if (MayTakeSetId(fd, call.offset)) return "set-ID";
  const auto length = static_cast<size_t>(call.length);
  std::string bytes = BytesFrom(call.seed, call.length);
  const size_t first = length / 3;
  const iovec pieces[] = {{bytes.data(), first},
                          {bytes.data(), 0},
                          {bytes.data() + first, length - first}};
  const int64_t offset = (call.flags & 1) != 0 ? call.offset : -1;
  if (call.kind == CallKind::kReadVector) {
    const ssize_t got = preadv2(fd, pieces, 3, offset, 0);
    return Described(bytes.data(), got);
  }
  const int flags = (call.flags & 2) != 0   ? RWF_APPEND
                    : (call.flags & 4) != 0 ? RWF_DSYNC
                                            : 0;
  return Outcome(pwritev2(fd, pieces, 3, offset, flags));
}

std::string Player::Splice(const Call& call) {
  const int fd = Fd(call.slot);
  if (IsDirect(fd)) return "nothing aligned";
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return Failed();
  const UniqueFd out(ends[0]);
  const UniqueFd in(ends[1]);
  std::string bytes = BytesFrom(call.seed, call.length);
  loff_t offset = call.offset;
  if ((call.flags & 1) != 0) {
    const ssize_t wrote = write(in.get(), bytes.data(), bytes.size());
    if (wrote <= 0) return "nothing to splice";
    return Outcome(
        splice(out.get(), nullptr, fd, &offset, static_cast<size_t>(wrote), 0));
  }
  // How much comes at once is the file system's business.
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t moved =
        splice(fd, &offset, in.get(), nullptr, bytes.size() - done, 0);
    if (moved < 0) return Failed();
    const ssize_t got =
        read(out.get(), bytes.data() + done, bytes.size() - done);
    if (got != moved) return "lost in the pipe";
    if (moved == 0) break;
    done += static_cast<size_t>(moved);
  }
  return Described(bytes.data(), static_cast<int64_t>(done));
}

void Player::DropMap(unsigned map) {
  Held& held = maps_[map];
  if (held.bytes != nullptr) munmap(held.bytes, held.size);
  held = {};
  unsynced_.numbers[process_][map] = 0;
}

std::string Player::HoldMap(const Call& call, Held& held) {
  const int fd = Fd(call.slot);
  struct stat status {};
  if (fstat(fd, &status) != 0) return Failed();
  const auto size = std::min(static_cast<size_t>(status.st_size),
                             static_cast<size_t>(kReadMax));
  if (!S_ISREG(status.st_mode) || size == 0) return "nothing to map";
  const bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
  void* const mapped =
      mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ,
           MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return Failed();
  held.bytes = static_cast<char*>(mapped);
  held.size = size;
  held.writable = writable;
  held.fd.Reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return "mapped " + std::to_string(size);
}

// Nothing beyond the file's end is touched: that is SIGBUS.
std::string Player::HeldMap(const Call& call) {
  const unsigned map = call.other_slot % kMaps;
  Held& held = maps_[map];
  if (call.kind == CallKind::kHoldMap) {
    DropMap(map);
    return HoldMap(call, held);
  }
  struct stat status {};
  if (held.bytes == nullptr || fstat(held.fd.get(), &status) != 0) {
    return "no mapping";
  }
  const size_t size = std::min(held.size, static_cast<size_t>(status.st_size));
  if (call.kind == CallKind::kReadMap) {
    return Described(held.bytes, static_cast<int64_t>(size));
  }
  if (call.kind == CallKind::kSyncMap) {
    const int synced = msync(held.bytes, held.size, MS_SYNC);
    unsynced_.numbers[process_][map] = 0;
    return Outcome(synced);
  }
  if (call.kind == CallKind::kDropMap) {
    DropMap(map);
    return "dropped";
  }
  if (!held.writable || size == 0 || call.offset < 0) return "not writable";
  const size_t from = static_cast<size_t>(call.offset) % size;
  unsynced_.numbers[process_][map] = status.st_ino;
  Fill(held.bytes + from, call.seed,
       std::min(static_cast<size_t>(call.length), size - from));
  return "wrote";
}

std::string Player::SetFlags(const Call& call) {
  const int fd = Fd(call.slot);
  const int before = fcntl(fd, F_GETFL);
  if (before < 0) return Failed();
  return Outcome(fcntl(fd, F_SETFL, before ^ O_APPEND));
}

std::string Player::Open(const Call& call) {
  // As the call would do, were all descriptors in use.
  CloseSlot(call.slot);
  const bool temporary = call.kind == CallKind::kTemporary;
  const size_t slash = call.path.rfind('/');
  const std::string parent =
      slash == std::string::npos ? "." : call.path.substr(0, slash);
  const int fd = temporary
                     ? openat(root_.get(), parent.c_str(),
                              O_TMPFILE | O_CLOEXEC | call.flags, call.mode)
                     : openat(root_.get(), call.path.c_str(),
                              O_CLOEXEC | O_NONBLOCK | call.flags, call.mode);
  if (fd < 0) return Failed();
  slots_[call.slot].Reset(fd);
  struct stat status {};
  if (fstat(fd, &status) != 0) return "stat of what was opened: " + Failed();
  return "opened " + Shown(status);
}

std::string Player::Map(const Call& call, bool shared) {
  const int fd = Fd(call.slot);
  struct stat status {};
  if (fstat(fd, &status) != 0) return Failed();
  const auto size = static_cast<size_t>(status.st_size);
  if (!S_ISREG(status.st_mode) || size == 0) return "nothing to map";
  const bool writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
  const int protection =
      writable || !shared ? PROT_READ | PROT_WRITE : PROT_READ;
  void* const mapped =
      mmap(nullptr, size, protection, shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
  if (mapped == MAP_FAILED) return Failed();
  char* const bytes = static_cast<char*>(mapped);
  const std::string before = Described(bytes, status.st_size);
  if ((protection & PROT_WRITE) != 0 && call.offset >= 0) {
    const size_t from = static_cast<size_t>(call.offset) % size;
    const std::string wanted = BytesFrom(
        call.seed,
        std::min<int64_t>(call.length,
                          status.st_size - static_cast<int64_t>(from)));
    std::copy(wanted.begin(), wanted.end(), bytes + from);
  }
  const int synced = (call.flags & 1) != 0 ? msync(mapped, size, MS_SYNC) : 0;
  munmap(mapped, size);
  return before + Outcome(synced);
}

// Which parts of a file are holes is the file system's business; that a hole
// reads as zeros is not.
std::string Player::SeekData(const Call& call) {
  const int fd = Fd(call.slot);
  struct stat status {};
  if (fstat(fd, &status) != 0) return Failed();
  if (!S_ISREG(status.st_mode)) return "no file";
  // The kernel does not say what is in pages that were not written back.
  if (unsynced_.Has(status.st_ino)) return "mapped";
  const off_t keep = lseek(fd, 0, SEEK_CUR);
  const off_t found = lseek(fd, call.offset, call.flags);
  const int error = errno;
  lseek(fd, keep, SEEK_SET);
  errno = error;
  const bool inside = call.offset >= 0 && call.offset < status.st_size;
  if (!inside) return Outcome(found);
  const off_t until = found < 0 ? status.st_size : found;
  if (until < call.offset || until > status.st_size) return "out of range";
  if (call.flags == SEEK_HOLE) return found < 0 ? Failed() : "hole";
  std::string bytes(static_cast<size_t>(until - call.offset), 0);
  const ssize_t got = pread(fd, bytes.data(), bytes.size(), call.offset);
  if (got < 0) return "data";  // Not open for reading.
  const bool zeros = std::all_of(bytes.begin(), bytes.end(),
                                 [](char byte) { return byte == 0; });
  return zeros ? "data" : "data in a hole";
}

std::string Player::Copy(const Call& call) {
  const int from = Fd(call.slot);
  const int to = Fd(call.other_slot);
  if (IsDirect(from) || IsDirect(to)) return "nothing aligned";
  const auto length = static_cast<size_t>(call.length);
  if (call.kind == CallKind::kSendfile) {
    off_t offset = call.offset;
    return Outcome(sendfile(to, from, &offset, length));
  }
  loff_t in = call.offset;
  loff_t out = static_cast<loff_t>(call.seed % 5000);
  return Outcome(copy_file_range(from, &in, to, &out, length, 0));
}

// Calls on what files are called.
std::string Player::Names(const Call& call) {
  const int root = root_.get();
  const char* const path = call.path.c_str();
  const char* const other = call.other.c_str();
  char buffer[4096];
  switch (call.kind) {
    case CallKind::kReadlink:
      return Described(buffer, readlinkat(root, path, buffer, sizeof(buffer)));
    case CallKind::kMkdir:
      return Outcome(mkdirat(root, path, call.mode));
    case CallKind::kMknod: {
      const bool odd = (call.flags & 1) != 0;
      const uint32_t type = (call.flags & 4) != 0 ? (odd ? S_IFCHR : S_IFBLK)
                                                  : (odd ? S_IFIFO : S_IFREG);
      return Outcome(mknodat(root, path, type | (call.mode & 07777),
                             makedev(call.seed % 4, 3)));
    }
    case CallKind::kSocket:
      return BindSocket(call);
    case CallKind::kUnlink:
      return Outcome(unlinkat(root, path, 0));
    case CallKind::kRmdir:
      return Outcome(unlinkat(root, path, AT_REMOVEDIR));
    case CallKind::kRename:
      // ext4 touches the directory even if such a rename then fails.
      if (call.flags == RENAME_WHITEOUT && NumberOf(call.other) != 0) {
        return "in the way";
      }
      return Outcome(renameat2(root, path, root, other,
                               static_cast<unsigned>(call.flags)));
    case CallKind::kLink:
      return Outcome(linkat(root, path, root, other,
                            (call.flags & 1) != 0 ? AT_SYMLINK_FOLLOW : 0));
    case CallKind::kLinkOpen:
      return Outcome(linkat(Fd(call.slot), "", root, other, AT_EMPTY_PATH));
    case CallKind::kSymlink:
      // `other` never leaves the folder, wherever it is read.
      return Outcome(symlinkat(other, root, path));
    case CallKind::kList:
      return List(call);
    case CallKind::kListChanging:
      return ListChanging(call);
    default:
      return "";
  }
}

std::string Player::BindSocket(const Call& call) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // The folder's own path is too long for sun_path.
  const std::string path =
      "/proc/self/fd/" + std::to_string(root_.get()) + "/" + call.path;
  if (path.size() >= sizeof(address.sun_path)) return "no room";
  std::copy(path.begin(), path.end(), address.sun_path);
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  if (bind(fd.get(), name, sizeof(address)) != 0) return Failed();
  if (listen(fd.get(), 1) != 0) return "listen " + Failed();
  const UniqueFd peer(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return Outcome(connect(peer.get(), name, sizeof(address)));
}

std::string Player::List(const Call& call) {
  const UniqueFd fd(
      openat(root_.get(), call.path.c_str(), O_RDONLY | O_DIRECTORY));
  if (!fd.valid()) return Failed();
  const std::unique_ptr<DIR, DirCloser> directory(
      fdopendir(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)));
  if (directory == nullptr) return Failed();
  std::set<std::string> names;
  while (const dirent* const entry = readdir(directory.get())) {
    std::string line = entry->d_name;
    line += " type " + std::to_string(entry->d_type);
    struct stat status {};
    // ".." of the top is not ours.
    if (line.compare(0, 2, "..") != 0 &&
        fstatat(fd.get(), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
      line += status.st_ino == entry->d_ino ? " number" : " OTHER NUMBER";
    }
    if (!names.insert(line).second) line += " TWICE";
    names.insert(line);
  }
  std::string text;
  for (const std::string& name : names) text += name + ",";
  return text;
}

// Names that stay are listed exactly once, whatever comes and goes meanwhile.
std::string Player::ListChanging(const Call& call) {
  const std::unique_ptr<DIR, DirCloser> directory(fdopendir(openat(
      root_.get(), call.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  if (directory == nullptr) return Failed();
  const int fd = dirfd(directory.get());
  for (int i = 0; i < 8; ++i) {
    mkdirat(fd, ("stay-" + std::to_string(i)).c_str(), 0777);
  }
  std::multiset<std::string> seen;
  int count = 0;
  long middle = 0;  // NOLINT: telldir(3)
  rewinddir(directory.get());
  while (const dirent* const entry = readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name.compare(0, 5, "stay-") == 0) seen.insert(name);
    if (++count == 3) middle = telldir(directory.get());
    mkdirat(fd, ("go-" + std::to_string(count % 4)).c_str(), 0777);
    unlinkat(fd, ("go-" + std::to_string((count + 1) % 4)).c_str(),
             AT_REMOVEDIR);
  }
  std::string text;
  for (const std::string& name : seen) text += name + ",";
  seekdir(directory.get(), middle);
  int after = 0;
  while (readdir(directory.get()) != nullptr) ++after;
  text += after > 0 ? " more" : " none";
  for (int i = 0; i < 8; ++i) {
    unlinkat(fd, ("stay-" + std::to_string(i)).c_str(), AT_REMOVEDIR);
    unlinkat(fd, ("go-" + std::to_string(i)).c_str(), AT_REMOVEDIR);
  }
  return text;
}

// Calls on what is known about files.
std::string Player::Metadata(const Call& call) {
  const int root = root_.get();
  const int fd = Fd(call.slot);
  const char* const path = call.path.c_str();
  struct stat status {};
  const auto seconds = static_cast<time_t>(call.seed % 1000000000);
  const auto nanoseconds = static_cast<long>(call.seed % 999999999);  // NOLINT
  timespec times[2] = {{seconds, nanoseconds}, {seconds + 1, nanoseconds}};
  if (call.seed % 5 == 0) times[0].tv_nsec = UTIME_NOW;
  if (call.seed % 5 == 1) times[1].tv_nsec = UTIME_OMIT;
  if (call.seed % 5 == 2) times[0].tv_nsec = times[1].tv_nsec = UTIME_NOW;
  switch (call.kind) {
    case CallKind::kStat:
      return fstatat(root, path, &status, call.flags) == 0 ? Shown(status)
                                                           : Failed();
    case CallKind::kFstat:
      return fstat(fd, &status) == 0 ? Shown(status) : Failed();
    case CallKind::kAccess:
      return Outcome(faccessat(root, path, call.flags, AT_EACCESS));
    case CallKind::kChmod:
      return Outcome(fchmodat(root, path, call.mode, 0));
    case CallKind::kFchmod:
      return Outcome(fchmod(fd, call.mode));
    case CallKind::kChown:
      return Outcome(fchownat(root, path, call.uid, call.gid, call.flags));
    case CallKind::kFchown:
      return Outcome(fchown(fd, call.uid, call.gid));
    case CallKind::kUtimes:
      // They would move again when the mapping is written back.
      if (fstatat(root, path, &status, call.flags) == 0 &&
          unsynced_.Has(status.st_ino)) {
        return "mapped";
      }
      return Outcome(utimensat(root, path, times, call.flags));
    case CallKind::kFutimes:
      if (unsynced_.Has(NumberOfOpen(fd))) return "mapped";
      return Outcome(futimens(fd, times));
    case CallKind::kSetAttribute:
    case CallKind::kGetAttribute:
    case CallKind::kListAttributes:
    case CallKind::kRemoveAttribute:
      return Attributes(call);
    case CallKind::kFlock:
    case CallKind::kLock:
    case CallKind::kProcessLock:
      return Lock(call);
    case CallKind::kSetFlags:
      return SetFlags(call);
    default:
      return "unknown call";
  }
}

std::string Player::Attributes(const Call& call) {
  static const char* const kNames[] = {"user.a", "user.b", "user.c",
                                       "user.",  "user.d", "nothing.x"};
  const char* const name = kNames[call.seed % 6];
  const std::string path = folder_ + "/" + call.path;
  const std::string value = BytesFrom(call.seed, call.length % 200);
  char buffer[4096];
  switch (call.kind) {
    case CallKind::kSetAttribute:
      return Outcome(
          setxattr(path.c_str(), name, value.data(), value.size(), call.flags));
    case CallKind::kGetAttribute:
      return Described(buffer, getxattr(path.c_str(), name, buffer,
                                        (call.seed % 7 == 0) ? 10 : 4096));
    case CallKind::kListAttributes: {
      const ssize_t size = listxattr(path.c_str(), buffer, sizeof(buffer));
      if (size < 0) return Failed();
      std::set<std::string> names;
      for (ssize_t at = 0; at < size;) {
        names.insert(buffer + at);
        at += static_cast<ssize_t>(strlen(buffer + at)) + 1;
      }
      std::string text = std::to_string(size);
      for (const std::string& listed : names) text += " " + listed;
      return text;
    }
    default:
      return Outcome(removexattr(path.c_str(), name));
  }
}

std::string Player::Lock(const Call& call) {
  const int fd = Fd(call.slot);
  if (call.kind == CallKind::kFlock) return Outcome(flock(fd, call.flags));
  struct flock lock {};
  constexpr int kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
  const bool of_process = call.kind == CallKind::kProcessLock;
  const int type = of_process ? kTypes[call.flags % 3] : call.flags;
  lock.l_type = static_cast<short>(type);  // NOLINT
  lock.l_whence = SEEK_SET;
  lock.l_start = call.offset;
  lock.l_len = call.length;
  // Those of open file descriptions can be in our own way.
  return Outcome(fcntl(fd, of_process ? F_SETLK : F_OFD_SETLK, &lock));
}

namespace {

std::string ContentOf(int directory, const char* name,
                      const struct stat& status) {
  std::string bytes(kReadMax, 0);
  if (S_ISLNK(status.st_mode)) {
    const ssize_t size =
        readlinkat(directory, name, bytes.data(), bytes.size());
    return " -> " +
           bytes.substr(0, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  }
  if (!S_ISREG(status.st_mode)) return "";
  const UniqueFd fd(openat(directory, name, O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return " " + Failed();
  std::string text =
      " " + Described(bytes.data(), read(fd.get(), bytes.data(), bytes.size()));
  char value[4096];
  for (const char* const attribute : {"user.a", "user.b", "user.c"}) {
    const ssize_t size = fgetxattr(fd.get(), attribute, value, sizeof(value));
    if (size >= 0) {
      text += std::string(" ") + attribute + " " + Described(value, size);
    }
  }
  return text;
}

void SnapshotBelow(int directory, const std::string& prefix,
                   std::map<uint64_t, std::string>& first_paths,
                   std::map<std::string, std::string>& lines) {
  const std::unique_ptr<DIR, DirCloser> listing(
      fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  if (listing == nullptr) {
    lines[prefix + "?"] = Failed();
    return;
  }
  std::set<std::string> names;
  while (const dirent* const entry = readdir(listing.get())) {
    names.insert(entry->d_name);
  }
  for (const std::string& name : names) {
    if (name == "." || name == "..") continue;
    struct stat status {};
    const std::string path = prefix + name;
    if (fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      lines[path] = Failed();
      continue;
    }
    lines[path] = ShownBut(status, /*times=*/true) +
                  ContentOf(directory, name.c_str(), status);
    if (S_ISDIR(status.st_mode)) {
      const UniqueFd below(
          openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (below.valid()) {
        SnapshotBelow(below.get(), path + "/", first_paths, lines);
      }
    } else {
      const auto first = first_paths.emplace(status.st_ino, path).first;
      lines[path] += " as " + first->second;
    }
  }
}

}  // namespace

std::map<std::string, std::string> SnapshotOf(const std::string& folder) {
  std::map<std::string, std::string> lines;
  std::map<uint64_t, std::string> first_paths;
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    lines["."] = Failed();
    return lines;
  }
  lines["."] = ShownBut(status, /*times=*/true);
  SnapshotBelow(fd.get(), "", first_paths, lines);
  return lines;
}

}  // namespace casement
