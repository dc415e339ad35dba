#include "control/waiting_connections.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

constexpr int kEventsAtOnce = 64;
constexpr size_t kBeginningBytesMax = 64;

}  // namespace

absl::StatusOr<WaitingConnections> WaitingConnections::Make(
    const Options& options) {
  CASEMENT_CHECK(!options.beginning.empty() &&
                 options.beginning.size() <= kBeginningBytesMax);
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "epoll_create1");
  return WaitingConnections(options, std::move(epoll));
}

absl::Time WaitingConnections::deadline() const {
  return waiting_.empty() ? absl::InfiniteFuture()
                          : waiting_.begin()->second.deadline;
}

void WaitingConnections::Add(UniqueFd connection, absl::Time now) {
  if (waiting_.size() >= options_.connections_max) {
    waiting_.erase(waiting_.begin());
  }
  // By edges: of a beginning that stays half, nothing is heard again.
  epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                       .data = {.u64 = ++last_}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.get(), &event) != 0) {
    return;
  }
  waiting_[last_] = {std::move(connection), now + options_.patience};
}

WaitingConnections::Said WaitingConnections::Listen(int fd) const {
  std::array<char, kBeginningBytesMax> buffer;
  const ssize_t got = ::recv(fd, buffer.data(), options_.beginning.size(),
                             MSG_PEEK | MSG_DONTWAIT);
  if (got < 0) {
    return errno == EAGAIN || errno == EINTR ? Said::kNothingYet
                                             : Said::kSomethingElse;
  }
  const absl::string_view said(buffer.data(), static_cast<size_t>(got));
  if (said == options_.beginning) return Said::kBeginning;
  const bool may_become =
      !said.empty() && absl::StartsWith(options_.beginning, said);
  return may_become ? Said::kNothingYet : Said::kSomethingElse;
}

std::vector<UniqueFd> WaitingConnections::TakeReady(absl::Time now) {
  std::vector<UniqueFd> ready;
  std::array<epoll_event, kEventsAtOnce> events;
  for (int count = kEventsAtOnce; count == kEventsAtOnce;) {
    count = ::epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, 0);
    for (int i = 0; i < count; ++i) {
      const auto found = waiting_.find(events[i].data.u64);
      if (found == waiting_.end()) continue;
      UniqueFd& fd = found->second.fd;
      const Said said = Listen(fd.get());
      // Whoever closed its end has half a beginning at most, for ever.
      const bool is_over = (events[i].events & (EPOLLRDHUP | EPOLLHUP)) != 0;
      if (said == Said::kNothingYet && !is_over) continue;
      if (said == Said::kBeginning) {
        // It goes on as the same open file, which epoll would still watch.
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
        ready.push_back(std::move(fd));
      }
      waiting_.erase(found);
    }
  }
  while (!waiting_.empty() && waiting_.begin()->second.deadline <= now) {
    waiting_.erase(waiting_.begin());
  }
  return ready;
}

}  // namespace casement
