#include "store/disk.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace casement {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// The result of a call that a signal may interrupt.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

template <typename... Parts>
absl::Status StatusOf(int result, const Parts&... what) {
  if (result >= 0) [[likely]]
    return absl::OkStatus();
  return ErrnoStatus(errno, what...);
}

}  // namespace

absl::Status WriteAll(Disk& disk, int fd, absl::string_view bytes,
                      int64_t offset) {
  while (!bytes.empty()) {
    ASSIGN_OR_RETURN(const size_t count, disk.Write(fd, bytes, offset));
    offset += static_cast<int64_t>(count);
    bytes.remove_prefix(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> RealDisk::Open(int directory, const std::string& path,
                                        int flags, mode_t mode) {
  UniqueFd fd(Retry([&] {
    return openat(directory, path.c_str(), flags | O_CLOEXEC, mode);
  }));
  if (!fd.valid()) return ErrnoStatus(errno, "opening ", path);
  return fd;
}

absl::Status RealDisk::MakeDirectory(int directory, const std::string& path,
                                     mode_t mode) {
  return StatusOf(mkdirat(directory, path.c_str(), mode),
                  "making the directory ", path);
}

absl::StatusOr<size_t> RealDisk::Read(int fd, absl::Span<char> buffer,
                                      int64_t offset) {
  const ssize_t count =
      Retry([&] { return pread(fd, buffer.data(), buffer.size(), offset); });
  if (count < 0) return ErrnoStatus(errno, "reading");
  return static_cast<size_t>(count);
}

absl::StatusOr<size_t> RealDisk::Write(
    int fd, absl::Span<const absl::string_view> pieces, int64_t offset) {
  std::vector<iovec> vectors;
  for (const absl::string_view piece : pieces.subspan(0, IOV_MAX)) {
    vectors.push_back({const_cast<char*>(piece.data()), piece.size()});
  }
  const ssize_t count = Retry([&] {
    return pwritev(fd, vectors.data(), static_cast<int>(vectors.size()),
                   offset);
  });
  if (count < 0) return ErrnoStatus(errno, "writing");
  return static_cast<size_t>(count);
}

absl::Status RealDisk::Truncate(int fd, int64_t size_bytes) {
  return StatusOf(Retry([&] { return ftruncate(fd, size_bytes); }),
                  "truncating");
}

absl::Status RealDisk::ChangeMode(int fd, mode_t mode) {
  return StatusOf(fchmod(fd, mode), "changing the mode");
}

absl::Status RealDisk::Link(int fd, int directory, const std::string& path) {
  // AT_EMPTY_PATH would want CAP_DAC_READ_SEARCH (linkat(2)).
  const std::string self = absl::StrCat("/proc/self/fd/", fd);
  return StatusOf(linkat(AT_FDCWD, self.c_str(), directory, path.c_str(),
                         AT_SYMLINK_FOLLOW),
                  "linking ", path);
}

absl::Status RealDisk::Unlink(int directory, const std::string& path) {
  return StatusOf(unlinkat(directory, path.c_str(), 0), "unlinking ", path);
}

absl::Status RealDisk::Rename(int directory, const std::string& from,
                              const std::string& to) {
  return StatusOf(renameat(directory, from.c_str(), directory, to.c_str()),
                  "renaming ", from, " to ", to);
}

absl::StatusOr<struct stat> RealDisk::Stat(int fd) {
  struct stat attributes;
  if (fstat(fd, &attributes) != 0) return ErrnoStatus(errno, "fstat");
  return attributes;
}

absl::StatusOr<struct stat> RealDisk::StatPath(int directory,
                                               const std::string& path) {
  struct stat attributes;
  if (fstatat(directory, path.c_str(), &attributes, AT_SYMLINK_NOFOLLOW) != 0) {
    return ErrnoStatus(errno, "stat of ", path);
  }
  return attributes;
}

absl::Status RealDisk::ReadDirectory(int directory, const std::string& path,
                                     NameVisitor visit) {
  UniqueFd fd(Retry([&] {
    return openat(directory, path.c_str(),
                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }));
  if (!fd.valid()) return ErrnoStatus(errno, "listing ", path);
  std::unique_ptr<DIR, CloseDirectory> stream(fdopendir(fd.get()));
  if (stream == nullptr) return ErrnoStatus(errno, "listing ", path);
  fd.Release();
  for (;;) {
    errno = 0;
    const dirent* entry = readdir(stream.get());
    if (entry == nullptr) break;
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") visit(name, entry->d_type);
  }
  if (errno != 0) return ErrnoStatus(errno, "listing ", path);
  return absl::OkStatus();
}

absl::Status RealDisk::Sync(int fd) { return StatusOf(fsync(fd), "fsync"); }

absl::Status RealDisk::SyncFileSystem(int fd) {
  return StatusOf(syncfs(fd), "syncfs");
}

absl::Status RealDisk::Lock(int fd, int operation) {
  return StatusOf(Retry([&] { return flock(fd, operation); }), "flock");
}

absl::StatusOr<int64_t> RealDisk::BlockBytes(int fd) {
  struct statfs attributes;
  if (fstatfs(fd, &attributes) != 0) return ErrnoStatus(errno, "fstatfs");
  return static_cast<int64_t>(attributes.f_bsize);
}

absl::Status RealDisk::SpreadDirectories(int fd) {
  int flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0) {
    return ErrnoStatus(errno, "reading the flags of a directory");
  }
  if ((flags & FS_TOPDIR_FL) != 0) return absl::OkStatus();
  flags |= FS_TOPDIR_FL;
  return StatusOf(ioctl(fd, FS_IOC_SETFLAGS, &flags),
                  "setting the flags of a directory");
}

}  // namespace casement
