#include "control/unix_listener.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr int kBacklog = 128;

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket ", path, ": a path of 1 to ",
                     sizeof(address.sun_path) - 1, " bytes is needed"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

absl::StatusOr<UniqueFd> NewSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "making a socket");
  return fd;
}

// Removes what an earlier daemon left at `path`.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat there;
  if (::lstat(path.c_str(), &there) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return ErrnoStatus(errno, "socket ", path);
  }
  if (!S_ISSOCK(there.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat("socket ", path, ": something else is there already"));
  }
  ASSIGN_OR_RETURN(const UniqueFd probe, NewSocket());
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof(address)) == 0 ||
      errno == EAGAIN) {  // Its backlog is full.
    return absl::FailedPreconditionError(
        absl::StrCat("socket ", path, ": another daemon answers there"));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) {
    return ErrnoStatus(errno, "socket ", path);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, "removing the stale socket ", path);
  }
  return absl::OkStatus();
}

absl::Status GiveToGroup(const std::string& path, gid_t group) {
  if (::lchown(path.c_str(), static_cast<uid_t>(-1), group) != 0 ||
      ::chmod(path.c_str(), 0660) != 0) {
    return ErrnoStatus(errno, "giving the socket ", path, " to group ", group);
  }
  return absl::OkStatus();
}

// Between two daemons that start at once, so that neither removes the socket
// that the other has just bound and not yet listens on.
absl::StatusOr<UniqueFd> LockFolder(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::flock(fd.get(), LOCK_EX) != 0) {
    return ErrnoStatus(errno, "the socket's folder ", folder);
  }
  return fd;
}

}  // namespace

absl::StatusOr<UnixListener> UnixListener::Open(const Options& options) {
  const std::string& path = options.path;
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  const std::string parent = ParentOf(path);
  if (options.make_parent && ::mkdir(parent.c_str(), 0755) != 0 &&
      errno != EEXIST) {
    return ErrnoStatus(errno, "making the socket's folder ", parent);
  }
  ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(parent));
  RETURN_IF_ERROR(RemoveStale(path, address));

  ASSIGN_OR_RETURN(UniqueFd fd, NewSocket());
  // bind(2) takes the new file's mode from the socket's, less the umask: so it
  // is never open to others, and the umask, which is the whole process's,
  // stays.
  if (::fchmod(fd.get(), 0600) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
             sizeof(address)) != 0) {
    return ErrnoStatus(errno, "socket ", path);
  }
  struct stat bound;
  if (::lstat(path.c_str(), &bound) != 0) {
    return ErrnoStatus(errno, "socket ", path);
  }
  UnixListener listener(path, std::move(fd), bound.st_dev, bound.st_ino);
  if (options.group.has_value()) {
    RETURN_IF_ERROR(GiveToGroup(path, *options.group));
  }
  if (::listen(listener.fd(), kBacklog) != 0) {
    return ErrnoStatus(errno, "listening on ", path);
  }
  return listener;
}

UnixListener::~UnixListener() {
  if (!fd_.valid()) return;
  struct stat there;
  if (::lstat(path_.c_str(), &there) == 0 && there.st_dev == device_ &&
      there.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
}

}  // namespace casement
