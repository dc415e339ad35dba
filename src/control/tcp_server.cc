#include "control/tcp_server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "control/request_limits.h"
#include "proto/grpc_lifetime.h"
#include "proto/http2_preface.h"

namespace casement {
namespace {

constexpr int kBacklog = 128;
// gRPC's own pollers, besides the calls.
constexpr int kPollersMax = 4;
// Of a handshake's record, and the protocol's major version: RFC 8446, 5.1.
constexpr absl::string_view kTlsHandshake = "\x16\x03";
// A machine that vanished says nothing any more: it is asked so often, and has
// so long to answer, before its connection is closed.
constexpr absl::Duration kKeepalive = absl::Seconds(60);
constexpr absl::Duration kKeepaliveTimeout = absl::Seconds(20);

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

absl::StatusOr<UniqueFd> Listen(const TcpAddress& address) {
  UniqueFd fd(::socket(address.family(),
                       SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  if (!fd.valid() ||
      // So that a restart does not wait for the last connections' ends.
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      ::bind(fd.get(), address.get(), address.size()) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    return ErrnoStatus(errno, "listening on ", address.ToString());
  }
  return fd;
}

std::shared_ptr<grpc::ServerCredentials> CredentialsOf(
    const std::optional<TlsFiles>& tls) {
  if (!tls.has_value()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(
      tls->client_ca.empty()
          ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
          : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = tls->client_ca;
  options.pem_key_cert_pairs.push_back({tls->key, tls->certificate});
  return grpc::SslServerCredentials(options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpServer>> TcpServer::Start(
    const Options& options, const std::vector<grpc::Service*>& services) {
  if (options.tls.has_value()) RETURN_IF_ERROR(CheckUsable(*options.tls));
  ASSIGN_OR_RETURN(UniqueFd listener, Listen(options.address));
  ASSIGN_OR_RETURN(const TcpAddress address,
                   TcpAddress::OfSocket(listener.get()));
  auto server = std::unique_ptr<TcpServer>(
      new TcpServer(std::move(listener), address, options.tls.has_value()));
  RETURN_IF_ERROR(server->StartGrpc(options, services));
  return server;
}

absl::Status TcpServer::StartGrpc(const Options& options,
                                  const std::vector<grpc::Service*>& services) {
  KeepGrpcRunning();
  grpc::ResourceQuota quota("tcp");
  quota.SetMaxThreads(static_cast<int>(options.calls_max) + kPollersMax);
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(-1);
  // Of TLS's handshake and HTTP/2's.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             Milliseconds(options.patience));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                             Milliseconds(kKeepalive));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             Milliseconds(kKeepaliveTimeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      CredentialsOf(options.tls));
  for (grpc::Service* service : services) builder.RegisterService(service);
  server_ = builder.BuildAndStart();
  if (server_ != nullptr) return absl::OkStatus();
  return absl::InternalError("gRPC: the TCP server did not start");
}

absl::string_view TcpServer::beginning() const {
  return is_tls_ ? kTlsHandshake : kHttp2Preface;
}

void TcpServer::Welcome(UniqueFd connection) {
  const int on = 1;
  // Without it small answers wait for the client's acknowledgements.
  ::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters given;
  given.listener_fd = listener_.get();
  given.fd = connection.Release();
  acceptor_->HandleNewConnection(&given);
}

TcpServer::~TcpServer() { Shutdown(absl::ZeroDuration()); }

void TcpServer::Shutdown(absl::Duration grace) {
  if (server_ == nullptr) return;
  server_->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  server_->Wait();
  server_.reset();
}

}  // namespace casement
