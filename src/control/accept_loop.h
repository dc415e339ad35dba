// The thread that takes connections in, from any number of listening sockets.
//
// A connection is let in when it begins as clients do (waiting_connections.h).
// What doors call, they call from that thread.
#ifndef CASEMENT_CONTROL_ACCEPT_LOOP_H_
#define CASEMENT_CONTROL_ACCEPT_LOOP_H_

#include <functional>
#include <memory>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "control/waiting_connections.h"

namespace casement {

class AcceptLoop {
 public:
  struct Door {
    // A listening socket, not blocking.
    int listener_fd = -1;
    // What connections begin with; of static storage.
    absl::string_view beginning;
    // False for one that is to be closed at once.
    std::function<bool(int fd)> may_enter;
    std::function<void(UniqueFd connection)> welcome;
  };

  // `patience`: how long a connection may take to begin.
  static absl::StatusOr<std::unique_ptr<AcceptLoop>> Start(
      std::vector<Door> doors, absl::Duration patience);
  // Returns when the thread has ended; closes connections that are waiting.
  ~AcceptLoop();
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

 private:
  struct OpenDoor {
    Door door;
    WaitingConnections waiting;
  };

  explicit AcceptLoop(UniqueFd stop) : stop_(std::move(stop)) {}
  // Until `stop_` can be read.
  void Run();
  int TimeoutMs() const;
  static void AcceptOne(OpenDoor& open);

  UniqueFd stop_;  // An eventfd.
  std::vector<OpenDoor> doors_;
  std::thread thread_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_ACCEPT_LOOP_H_
