// The REv2 services for clients that come over TCP, perhaps from other
// machines.
//
// What is registered here must hand out no power over this machine: nothing
// that names a path or runs anything. Connections are taken in by an AcceptLoop
// and given to Welcome(), in clear text or, with certificates, in TLS. Start()
// and Shutdown() are for one thread.
#ifndef CASEMENT_CONTROL_TCP_SERVER_H_
#define CASEMENT_CONTROL_TCP_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/tcp_address.h"
#include "base/unique_fd.h"
#include "control/tls_files.h"

namespace casement {

class TcpServer {
 public:
  struct Options {
    TcpAddress address;
    std::optional<TlsFiles> tls = {};
    size_t calls_max = 64;
    // How long a connection may take until calls can come.
    absl::Duration patience = absl::Seconds(10);
  };

  // Binds, and begins to serve. Services are called from many threads, and must
  // outlive the server. InvalidArgument for certificates that cannot be
  // used; an errno's status for such an address.
  static absl::StatusOr<std::unique_ptr<TcpServer>> Start(
      const Options& options, const std::vector<grpc::Service*>& services);
  // As Shutdown().
  ~TcpServer();
  TcpServer(const TcpServer&) = delete;
  TcpServer& operator=(const TcpServer&) = delete;

  // For the accept loop.
  int listener_fd() const { return listener_.get(); }
  // What a client says first: HTTP/2's preface, or a TLS handshake's record.
  absl::string_view beginning() const;
  void Welcome(UniqueFd connection);

  // With the port that was found.
  const TcpAddress& address() const { return address_; }

  // Calls have until `grace` is over. No Welcome() may come any more.
  void Shutdown(absl::Duration grace);

 private:
  TcpServer(UniqueFd listener, const TcpAddress& address, bool is_tls)
      : listener_(std::move(listener)), address_(address), is_tls_(is_tls) {}
  absl::Status StartGrpc(const Options& options,
                         const std::vector<grpc::Service*>& services);

  UniqueFd listener_;
  TcpAddress address_;
  bool is_tls_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace casement

#endif  // CASEMENT_CONTROL_TCP_SERVER_H_
