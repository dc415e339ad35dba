// The real disk, with a step of the scheduler before each system call, and
// calls that fail if the test wants it.
#ifndef CASEMENT_TESTS_MODEL_STEPPED_DISK_H_
#define CASEMENT_TESTS_MODEL_STEPPED_DISK_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "model/scheduler.h"
#include "store/disk.h"

namespace casement {

class SteppedDisk final : public Disk {
 public:
  // A call of this name fails with the errno that this returns, if not 0. Only
  // calls that tasks make.
  void FailIf(std::function<int(absl::string_view name)> decide) {
    decide_ = std::move(decide);
  }

  // From now on every call fails, as if the process had been killed.
  void Die() { is_dead_ = true; }
  bool is_dead() const { return is_dead_; }
  // Whether a call was made since the last time that may have allocated.
  bool HasGrown() { return has_grown_.exchange(false); }

  absl::StatusOr<UniqueFd> Open(int directory, const std::string& path,
                                int flags, mode_t mode) override {
    RETURN_IF_ERROR(Enter("Open"));
    has_grown_ = true;
    return real_.Open(directory, path, flags, mode);
  }
  absl::Status MakeDirectory(int directory, const std::string& path,
                             mode_t mode) override {
    RETURN_IF_ERROR(Enter("MakeDirectory"));
    has_grown_ = true;
    return real_.MakeDirectory(directory, path, mode);
  }
  absl::StatusOr<size_t> Read(int fd, absl::Span<char> buffer,
                              int64_t offset) override {
    RETURN_IF_ERROR(Enter("Read"));
    return real_.Read(fd, buffer, offset);
  }
  absl::StatusOr<size_t> Write(int fd,
                               absl::Span<const absl::string_view> pieces,
                               int64_t offset) override {
    RETURN_IF_ERROR(Enter("Write"));
    has_grown_ = true;
    return real_.Write(fd, pieces, offset);
  }
  absl::Status Truncate(int fd, int64_t size_bytes) override {
    RETURN_IF_ERROR(Enter("Truncate"));
    has_grown_ = true;
    return real_.Truncate(fd, size_bytes);
  }
  absl::Status ChangeMode(int fd, mode_t mode) override {
    RETURN_IF_ERROR(Enter("ChangeMode"));
    return real_.ChangeMode(fd, mode);
  }
  absl::Status Link(int fd, int directory, const std::string& path) override {
    RETURN_IF_ERROR(Enter("Link"));
    has_grown_ = true;
    return real_.Link(fd, directory, path);
  }
  absl::Status Unlink(int directory, const std::string& path) override {
    RETURN_IF_ERROR(Enter("Unlink"));
    return real_.Unlink(directory, path);
  }
  absl::Status Rename(int directory, const std::string& from,
                      const std::string& to) override {
    RETURN_IF_ERROR(Enter("Rename"));
    has_grown_ = true;
    return real_.Rename(directory, from, to);
  }
  absl::StatusOr<struct stat> Stat(int fd) override {
    RETURN_IF_ERROR(Enter("Stat"));
    return real_.Stat(fd);
  }
  absl::StatusOr<struct stat> StatPath(int directory,
                                       const std::string& path) override {
    RETURN_IF_ERROR(Enter("StatPath"));
    return real_.StatPath(directory, path);
  }
  absl::Status ReadDirectory(int directory, const std::string& path,
                             NameVisitor visit) override {
    RETURN_IF_ERROR(Enter("ReadDirectory"));
    return real_.ReadDirectory(directory, path, visit);
  }
  absl::Status Sync(int fd) override {
    RETURN_IF_ERROR(Enter("Sync"));
    return real_.Sync(fd);
  }
  absl::Status SyncFileSystem(int fd) override {
    RETURN_IF_ERROR(Enter("SyncFileSystem"));
    return real_.SyncFileSystem(fd);
  }
  absl::Status Lock(int fd, int operation) override {
    RETURN_IF_ERROR(Enter("Lock"));
    return real_.Lock(fd, operation);
  }
  absl::StatusOr<int64_t> BlockBytes(int fd) override {
    RETURN_IF_ERROR(Enter("BlockBytes"));
    return real_.BlockBytes(fd);
  }
  absl::Status SpreadDirectories(int fd) override {
    RETURN_IF_ERROR(Enter("SpreadDirectories"));
    return real_.SpreadDirectories(fd);
  }

 private:
  absl::Status Enter(const char* name) {
    if (is_dead_) return ErrnoStatus(EIO, "dead: ", name);
    if (!Scheduler::IsTask()) return absl::OkStatus();
    Scheduler::Step(name);
    const int error_number = decide_ ? decide_(name) : 0;
    if (error_number == 0) return absl::OkStatus();
    return ErrnoStatus(error_number, "made to fail: ", name);
  }

  RealDisk real_;
  std::function<int(absl::string_view)> decide_;
  // Not of use while the store is opened, which is with several threads.
  std::atomic<bool> is_dead_{false};
  std::atomic<bool> has_grown_{false};
};

}  // namespace casement

#endif  // CASEMENT_TESTS_MODEL_STEPPED_DISK_H_
