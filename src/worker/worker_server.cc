#include "worker/worker_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/check.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "casement/client.h"
#include "proto/grpc_lifetime.h"
#include "worker/action_results.h"
#include "worker/action_runner.h"
#include "worker/execution_service.h"
#include "worker/forwarding_services.h"

namespace casement {
namespace {

// Calls besides those that wait for an execution, and gRPC's own pollers.
constexpr size_t kOtherThreadsMax = 128;
// As casementd takes.
constexpr int kRequestBytesMax = 8 << 20;
constexpr int kHandshakeMs = 10'000;
// How long calls may still run when the server stops.
constexpr absl::Duration kGrace = absl::Seconds(1);

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& socket) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // After casementd was restarted. A unix socket answers at once or never.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  return grpc::CreateCustomChannel(
      "unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

struct WorkerServer::Rep {
  Rep(const Options& options, std::unique_ptr<Client> connected, UniqueFd event)
      : address(options.address),
        client(std::move(connected)),
        cancel(std::move(event)),
        channel(ChannelTo(options.casementd_socket)),
        results(channel),
        runner(
            *client, results,
            {.cancel_fd = cancel.get(), .send_outputs = options.send_outputs}),
        executions(options.executions,
                   [this](const ActionSpec& spec, absl::Time queued) {
                     return runner.Run(spec, queued);
                   }),
        execution(*client, results, executions, options.limits),
        cas(channel),
        action_cache(channel),
        byte_stream(channel),
        capabilities(channel) {}

  absl::Status Serve(const Options& options);

  std::string address;
  const std::unique_ptr<Client> client;
  const UniqueFd cancel;  // An eventfd.
  const std::shared_ptr<grpc::Channel> channel;
  ActionResults results;
  ActionRunner runner;
  Executions executions;
  ExecutionService execution;
  ForwardedCas cas;
  ForwardedActionCache action_cache;
  ForwardedByteStream byte_stream;
  WorkerCapabilities capabilities;
  std::unique_ptr<grpc::Server> server;
};

absl::Status WorkerServer::Rep::Serve(const Options& options) {
  grpc::ResourceQuota quota("worker");
  quota.SetMaxThreads(static_cast<int>(options.executions.waiting_max +
                                       options.executions.jobs +
                                       kOtherThreadsMax));
  grpc::ServerBuilder builder;
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(kRequestBytesMax);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                             kHandshakeMs);
  // Or a second worker would share the port.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int port = 0;
  builder.AddListeningPort(options.address, grpc::InsecureServerCredentials(),
                           &port);
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           &execution, &cas, &action_cache, &byte_stream, &capabilities}) {
    builder.RegisterService(service);
  }
  // Whoever can open the socket runs commands as us.
  const mode_t before = ::umask(0177);
  server = builder.BuildAndStart();
  ::umask(before);
  if (server == nullptr || port == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("listening on ", options.address,
                     ": the address cannot be used, or is used already"));
  }
  if (!absl::StartsWith(address, "unix:")) {
    address = absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const Options& options) {
  KeepGrpcRunning();
  ASSIGN_OR_RETURN(std::unique_ptr<Client> client,
                   Client::Connect(options.casementd_socket));
  // Whether it could, at least: nothing is sent.
  if (options.send_outputs) RETURN_IF_ERROR(client->Send({}));
  UniqueFd cancel(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!cancel.valid()) return ErrnoStatus(errno, "eventfd");
  auto rep =
      std::make_unique<Rep>(options, std::move(client), std::move(cancel));
  RETURN_IF_ERROR(rep->Serve(options));
  return std::unique_ptr<WorkerServer>(new WorkerServer(std::move(rep)));
}

WorkerServer::WorkerServer(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

WorkerServer::~WorkerServer() {
  const uint64_t one = 1;
  // Cannot fail: the counter was 0.
  CASEMENT_CHECK(::write(rep_->cancel.get(), &one, sizeof(one)) == sizeof(one));
  // So that their clients are told before the server goes.
  rep_->executions.Stop();
  rep_->server->Shutdown(absl::ToChronoTime(absl::Now() + kGrace));
  rep_->server->Wait();
}

const std::string& WorkerServer::address() const { return rep_->address; }

}  // namespace casement
