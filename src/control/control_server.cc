#include "control/control_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "control/accept_loop.h"
#include "control/action_cache_service.h"
#include "control/byte_stream_service.h"
#include "control/cas_service.h"
#include "control/connection_numbers.h"
#include "control/local_cas_service.h"
#include "control/peer.h"
#include "control/request_limits.h"
#include "control/sandboxes_service.h"
#include "control/sessions.h"
#include "control/store_service.h"
#include "control/tcp_server.h"
#include "control/unix_listener.h"
#include "proto/grpc_lifetime.h"
#include "proto/http2_preface.h"
#include "proto/socket_path.h"

namespace casement {
namespace {

// How long calls may still run when the server stops.
constexpr absl::Duration kGrace = absl::Seconds(1);
// Uploads that broke off get at most this part of the store.
constexpr int64_t kPendingShare = 4;
// gRPC's own pollers, besides the calls.
constexpr size_t kPollersMax = 4;
// Those who come over TCP, to whom the kernel gives no user: nobody has this
// one (chown(2)).
constexpr uid_t kTcpUser = static_cast<uid_t>(-1);

absl::Status CheckTcp(const ControlServer::Options& options) {
  if (!options.tcp_address.has_value() || options.tcp_address->IsLoopback() ||
      (options.tls.has_value() && !options.tls->client_ca.empty())) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("listening on ", options.tcp_address->ToString(),
                   ", which other machines reach, needs TLS and a client CA"));
}

}  // namespace

struct ControlServer::Rep {
  Rep(BlobStore& store, DirectoryTable& directories, ActionCache& results,
      SandboxTable& table, std::function<std::vector<Metric>()> metrics,
      Options given)
      : options(std::move(given)),
        numbers(options.connections_of_user_max),
        sessions(options.sessions_max),
        sandboxes(table, sessions, options.sender),
        store_service(store, directories, table, sessions, options.sender,
                      options.mount_path, std::move(metrics)),
        cas(store),
        actions(store, results),
        local_cas(store, directories, table,
                  {.store_path = options.store_path,
                   .mount_path = options.mount_path,
                   .fetcher = options.fetcher,
                   .sender = options.sender,
                   .stages_max = options.stages_max}),
        byte_stream(store, {.bytes_max =
                                store.GetStats().capacity_bytes / kPendingShare,
                            .patience = options.upload_patience}) {}

  absl::Status StartGrpc();
  absl::Status StartTcp();
  absl::Status StartAccepting();
  // Of the accept thread.
  bool MayConnect(int fd);
  void Welcome(UniqueFd connection);
  std::optional<UniqueFd> Number(UniqueFd connection, uid_t user);

  const Options options;
  ConnectionNumbers numbers;  // Of the accept thread.
  Sessions sessions;
  SandboxesService sandboxes;
  StoreService store_service;
  CasService cas;
  ActionCacheService actions;
  CapabilitiesService capabilities;
  LocalCasService local_cas;
  ByteStreamService byte_stream;

  std::optional<UnixListener> listener;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<TcpServer> tcp;
  std::unique_ptr<AcceptLoop> accept_loop;
  std::atomic<int64_t> refused = 0;
};

absl::Status ControlServer::Rep::StartGrpc() {
  KeepGrpcRunning();
  grpc::ResourceQuota quota("control");
  quota.SetMaxThreads(static_cast<int>(options.sessions_max +
                                       options.stages_max + options.calls_max +
                                       kPollersMax));
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(-1);
  builder.RegisterService(&sandboxes);
  builder.RegisterService(&store_service);
  builder.RegisterService(&cas);
  builder.RegisterService(&actions);
  builder.RegisterService(&capabilities);
  builder.RegisterService(&local_cas);
  builder.RegisterService(&byte_stream);
  server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::InternalError("gRPC: the server did not start");
  }
  return absl::OkStatus();
}

