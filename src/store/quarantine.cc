#include "store/quarantine.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/quote.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace casement {
namespace {

// How often one digest can be damaged before somebody should have looked.
constexpr int kNamesMax = 100;
constexpr size_t kCopyBytes = size_t{256} << 10;
// A disk that cannot be read fails in sectors; no file system has smaller
// pages.
constexpr int64_t kUnreadableBytes = 4096;

// For whom they belong to: what the store keeps from other users stays so.
constexpr mode_t kMode = 0400;

absl::Status Refused(absl::string_view path, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("quarantine ", QuoteName(path), ": ", why));
}

// Where a directory really is, symlinks followed.
absl::StatusOr<std::string> CanonicalPath(int fd) {
  char path[PATH_MAX];
  const ssize_t bytes =
      readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), path, sizeof(path));
  if (bytes < 0) return ErrnoStatus(errno, "reading where a directory is");
  return std::string(path, static_cast<size_t>(bytes));
}

// Errors of link(2) after which a copy may work.
bool WantsCopy(const absl::Status& status) {
  const std::optional<int> error_number = ErrnoOf(status);
  return error_number == EXDEV || error_number == EPERM ||
         error_number == EOPNOTSUPP || error_number == EMLINK;
}

}  // namespace

absl::StatusOr<Quarantine> Quarantine::Open(
    Disk& disk, const std::string& path,
    const std::vector<std::string>& forbidden) {
  if (!absl::StartsWith(path, "/")) {
    return Refused(path, "an absolute path is needed");
  }
  if (path.size() >= PATH_MAX || absl::StrContains(path, '\0')) {
    return Refused(path.substr(0, 64), "no system call takes this path");
  }
  absl::StatusOr<UniqueFd> directory =
      disk.Open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
  if (!directory.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("quarantine: ",
                     OneLine(absl::string_view(directory.status().message()))));
  }
  ASSIGN_OR_RETURN(const std::string real, CanonicalPath(directory->get()));
  for (const std::string& other : forbidden) {
    if (absl::StartsWith(absl::StrCat(real, "/"), absl::StrCat(other, "/"))) {
      return Refused(path, absl::StrCat("it is inside ", QuoteName(other)));
    }
  }
  return Quarantine(disk, *std::move(directory));
}

absl::Status Quarantine::Keep(int fd, const Digest& digest) {
  std::string name = digest.ToString();
  for (int i = 1; i <= kNamesMax; ++i) {
    const absl::Status kept = KeepAs(name, fd);
    if (ErrnoOf(kept) != EEXIST) return kept;
    name = absl::StrCat(digest.ToString(), ".", i);
  }
  return absl::AlreadyExistsError(
      absl::StrCat("there are ", kNamesMax, " of ", digest.ToString()));
}

absl::Status Quarantine::KeepAs(const std::string& name, int fd) {
  absl::Status kept = disk_->Link(fd, directory_.get(), name);
  if (ErrnoOf(kept) == EEXIST) {
    ASSIGN_OR_RETURN(const struct stat file, disk_->Stat(fd));
    const absl::StatusOr<struct stat> there =
        disk_->StatPath(directory_.get(), name);
    // Linked before a kill, or an error, kept it in the store as well.
    const bool is_same = there.ok() && there->st_dev == file.st_dev &&
                         there->st_ino == file.st_ino;
    return is_same ? absl::OkStatus() : kept;
  }
  if (WantsCopy(kept)) return Copy(fd, name);
  return kept;
}

absl::Status Quarantine::Copy(int from, const std::string& name) {
  ASSIGN_OR_RETURN(
      const UniqueFd to,
      disk_->Open(directory_.get(), name,
                  O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, kMode));
  absl::Status copied = CopyBytes(from, to.get());
  if (copied.ok()) copied = disk_->Sync(to.get());
  if (!copied.ok()) disk_->Unlink(directory_.get(), name).IgnoreError();
  return copied;
}

absl::Status Quarantine::CopyBytes(int from, int to) {
  ASSIGN_OR_RETURN(const struct stat attributes, disk_->Stat(from));
  const auto buffer = std::make_unique<char[]>(kCopyBytes);
  for (int64_t offset = 0; offset < attributes.st_size;) {
    const size_t wanted =
        std::min<int64_t>(kCopyBytes, attributes.st_size - offset);
    const absl::StatusOr<size_t> got =
        disk_->Read(from, absl::MakeSpan(buffer.get(), wanted), offset);
    if (ErrnoOf(got.status()) == EIO) {
      offset += kUnreadableBytes;
      continue;
    }
    if (!got.ok()) return got.status();
    if (*got == 0) break;
    absl::string_view bytes(buffer.get(), *got);
    while (!bytes.empty()) {
      ASSIGN_OR_RETURN(const size_t wrote, disk_->Write(to, bytes, offset));
      bytes.remove_prefix(wrote);
      offset += static_cast<int64_t>(wrote);
    }
  }
  return disk_->Truncate(to, attributes.st_size);
}

}  // namespace casement
