// The system calls of the store, as something that a test can make fail.
//
// Every touch of the disk by this layer goes through here, one function a
// system call (ReadDirectory is one of many getdents64 calls), and nothing here
// decides anything. Errors carry their errno (base/status.h). Thread safe.
#ifndef CASEMENT_STORE_DISK_H_
#define CASEMENT_STORE_DISK_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace casement {

class Disk {
 public:
  // A name and its type as in <dirent.h>: DT_REG, DT_UNKNOWN...
  using NameVisitor =
      absl::FunctionRef<void(absl::string_view name, unsigned char type)>;

  virtual ~Disk() = default;

  // openat(2), close-on-exec always. `mode` is for O_CREAT and O_TMPFILE.
  virtual absl::StatusOr<UniqueFd> Open(int directory, const std::string& path,
                                        int flags, mode_t mode) = 0;
  virtual absl::Status MakeDirectory(int directory, const std::string& path,
                                     mode_t mode) = 0;
  // pread(2) and pwritev(2): how many bytes, which may be fewer than asked for.
  virtual absl::StatusOr<size_t> Read(int fd, absl::Span<char> buffer,
                                      int64_t offset) = 0;
  virtual absl::StatusOr<size_t> Write(
      int fd, absl::Span<const absl::string_view> pieces, int64_t offset) = 0;
  absl::StatusOr<size_t> Write(int fd, absl::string_view bytes,
                               int64_t offset) {
    return Write(fd, {&bytes, 1}, offset);
  }
  virtual absl::Status Truncate(int fd, int64_t size_bytes) = 0;
  virtual absl::Status ChangeMode(int fd, mode_t mode) = 0;
  // linkat(2): gives the file that is open as `fd` a name.
  virtual absl::Status Link(int fd, int directory, const std::string& path) = 0;
  virtual absl::Status Unlink(int directory, const std::string& path) = 0;
  virtual absl::Status Rename(int directory, const std::string& from,
                              const std::string& to) = 0;
  virtual absl::StatusOr<struct stat> Stat(int fd) = 0;
  // fstatat(2), which does not follow a symlink.
  virtual absl::StatusOr<struct stat> StatPath(int directory,
                                               const std::string& path) = 0;
  // Every name but "." and "..".
  virtual absl::Status ReadDirectory(int directory, const std::string& path,
                                     NameVisitor visit) = 0;
  virtual absl::Status Sync(int fd) = 0;            // fsync(2)
  virtual absl::Status SyncFileSystem(int fd) = 0;  // syncfs(2)
  // flock(2). `operation` as there.
  virtual absl::Status Lock(int fd, int operation) = 0;
  // fstatfs(2): the unit in which the file system allocates.
  virtual absl::StatusOr<int64_t> BlockBytes(int fd) = 0;
  // FS_IOC_SETFLAGS with FS_TOPDIR_FL: ext4 puts what is made in a directory of
  // this one far from what is made in another. ENOTTY where that has no
  // meaning.
  virtual absl::Status SpreadDirectories(int fd) = 0;
};

// Write() until all is written, from `offset` on.
absl::Status WriteAll(Disk& disk, int fd, absl::string_view bytes,
                      int64_t offset);

// The real thing.
class RealDisk : public Disk {
 public:
  absl::StatusOr<UniqueFd> Open(int directory, const std::string& path,
                                int flags, mode_t mode) override;
  absl::Status MakeDirectory(int directory, const std::string& path,
                             mode_t mode) override;
  absl::StatusOr<size_t> Read(int fd, absl::Span<char> buffer,
                              int64_t offset) override;
  absl::StatusOr<size_t> Write(int fd,
                               absl::Span<const absl::string_view> pieces,
                               int64_t offset) override;
  absl::Status Truncate(int fd, int64_t size_bytes) override;
  absl::Status ChangeMode(int fd, mode_t mode) override;
  absl::Status Link(int fd, int directory, const std::string& path) override;
  absl::Status Unlink(int directory, const std::string& path) override;
  absl::Status Rename(int directory, const std::string& from,
                      const std::string& to) override;
  absl::StatusOr<struct stat> Stat(int fd) override;
  absl::StatusOr<struct stat> StatPath(int directory,
                                       const std::string& path) override;
  absl::Status ReadDirectory(int directory, const std::string& path,
                             NameVisitor visit) override;
  absl::Status Sync(int fd) override;
  absl::Status SyncFileSystem(int fd) override;
  absl::Status Lock(int fd, int operation) override;
  absl::StatusOr<int64_t> BlockBytes(int fd) override;
  absl::Status SpreadDirectories(int fd) override;
};

}  // namespace casement

#endif  // CASEMENT_STORE_DISK_H_
