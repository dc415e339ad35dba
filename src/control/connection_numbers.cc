#include "control/connection_numbers.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"

namespace casement {
namespace {

constexpr rlim_t kEndMax = 65536;

}  // namespace

ConnectionNumbers::ConnectionNumbers() {
  struct rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  end_ = static_cast<int>(std::min(limit.rlim_cur, kEndMax));
  first_ = end_ / 2;
  next_ = first_;
}

absl::StatusOr<UniqueFd> ConnectionNumbers::Move(UniqueFd connection) {
  // From where we are to the end, then once more from the start.
  for (const int from : {next_, first_}) {
    const int fd = ::fcntl(connection.get(), F_DUPFD_CLOEXEC, from);
    if (fd >= end_) {
      ::close(fd);
      continue;
    }
    if (fd >= 0) {
      next_ = fd + 1 < end_ ? fd + 1 : first_;
      return UniqueFd(fd);
    }
    // EMFILE: none is free from here up. EINVAL: the limit was lowered.
    if (errno != EMFILE && errno != EINVAL) break;
  }
  return absl::ResourceExhaustedError(
      "control socket: too many connections are open");
}

}  // namespace casement
