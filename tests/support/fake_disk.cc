#include "support/fake_disk.h"

#include <cerrno>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "base/status.h"

namespace casement {

void FakeDisk::Set(Mode mode, int nth, int error_number) {
  MutexLock lock(mu_);
  mode_ = mode;
  nth_ = nth;
  errno_ = error_number;
  decide_ = nullptr;
  calls_.store(0);
}

void FakeDisk::FailNthCall(int nth, int error_number) {
  Set(Mode::kFailOne, nth, error_number);
}
void FakeDisk::DieAtNthCall(int nth) { Set(Mode::kDie, nth, EIO); }
void FakeDisk::ShortenNthCall(int nth) { Set(Mode::kShorten, nth, 0); }
void FakeDisk::Heal() { Set(Mode::kHealthy, 0, 0); }

void FakeDisk::FailIf(std::function<int(absl::string_view)> decide) {
  Set(Mode::kHealthy, 0, 0);
  MutexLock lock(mu_);
  decide_ = std::move(decide);
}

void FakeDisk::BeforeEach(std::function<void(absl::string_view)> hook) {
  MutexLock lock(mu_);
  hook_ = std::move(hook);
}

absl::Status FakeDisk::Enter(absl::string_view name, bool& is_short) {
  std::function<void(absl::string_view)> hook;
  {
    MutexLock lock(mu_);
    hook = hook_;
  }
  if (hook) hook(name);
  MutexLock lock(mu_);
  const int call = calls_.fetch_add(1) + 1;
  int error_number = decide_ ? decide_(name) : 0;
  if (mode_ == Mode::kFailOne && call == nth_) error_number = errno_;
  if (mode_ == Mode::kDie && call >= nth_) error_number = errno_;
  is_short = mode_ == Mode::kShorten && call == nth_;
  if (error_number == 0) return absl::OkStatus();
  return ErrnoStatus(error_number, "made to fail: ", name);
}

absl::Status FakeDisk::Enter(absl::string_view name) {
  bool is_short = false;
  return Enter(name, is_short);
}

absl::StatusOr<UniqueFd> FakeDisk::Open(int directory, const std::string& path,
                                        int flags, mode_t mode) {
  RETURN_IF_ERROR(Enter("Open"));
  return real_.Open(directory, path, flags, mode);
}

absl::Status FakeDisk::MakeDirectory(int directory, const std::string& path,
                                     mode_t mode) {
  RETURN_IF_ERROR(Enter("MakeDirectory"));
  return real_.MakeDirectory(directory, path, mode);
}

absl::StatusOr<size_t> FakeDisk::Read(int fd, absl::Span<char> buffer,
                                      int64_t offset) {
  bool is_short = false;
  RETURN_IF_ERROR(Enter("Read", is_short));
  return real_.Read(fd, is_short ? buffer.subspan(0, 1) : buffer, offset);
}

absl::StatusOr<size_t> FakeDisk::Write(
    int fd, absl::Span<const absl::string_view> pieces, int64_t offset) {
  bool is_short = false;
  RETURN_IF_ERROR(Enter("Write", is_short));
  if (!is_short || pieces.empty()) return real_.Write(fd, pieces, offset);
  const absl::string_view some = pieces[0].substr(0, 1);
  return real_.Write(fd, {&some, 1}, offset);
}

absl::Status FakeDisk::Truncate(int fd, int64_t size_bytes) {
  RETURN_IF_ERROR(Enter("Truncate"));
  return real_.Truncate(fd, size_bytes);
}

absl::Status FakeDisk::ChangeMode(int fd, mode_t mode) {
  RETURN_IF_ERROR(Enter("ChangeMode"));
  return real_.ChangeMode(fd, mode);
}

absl::Status FakeDisk::Link(int fd, int directory, const std::string& path) {
  RETURN_IF_ERROR(Enter("Link"));
  return real_.Link(fd, directory, path);
}

absl::Status FakeDisk::Unlink(int directory, const std::string& path) {
  RETURN_IF_ERROR(Enter("Unlink"));
  return real_.Unlink(directory, path);
}

absl::Status FakeDisk::Rename(int directory, const std::string& from,
                              const std::string& to) {
  RETURN_IF_ERROR(Enter("Rename"));
  return real_.Rename(directory, from, to);
}

absl::StatusOr<struct stat> FakeDisk::Stat(int fd) {
  RETURN_IF_ERROR(Enter("Stat"));
  return real_.Stat(fd);
}

absl::StatusOr<struct stat> FakeDisk::StatPath(int directory,
                                               const std::string& path) {
  RETURN_IF_ERROR(Enter("StatPath"));
  return real_.StatPath(directory, path);
}

absl::Status FakeDisk::ReadDirectory(int directory, const std::string& path,
                                     NameVisitor visit) {
  RETURN_IF_ERROR(Enter("ReadDirectory"));
  return real_.ReadDirectory(directory, path, visit);
}

absl::Status FakeDisk::Sync(int fd) {
  RETURN_IF_ERROR(Enter("Sync"));
  return real_.Sync(fd);
}

absl::Status FakeDisk::SyncFileSystem(int fd) {
  RETURN_IF_ERROR(Enter("SyncFileSystem"));
  return real_.SyncFileSystem(fd);
}

absl::Status FakeDisk::Lock(int fd, int operation) {
  RETURN_IF_ERROR(Enter("Lock"));
  return real_.Lock(fd, operation);
}

absl::StatusOr<int64_t> FakeDisk::BlockBytes(int fd) {
  RETURN_IF_ERROR(Enter("BlockBytes"));
  return real_.BlockBytes(fd);
}

absl::Status FakeDisk::SpreadDirectories(int fd) {
  RETURN_IF_ERROR(Enter("SpreadDirectories"));
  return real_.SpreadDirectories(fd);
}

}  // namespace casement
