#include "control/connection_numbers.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr rlim_t kEndMax = 1 << 18;  // As many as the daemon asks for.

}  // namespace

ConnectionNumbers::ConnectionNumbers(size_t connections_of_user_max) {
  struct rlimit limit = {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  end_ = static_cast<int>(std::min(limit.rlim_cur, kEndMax));
  first_ = end_ / 2;
  next_ = first_;
  of_user_max_ = std::min<size_t>(connections_of_user_max, (end_ - first_) / 2);
}

size_t ConnectionNumbers::CountOf(uid_t user) const {
  return std::count_if(users_.begin(), users_.end(), [user](const auto& pair) {
    return pair.second == user;
  });
}

void ConnectionNumbers::Sweep() {
  for (auto place = users_.begin(); place != users_.end();) {
    const bool is_open = ::fcntl(place->first, F_GETFD) >= 0;
    place = is_open ? std::next(place) : users_.erase(place);
  }
}

absl::StatusOr<UniqueFd> ConnectionNumbers::Move(UniqueFd connection,
                                                 uid_t user) {
  if (CountOf(user) >= of_user_max_) {
    Sweep();
    if (CountOf(user) >= of_user_max_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("control socket: user ", user, " has ", of_user_max_,
                       " connections"));
    }
  }
  // From where we are to the end, then once more from the start.
  for (const int from : {next_, first_}) {
    const int fd = ::fcntl(connection.get(), F_DUPFD_CLOEXEC, from);
    if (fd >= end_) {
      ::close(fd);
      continue;
    }
    if (fd >= 0) {
      next_ = fd + 1 < end_ ? fd + 1 : first_;
      users_[fd] = user;
      return UniqueFd(fd);
    }
    // EMFILE: none is free from here up. EINVAL: the limit was lowered.
    if (errno != EMFILE && errno != EINVAL) break;
  }
  return absl::ResourceExhaustedError(
      "control socket: too many connections are open");
}

}  // namespace casement
