#include "control/control_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>  // NOLINT: gRPC's deadlines.
#include <thread>  // NOLINT
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "base/status.h"
#include "base/unique_fd.h"
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
#include "control/unix_listener.h"
#include "control/waiting_connections.h"
#include "proto/grpc_lifetime.h"
#include "proto/socket_path.h"

namespace casement {
namespace {

// How long calls may still run when the server stops.
constexpr std::chrono::seconds kGrace{1};
// Uploads that broke off get at most this part of the store.
constexpr int64_t kPendingShare = 4;
// How long to wait when no descriptor is free to accept with.
constexpr std::chrono::milliseconds kAcceptPause{50};
// gRPC's own pollers, besides the calls.
constexpr size_t kPollersMax = 4;

}  // namespace

struct ControlServer::Rep {
  Rep(BlobStore& store, DirectoryTable& directories, ActionCache& results,
      SandboxTable& table, std::function<std::vector<Metric>()> metrics,
      Options given)
      : options(std::move(given)),
        numbers(options.connections_of_user_max),
        sessions(options.sessions_max),
        sandboxes(table, sessions),
        store_service(store, directories, table, sessions, options.mount_path,
                      std::move(metrics)),
        cas(store),
        actions(store, results),
        local_cas(store, directories, table,
                  {.store_path = options.store_path,
                   .mount_path = options.mount_path,
                   .stages_max = options.stages_max}),
        byte_stream(store, {.bytes_max =
                                store.GetStats().capacity_bytes / kPendingShare,
                            .patience = options.upload_patience}) {}

  absl::Status StartGrpc();
  // The accept thread: until `stop` can be read.
  void Accept();
  void AcceptOne();
  void Welcome(UniqueFd connection);
  bool MayConnect(int fd) const;

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
  UniqueFd stop;  // An eventfd.
  std::unique_ptr<grpc::Server> server;
  std::optional<WaitingConnections> waiting;  // Of the accept thread.
  std::thread accept_thread;
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

bool ControlServer::Rep::MayConnect(int fd) const {
  const absl::StatusOr<Peer> peer = PeerOfSocket(fd);
  if (!peer.ok()) return false;
  return peer->IsPrivileged() || (options.allow_group.has_value() &&
                                  peer->IsInGroup(*options.allow_group));
}

void ControlServer::Rep::Welcome(UniqueFd connection) {
  const absl::StatusOr<Peer> peer = PeerOfSocket(connection.get());
  if (!peer.ok()) return;
  absl::StatusOr<UniqueFd> numbered =
      numbers.Move(std::move(connection), peer->uid);
  if (!numbered.ok()) {
    refused.fetch_add(1);
    return;
  }
  grpc::AddInsecureChannelFromFd(server.get(), numbered->Release());
}

void ControlServer::Rep::AcceptOne() {
  UniqueFd connection(::accept4(listener->fd(), nullptr, nullptr,
                                SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (connection.valid()) {
    if (MayConnect(connection.get())) {
      waiting->Add(std::move(connection), absl::Now());
    } else {
      refused.fetch_add(1);
    }
  } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
             errno == ENOBUFS) {
    std::this_thread::sleep_for(kAcceptPause);
  }
}

void ControlServer::Rep::Accept() {
  pollfd polled[] = {{.fd = listener->fd(), .events = POLLIN, .revents = 0},
                     {.fd = stop.get(), .events = POLLIN, .revents = 0},
                     {.fd = waiting->fd(), .events = POLLIN, .revents = 0}};
  for (;;) {
    // One millisecond more than is left, so as not to come too early.
    const int timeout_ms =
        waiting->size() == 0
            ? -1
            : static_cast<int>(std::max<int64_t>(
                  absl::ToInt64Milliseconds(waiting->deadline() - absl::Now()) +
                      1,
                  0));
    if (::poll(polled, 3, timeout_ms) < 0) {
      if (errno == EINTR) continue;
      return;
    }
    if (polled[1].revents != 0) return;
    // First, so that those who have spoken are not closed for newer ones.
    for (UniqueFd& ready : waiting->TakeReady(absl::Now())) {
      Welcome(std::move(ready));
    }
    if (polled[0].revents != 0) AcceptOne();
  }
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
  const absl::StatusOr<std::string> default_path = DefaultSocketPath();
  absl::StatusOr<UnixListener> listener = UnixListener::Open(
      {.path = rep.options.socket_path,
       .make_parent =
           default_path.ok() && *default_path == rep.options.socket_path,
       .group = rep.options.allow_group});
  if (!listener.ok()) return listener.status();
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return ErrnoStatus(errno, "eventfd");
  ASSIGN_OR_RETURN(
      rep.waiting,
      WaitingConnections::Make({.patience = rep.options.connection_patience}));
  RETURN_IF_ERROR(rep.StartGrpc());
  rep.listener.emplace(*std::move(listener));
  rep.stop = std::move(stop);
  rep.accept_thread = std::thread([&rep] { rep.Accept(); });
  return absl::OkStatus();
}

void ControlServer::Shutdown() {
  Rep& rep = *rep_;
  if (rep.server == nullptr) return;
  const uint64_t one = 1;
  // Cannot fail: the counter was 0.
  CASEMENT_CHECK(::write(rep.stop.get(), &one, sizeof(one)) == sizeof(one));
  rep.accept_thread.join();
  rep.listener.reset();
  rep.waiting.reset();
  rep.sandboxes.EndSessions();
  rep.local_cas.EndStages();
  rep.server->Shutdown(std::chrono::system_clock::now() + kGrace);
  rep.server->Wait();
  rep.server.reset();
}

int64_t ControlServer::refused_connections() const {
  return rep_->refused.load();
}

}  // namespace casement
