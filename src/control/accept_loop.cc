#include "control/accept_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>  // NOLINT: std::this_thread's.
#include <cstdint>

#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status.h"

namespace casement {
namespace {

// How long to wait when no descriptor is free to accept with.
constexpr std::chrono::milliseconds kAcceptPause{50};

}  // namespace

absl::StatusOr<std::unique_ptr<AcceptLoop>> AcceptLoop::Start(
    std::vector<Door> doors, absl::Duration patience) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoStatus(errno, "eventfd");
  auto loop = std::unique_ptr<AcceptLoop>(new AcceptLoop(std::move(stop)));
  for (Door& door : doors) {
    ASSIGN_OR_RETURN(WaitingConnections waiting,
                     WaitingConnections::Make(
                         {.beginning = door.beginning, .patience = patience}));
    loop->doors_.push_back({std::move(door), std::move(waiting)});
  }
  loop->thread_ = std::thread([self = loop.get()] { self->Run(); });
  return loop;
}

AcceptLoop::~AcceptLoop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  // Cannot fail: the counter was 0.
  CASEMENT_CHECK(::write(stop_.get(), &one, sizeof(one)) == sizeof(one));
  thread_.join();
}

void AcceptLoop::AcceptOne(OpenDoor& open) {
  UniqueFd connection(::accept4(open.door.listener_fd, nullptr, nullptr,
                                SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (connection.valid()) {
    if (open.door.may_enter(connection.get())) {
      open.waiting.Add(std::move(connection), absl::Now());
    }
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
             errno == ENOBUFS) {
    std::this_thread::sleep_for(kAcceptPause);
  }
}

int AcceptLoop::TimeoutMs() const {
  absl::Time deadline = absl::InfiniteFuture();
  for (const OpenDoor& open : doors_) {
    deadline = std::min(deadline, open.waiting.deadline());
  }
  if (deadline == absl::InfiniteFuture()) return -1;
  // One millisecond more than is left, so as not to come too early.
  return static_cast<int>(std::max<int64_t>(
      absl::ToInt64Milliseconds(deadline - absl::Now()) + 1, 0));
}

void AcceptLoop::Run() {
  std::vector<pollfd> polled = {
      {.fd = stop_.get(), .events = POLLIN, .revents = 0}};
  for (const OpenDoor& open : doors_) {
    polled.push_back(
        {.fd = open.door.listener_fd, .events = POLLIN, .revents = 0});
    polled.push_back({.fd = open.waiting.fd(), .events = POLLIN, .revents = 0});
  }
  for (;;) {
    if (::poll(polled.data(), polled.size(), TimeoutMs()) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (polled[0].revents != 0) return;
    for (size_t i = 0; i < doors_.size(); ++i) {
      OpenDoor& open = doors_[i];
      // First, so that those who have spoken are not closed for newer ones.
      for (UniqueFd& ready : open.waiting.TakeReady(absl::Now())) {
        open.door.welcome(std::move(ready));
      }
      if (polled[1 + 2 * i].revents != 0) AcceptOne(open);
    }
  }
}

}  // namespace casement