absl::Status ControlServer::Rep::StartTcp() {
  if (!options.tcp_address.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(
      tcp, TcpServer::Start({.address = *options.tcp_address,
                             .tls = options.tls,
                             .calls_max = options.calls_max,
                             .patience = options.connection_patience},
                            {&cas, &actions, &capabilities, &byte_stream}));
  return absl::OkStatus();
}

bool ControlServer::Rep::MayConnect(int fd) {
  const absl::StatusOr<Peer> peer = PeerOfSocket(fd);
  const bool may_connect =
      peer.ok() &&
      (peer->IsPrivileged() || (options.allow_group.has_value() &&
                                peer->IsInGroup(*options.allow_group)));
  if (!may_connect) refused.fetch_add(1);
  return may_connect;
}

std::optional<UniqueFd> ControlServer::Rep::Number(UniqueFd connection,
                                                   uid_t user) {
  absl::StatusOr<UniqueFd> numbered = numbers.Move(std::move(connection), user);
  if (numbered.ok()) return *std::move(numbered);
  refused.fetch_add(1);
  return std::nullopt;
}

void ControlServer::Rep::Welcome(UniqueFd connection) {
  const absl::StatusOr<Peer> peer = PeerOfSocket(connection.get());
  if (!peer.ok()) return;
  std::optional<UniqueFd> numbered = Number(std::move(connection), peer->uid);
  if (!numbered.has_value()) return;
  grpc::AddInsecureChannelFromFd(server.get(), numbered->Release());
}

absl::Status ControlServer::Rep::StartAccepting() {
  std::vector<AcceptLoop::Door> doors = {
      {.listener_fd = listener->fd(),
       .beginning = kHttp2Preface,
       .may_enter = [this](int fd) { return MayConnect(fd); },
       .welcome =
           [this](UniqueFd connection) { Welcome(std::move(connection)); }}};
  if (tcp != nullptr) {
    doors.push_back({.listener_fd = tcp->listener_fd(),
                     .beginning = tcp->beginning(),
                     .may_enter = [](int) { return true; },
                     .welcome =
                         [this](UniqueFd connection) {
                           std::optional<UniqueFd> numbered =
                               Number(std::move(connection), kTcpUser);
                           if (!numbered.has_value()) return;
                           tcp->Welcome(*std::move(numbered));
                         }});
  }
  ASSIGN_OR_RETURN(accept_loop, AcceptLoop::Start(std::move(doors),
                                                  options.connection_patience));
  return absl::OkStatus();
}

ControlServer::ControlServer(BlobStore& store, DirectoryTable& directories,
                             ActionCache& actions, SandboxTable& sandboxes,
                             std::function<std::vector<Metric>()> metrics,
                             Options options)
    : rep_(std::make_unique<Rep>(store, directories, actions, sandboxes,
                                 std::move(metrics), std::move(options))) {}

ControlServer::~ControlServer() { Shutdown(); }

absl::Status ControlServer::Start() {
  Rep& rep = *rep_;
  CASEMENT_CHECK(rep.server == nullptr);
  RETURN_IF_ERROR(CheckTcp(rep.options));
  const absl::StatusOr<std::string> default_path = DefaultSocketPath();
  absl::StatusOr<UnixListener> listener = UnixListener::Open(
      {.path = rep.options.socket_path,
       .make_parent =
           default_path.ok() && *default_path == rep.options.socket_path,
       .group = rep.options.allow_group});
  if (!listener.ok()) return listener.status();
  RETURN_IF_ERROR(rep.StartGrpc());
  rep.listener.emplace(*std::move(listener));
  absl::Status started = rep.StartTcp();
  if (started.ok()) started = rep.StartAccepting();
  if (!started.ok()) Shutdown();
  return started;
}

void ControlServer::Shutdown() {
  Rep& rep = *rep_;
  if (rep.server == nullptr) return;
  rep.accept_loop.reset();
  rep.listener.reset();
  rep.sandboxes.EndSessions();
  rep.local_cas.EndStages();
  if (rep.tcp != nullptr) rep.tcp->Shutdown(kGrace);
  rep.server->Shutdown(absl::ToChronoTime(absl::Now() + kGrace));
  rep.server->Wait();
  rep.server.reset();
  rep.tcp.reset();
}

std::string ControlServer::tcp_address() const {
  return rep_->tcp == nullptr ? "" : rep_->tcp->address().ToString();
}

int64_t ControlServer::refused_connections() const {
  return rep_->refused.load();
}

}  // namespace casement
