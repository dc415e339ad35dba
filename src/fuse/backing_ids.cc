#include "fuse/backing_ids.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

// From <linux/fuse.h> of Linux 6.9, which is newer than Debian 12's; numbers of
// the kernel's interface never change. libfuse has calls for these, but they
// need a request and lose the errno.
struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
constexpr unsigned long kBackingOpen = _IOW(229, 1, BackingMap);  // NOLINT
constexpr unsigned long kBackingClose = _IOW(229, 2, uint32_t);   // NOLINT

absl::StatusOr<uint32_t> Register(int device_fd, int fd) {
  BackingMap map = {.fd = fd, .flags = 0, .padding = 0};
  const int id = ioctl(device_fd, kBackingOpen, &map);
  if (id <= 0) return ErrnoStatus(errno, "registering a backing file");
  return static_cast<uint32_t>(id);
}

void Unregister(int device_fd, uint32_t id) {
  ioctl(device_fd, kBackingClose, &id);
}

}  // namespace

absl::Status ProbeBacking(int device_fd, int fd) {
  ASSIGN_OR_RETURN(const uint32_t id, Register(device_fd, fd));
  Unregister(device_fd, id);
  return absl::OkStatus();
}

absl::StatusOr<int> BackingIds::Open(
    const std::shared_ptr<const OpenBlob>& blob) {
  MutexLock lock(mu_);
  const auto found = backings_.find(blob->id());
  if (found != backings_.end()) {
    ++found->second.opens;
    return static_cast<int>(found->second.id);
  }
  ASSIGN_OR_RETURN(const uint32_t id, Register(device_fd_, blob->fd()));
  backings_.emplace(blob->id(), Backing{blob, id, 1});
  return static_cast<int>(id);
}

void BackingIds::Close(BlobId blob) {
  std::shared_ptr<const OpenBlob> closed;  // Dies after the lock.
  MutexLock lock(mu_);
  const auto found = backings_.find(blob);
  CASEMENT_CHECK(found != backings_.end());
  if (--found->second.opens > 0) return;
  Unregister(device_fd_, found->second.id);
  closed = std::move(found->second.blob);
  backings_.erase(found);
}

}  // namespace casement
