#include "worker/options.h"

#include <algorithm>
#include <thread>  // NOLINT: how many CPUs there are.

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/tcp_address.h"
#include "proto/socket_path.h"

namespace casement {
namespace {

// Each has a session of casementd's, which has 256 for all.
constexpr int64_t kJobsMax = 200;
constexpr int64_t kQueueMax = 100'000;
constexpr int64_t kTimeoutSecondsMax = 7 * 24 * 3600;

// In gRPC's words.
absl::StatusOr<std::string> AddressOf(const std::string& text) {
  if (absl::StartsWith(text, "unix:")) {
    if (text.size() > 5) return text;
    return absl::InvalidArgumentError("--listen unix: needs a path");
  }
  const absl::StatusOr<TcpAddress> address = TcpAddress::Parse(text);
  if (!address.ok()) return Annotate(address.status(), "--listen");
  if (address->IsLoopback()) return address->ToString();
  return absl::InvalidArgumentError(
      absl::StrCat("--listen ", address->ToString(),
                   ": must be a loopback address or unix:PATH, as whoever "
                   "connects runs commands"));
}

}  // namespace

ArgumentParser WorkerArguments() {
  const unsigned cpus = std::max(std::thread::hardware_concurrency(), 1U);
  ArgumentParser parser(
      "casement-worker --listen ADDRESS [OPTION]...",
      "Executes actions of remote execution clients (REv2) in sandboxes of "
      "casementd.");
  parser
      .Add({.name = "listen",
            .placeholder = "ADDRESS",
            .help = "where clients connect: unix:PATH, or HOST:PORT with a "
                    "loopback address and port 0 for any",
            .is_required = true})
      .Add({.name = "socket",
            .placeholder = "PATH",
            .help = "casementd's socket; by default $CASEMENT_SOCKET, else "
                    "/run/casement/casement.sock for root and "
                    "$XDG_RUNTIME_DIR/casement.sock for others"})
      .Add({.name = "jobs",
            .placeholder = "N",
            .help = "how many actions may run at a time; as many as there are "
                    "CPUs if not given",
            .default_value = absl::StrCat(cpus)})
      .Add({.name = "queue-max",
            .placeholder = "N",
            .help = "how many more may wait; past it they are refused",
            .default_value = "1024"})
      .Add({.name = "timeout-max",
            .placeholder = "SECONDS",
            .help = "the longest that an action may run, and how long one may "
                    "that does not say",
            .default_value = "3600"})
      .Add({.name = "ignore-platform",
            .help = "run actions whatever platform they ask for"})
      .Add({.name = "send-outputs",
            .help = "send what actions give to casementd's remote cache, too, "
                    "before their results are told"})
      .Add({.name = "version", .help = "print the version and exit"});
  return parser;
}

absl::StatusOr<WorkerServer::Options> UnderstandWorkerOptions(
    const Arguments& arguments) {
  WorkerServer::Options options;
  ASSIGN_OR_RETURN(options.address, AddressOf(arguments.Get("listen")));
  ASSIGN_OR_RETURN(options.casementd_socket,
                   ResolveSocketPath(arguments.Get("socket")));
  ASSIGN_OR_RETURN(const int64_t jobs,
                   arguments.GetInteger("jobs", 1, kJobsMax));
  ASSIGN_OR_RETURN(const int64_t queue_max,
                   arguments.GetInteger("queue-max", 0, kQueueMax));
  ASSIGN_OR_RETURN(const int64_t timeout_seconds,
                   arguments.GetInteger("timeout-max", 1, kTimeoutSecondsMax));
  options.executions.jobs = static_cast<size_t>(jobs);
  options.executions.waiting_max = static_cast<size_t>(queue_max);
  options.limits.timeout_max = absl::Seconds(timeout_seconds);
  options.send_outputs = arguments.Has("send-outputs");
  options.limits.ignore_platform = arguments.Has("ignore-platform");
  return options;
}

}  // namespace casement
