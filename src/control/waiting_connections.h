// Connections whose peer has not yet said that it speaks HTTP/2, or TLS.
//
// gRPC waits for that without end. So it gets a connection only when HTTP/2's
// first 24 bytes, which every client sends at once, have come (with TLS: the
// first bytes of its handshake). One that begins with something else is closed,
// and one that has not begun in time. One thread at a time.
#ifndef CASEMENT_CONTROL_WAITING_CONNECTIONS_H_
#define CASEMENT_CONTROL_WAITING_CONNECTIONS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "proto/http2_preface.h"

namespace casement {

class WaitingConnections {
 public:
  struct Options {
    // What a connection must begin with, at most 64 bytes of static storage.
    absl::string_view beginning = kHttp2Preface;
    // Past it, the one that has waited longest is closed.
    size_t connections_max = 128;
    absl::Duration patience = absl::Seconds(10);
  };

  static absl::StatusOr<WaitingConnections> Make(const Options& options);

  // For poll(2): can be read when it is worth calling TakeReady().
  int fd() const { return epoll_.get(); }
  // When it is worth calling even so; InfiniteFuture if none waits.
  absl::Time deadline() const;
  size_t size() const { return waiting_.size(); }

  void Add(UniqueFd connection, absl::Time now);
  // Those that have begun as they should, with nothing read from them. Closes
  // those that are not to wait any longer.
  std::vector<UniqueFd> TakeReady(absl::Time now);

 private:
  struct Connection {
    UniqueFd fd;
    absl::Time deadline;
  };
  enum class Said : uint8_t { kNothingYet, kBeginning, kSomethingElse };

  WaitingConnections(const Options& options, UniqueFd epoll)
      : options_(options), epoll_(std::move(epoll)) {}
  Said Listen(int fd) const;

  Options options_;
  UniqueFd epoll_;
  uint64_t last_ = 0;
  // By when they came, and so by their deadlines.
  std::map<uint64_t, Connection> waiting_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_WAITING_CONNECTIONS_H_
