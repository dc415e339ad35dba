#include "support/socket_proxy.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <utility>

#include "absl/time/clock.h"

namespace casement {
namespace {

// How soon a change of what the proxy does is noticed.
constexpr absl::Duration kLook = absl::Milliseconds(5);
// In one direction; more waits in the socket.
constexpr size_t kBytesUnderWay = 64 << 20;

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    throw std::runtime_error("too long for a socket: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd NewSocket() {
  return UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

bool SendAll(int fd, const std::string& bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t sent =
        send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    done += static_cast<size_t>(sent);
  }
  return true;
}

bool IsReadable(int fd, absl::Duration timeout) {
  pollfd wanted = {.fd = fd, .events = POLLIN, .revents = 0};
  const timespec time = absl::ToTimespec(timeout);
  return ppoll(&wanted, 1, &time, nullptr) > 0;
}

}  // namespace

SocketProxy::SocketProxy(const std::string& path, const std::string& target)
    : path_(path), target_(target), listener_(NewSocket()) {
  const sockaddr_un address = AddressOf(path);
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0 ||
      listen(listener_.get(), 64) != 0) {
    throw std::runtime_error("cannot listen at " + path);
  }
  acceptor_ = std::thread([this] { Accept(); });
}

SocketProxy::~SocketProxy() {
  is_ending_ = true;
  acceptor_.join();
  Cut();
  std::list<std::thread> passers;
  {
    MutexLock lock(mu_);
    passers.swap(passers_);
  }
  for (std::thread& passer : passers) passer.join();
  unlink(path_.c_str());
}

void SocketProxy::Cut() {
  is_cut_ = true;
  MutexLock lock(mu_);
  for (const ConnectionPtr& connection : connections_) {
    shutdown(connection->client.get(), SHUT_RDWR);
    shutdown(connection->server.get(), SHUT_RDWR);
  }
  connections_.clear();
}

void SocketProxy::Accept() {
  while (!is_ending_) {
    if (!IsReadable(listener_.get(), kLook)) continue;
    const auto connection = std::make_shared<Connection>();
    connection->client =
        UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    connection->server = NewSocket();
    const sockaddr_un address = AddressOf(target_);
    if (is_cut_ || connect(connection->server.get(),
                           reinterpret_cast<const sockaddr*>(&address),
                           sizeof(address)) != 0) {
      continue;
    }
    MutexLock lock(mu_);
    connections_.push_back(connection);
    passers_.emplace_back([this, connection] { Pass(connection, true); });
    passers_.emplace_back([this, connection] { Pass(connection, false); });
  }
}

void SocketProxy::Pass(const ConnectionPtr& connection, bool to_server) {
  const int from =
      to_server ? connection->client.get() : connection->server.get();
  const int to =
      to_server ? connection->server.get() : connection->client.get();
  struct Piece {
    absl::Time due;
    std::string bytes;
  };
  std::deque<Piece> under_way;
  size_t bytes = 0;
  bool is_over = false;
  std::string buffer(256 << 10, '\0');
  while (!is_ending_ && !(is_over && under_way.empty())) {
    absl::Duration left = kLook;
    if (!under_way.empty() && !is_blocked_) {
      left = std::clamp(under_way.front().due - absl::Now(),
                        absl::ZeroDuration(), kLook);
    }
    const bool may_read = !is_over && bytes < kBytesUnderWay;
    if (!may_read) {
      absl::SleepFor(left);
    } else if (IsReadable(from, left)) {
      const ssize_t got = recv(from, buffer.data(), buffer.size(), 0);
      if (got <= 0) {
        is_over = true;
      } else {
        bytes += static_cast<size_t>(got);
        under_way.push_back({absl::Now() + absl::Nanoseconds(delay_ns_.load()),
                             buffer.substr(0, static_cast<size_t>(got))});
      }
    }
    if (under_way.empty() || is_blocked_ ||
        under_way.front().due > absl::Now()) {
      continue;
    }
    if (!SendAll(to, under_way.front().bytes)) break;
    bytes -= under_way.front().bytes.size();
    if (!to_server && until_blocked_ > 0) {
      until_blocked_ -= static_cast<int64_t>(under_way.front().bytes.size());
      if (until_blocked_ <= 0) is_blocked_ = true;
    }
    under_way.pop_front();
  }
  shutdown(to, SHUT_WR);
}

}  // namespace casement
