// Stands between a client and a server on unix sockets, and makes the way
// between them long, blocked, or cut.
//
// Thread safe.
#ifndef CASEMENT_TESTS_SUPPORT_SOCKET_PROXY_H_
#define CASEMENT_TESTS_SUPPORT_SOCKET_PROXY_H_

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <thread>  // NOLINT

#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace casement {

class SocketProxy {
 public:
  // Listens at `path` for those who want to get to `target`. Throws if it
  // cannot.
  SocketProxy(const std::string& path, const std::string& target);
  ~SocketProxy();
  SocketProxy(const SocketProxy&) = delete;
  SocketProxy& operator=(const SocketProxy&) = delete;

  // How much later bytes arrive, each way. As many travel at once as want to.
  void SetDelay(absl::Duration delay) {
    delay_ns_ = absl::ToInt64Nanoseconds(delay);
  }
  // Nothing arrives any more, until Unblock().
  void Block() { is_blocked_ = true; }
  // The same once so many bytes more have come from the server.
  void BlockAfter(int64_t bytes) { until_blocked_ = bytes; }
  void Unblock() {
    until_blocked_ = 0;
    is_blocked_ = false;
  }
  // Breaks all connections, and those to come, until Mend().
  void Cut();
  void Mend() { is_cut_ = false; }

 private:
  struct Connection {
    UniqueFd client;
    UniqueFd server;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;

  void Accept();
  void Pass(const ConnectionPtr& connection, bool to_server);

  const std::string path_;
  const std::string target_;
  UniqueFd listener_;
  std::atomic<int64_t> delay_ns_{0};
  std::atomic<bool> is_blocked_{false};
  std::atomic<int64_t> until_blocked_{0};
  std::atomic<bool> is_cut_{false};
  std::atomic<bool> is_ending_{false};
  Mutex mu_;
  std::list<ConnectionPtr> connections_ ABSL_GUARDED_BY(mu_);
  std::list<std::thread> passers_ ABSL_GUARDED_BY(mu_);
  std::thread acceptor_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_SOCKET_PROXY_H_
