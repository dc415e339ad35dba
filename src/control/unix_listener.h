// A listening unix socket that belongs to one daemon.
//
// One thread at a time.
#ifndef CASEMENT_CONTROL_UNIX_LISTENER_H_
#define CASEMENT_CONTROL_UNIX_LISTENER_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace casement {

class UnixListener {
 public:
  struct Options {
    std::string path;
    // Make the folder that holds it, mode 0755, if it is missing.
    bool make_parent = false;
    // A group that may connect as well: mode 0660 instead of 0600.
    std::optional<gid_t> group = {};
  };

  // A socket that nobody listens on any more is replaced. FailedPrecondition if
  // somebody does, or if something other than a socket is there;
  // InvalidArgument if the path is longer than the kernel takes (107 bytes).
  static absl::StatusOr<UnixListener> Open(const Options& options);

  UnixListener(UnixListener&& other) noexcept = default;
  UnixListener& operator=(UnixListener&& other) noexcept = delete;
  // Removes the socket, if the path still leads to this one.
  ~UnixListener();

  // Not blocking, close on exec.
  int fd() const { return fd_.get(); }

 private:
  UnixListener(std::string path, UniqueFd fd, dev_t device, ino_t inode)
      : path_(std::move(path)),
        fd_(std::move(fd)),
        device_(device),
        inode_(inode) {}

  std::string path_;
  UniqueFd fd_;
  dev_t device_;
  ino_t inode_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_UNIX_LISTENER_H_
