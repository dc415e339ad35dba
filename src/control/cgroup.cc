#include "control/cgroup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/mount_info.h"
#include "base/quote.h"
#include "base/status.h"

namespace casement {
namespace {

bool IsBelow(absl::string_view path, absl::string_view folder) {
  return absl::ConsumePrefix(&path, absl::StripSuffix(folder, "/")) &&
         absl::StartsWith(path, "/");
}

// The mount of the tree that has `path` below its root.
std::optional<MountInfo> TreeOf(const std::string& path) {
  std::optional<MountInfo> tree;
  for (MountInfo& mount : ReadMountInfo("/proc/self/mountinfo")) {
    if (mount.type == "cgroup2" && IsBelow(path, mount.path)) {
      tree = std::move(mount);
    }
  }
  return tree;
}

// Nowhere else than in that tree, so that no peer makes us look at a file
// system that does not answer.
UniqueFd OpenBelow(int tree, const std::string& path) {
  struct open_how how = {};
  how.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(static_cast<int>(
      ::syscall(SYS_openat2, tree, path.c_str(), &how, sizeof(how))));
}

// Whether this process is in the group with this inode, or below it.
bool HoldsUs(const MountInfo& tree, ino_t inode) {
  std::ifstream lines("/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    absl::string_view group = line;
    if (!absl::ConsumePrefix(&group, "0::") ||
        !absl::ConsumePrefix(&group, absl::StripSuffix(tree.root, "/"))) {
      continue;
    }
    for (; group.size() > 1; group = group.substr(0, group.rfind('/'))) {
      struct stat attributes;
      if (::stat(absl::StrCat(tree.path, group).c_str(), &attributes) == 0 &&
          attributes.st_ino == inode) {
        return true;
      }
    }
  }
  return false;
}

// Of cgroup.events.
bool IsPopulated(int events) {
  char text[256];
  const ssize_t size = ::pread(events, text, sizeof(text), 0);
  // ENODEV: the group itself is gone.
  return size > 0 &&
         absl::StrContains(absl::string_view(text, static_cast<size_t>(size)),
                           "populated 1");
}

}  // namespace

absl::StatusOr<Cgroup> Cgroup::Open(const std::string& path, const Peer& peer) {
  const auto refusal = [&path](absl::string_view why) {
    return absl::StrCat("control group ", QuoteName(path), ": ", why);
  };
  const std::optional<MountInfo> tree = TreeOf(path);
  if (!tree.has_value()) {
    return absl::InvalidArgumentError(
        refusal("not below a mounted cgroup2 tree's root"));
  }
  const UniqueFd root(
      ::open(tree->path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const size_t skipped = absl::StripSuffix(tree->path, "/").size() + 1;
  UniqueFd directory = OpenBelow(root.get(), path.substr(skipped));
  if (!directory.valid()) return ErrnoStatus(errno, refusal("opening it"));
  struct stat attributes;
  struct stat top;
  if (::fstat(directory.get(), &attributes) != 0 ||
      ::fstat(root.get(), &top) != 0) {
    return ErrnoStatus(errno, refusal("looking at it"));
  }
  if (attributes.st_ino == top.st_ino) {
    return absl::InvalidArgumentError(refusal("the root of its tree"));
  }
  if (peer.uid != 0 && attributes.st_uid != peer.uid) {
    return absl::PermissionDeniedError(
        refusal(absl::StrCat("belongs to user ", attributes.st_uid)));
  }
  if (HoldsUs(*tree, attributes.st_ino)) {
    return absl::InvalidArgumentError(refusal("casementd is in it"));
  }
  if (::faccessat(directory.get(), "cgroup.kill", W_OK, AT_EACCESS) != 0) {
    return ErrnoStatus(errno, refusal("writing to cgroup.kill"));
  }
  return Cgroup(path, std::move(directory));
}

absl::Status Cgroup::Kill(absl::Duration timeout) const {
  const absl::Time deadline = absl::Now() + timeout;
  const UniqueFd kill(
      ::openat(directory_.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC));
  const UniqueFd events(
      ::openat(directory_.get(), "cgroup.events", O_RDONLY | O_CLOEXEC));
  // Nobody can be in a group that was removed.
  if (!kill.valid() && (errno == ENOENT || errno == ENODEV)) {
    return absl::OkStatus();
  }
  if (::write(kill.get(), "1", 1) != 1) {
    if (errno == ENODEV) return absl::OkStatus();
    return ErrnoStatus(
        errno, absl::StrCat("control group ", QuoteName(path_), ": kill"));
  }
  while (IsPopulated(events.get())) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(
          absl::StrCat("control group ", QuoteName(path_),
                       ": processes are left, though they were killed"));
    }
    pollfd changed = {.fd = events.get(), .events = POLLPRI, .revents = 0};
    ::poll(&changed, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
  }
  return absl::OkStatus();
}

}  // namespace casement
