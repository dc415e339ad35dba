// The control socket: gRPC services for clients on this machine.
//
// Serves casement.v1.Sandboxes and casement.v1.Store, REv2's
// ContentAddressableStorage, ActionCache and Capabilities, ByteStream, and
// BuildGrid's LocalContentAddressableStorage;
// their .proto files are the manual. The services convert and call; what a call
// means is decided below. Over TCP, if it is asked for, come only REv2's
// services and ByteStream.
//
// Only root, the daemon's own user and the members of one configured group get
// through (G24); other connections are closed unheard. Start() and Shutdown()
// are for one thread; the layers below are called from many.
#ifndef CASEMENT_CONTROL_CONTROL_SERVER_H_
#define CASEMENT_CONTROL_CONTROL_SERVER_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/tcp_address.h"
#include "casement/metric.h"
#include "control/tls_files.h"
#include "store/action_cache.h"
#include "store/blob_fetcher.h"
#include "store/blob_sender.h"
#include "store/blob_store.h"
#include "store/directory_table.h"
#include "vfs/sandbox_table.h"

namespace casement {

class ControlServer {
 public:
  struct Options {
    std::string socket_path;
    // What LocalCAS tells of.
    std::string store_path = {};
    // Where the daemon's mount is: nothing is written there for a peer.
    std::string mount_path = {};
    // Brings what LocalCAS is asked to fetch; null without a remote cache.
    BlobFetcher* fetcher = nullptr;
    // Sends outputs and uploads there; null without one.
    BlobSender* sender = nullptr;
    // Whose members may connect besides root and the daemon's user. They act on
    // sandboxes that they own.
    std::optional<gid_t> allow_group = {};
    // Sessions take a thread each; past a limit: ResourceExhausted.
    size_t sessions_max = 256;
    // LocalCAS's stages take one as well.
    size_t stages_max = 256;
    // For all other calls, together; over TCP as many again.
    size_t calls_max = 64;
    // Of one user; all that come over TCP count as one. Past it, new ones are
    // closed.
    size_t connections_of_user_max = 1024;
    // How long an upload that broke off is kept for its client to go on.
    absl::Duration upload_patience = absl::Seconds(60);
    // How long a connection may take to begin as HTTP/2 does.
    absl::Duration connection_patience = absl::Seconds(10);
    // Where to listen on TCP as well, and how: in clear text without `tls`.
    std::optional<TcpAddress> tcp_address = {};
    std::optional<TlsFiles> tls = {};
  };

  // `metrics` (may be null) adds to the answer of Stats; it is called from any
  // thread. Everything must outlive the server.
  ControlServer(BlobStore& store, DirectoryTable& directories,
                ActionCache& actions, SandboxTable& sandboxes,
                std::function<std::vector<Metric>()> metrics, Options options);
  // As Shutdown().
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // Listens; peers are served from when this returns. FailedPrecondition if
  // another daemon answers on the socket, or if its path leads to something
  // else; InvalidArgument if the path is too long. The socket's folder must
  // exist, unless it is the default one (proto/socket_path.h). On TCP,
  // PermissionDenied without TLS and a client CA for an address that other
  // machines reach.
  absl::Status Start();

  // Stops listening, ends the sessions (and with them their sandboxes), gives
  // other calls a second to finish, and returns when no thread is left. Removes
  // the socket.
  void Shutdown();

  // Where it listens on TCP, with the port that was found; "" if it does not.
  std::string tcp_address() const;
  // Connections that were closed because of who made them, or of how many.
  int64_t refused_connections() const;

 private:
  struct Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_CONTROL_SERVER_H_
