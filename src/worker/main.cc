// casement-worker: see casement-worker(8).
#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "worker/log.h"
#include "worker/options.h"
#include "worker/worker_server.h"

namespace casement {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int Fail(const absl::Status& status, int exit_status) {
  Log(status.message());
  return exit_status;
}

int Serve(const WorkerServer::Options& options) {
  // Blocked in every thread, and waited for.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const absl::StatusOr<std::unique_ptr<WorkerServer>> server =
      WorkerServer::Start(options);
  if (!server.ok()) return Fail(server.status(), kFailed);
  Log(absl::StrCat("listening on ", (*server)->address()));
  int signal = 0;
  sigwait(&signals, &signal);
  return 0;
}

int Main(const std::vector<std::string>& words) {
  const ArgumentParser parser = WorkerArguments();
  for (const std::string& word : words) {
    if (word != "--version") continue;
    std::printf("casement-worker %s\n", CASEMENT_VERSION);
    return 0;
  }
  const absl::StatusOr<Arguments> arguments = parser.Parse(words);
  if (!arguments.ok()) return Fail(arguments.status(), kUsage);
  if (arguments->Has("help")) {
    std::fputs(parser.Help().c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<WorkerServer::Options> options =
      UnderstandWorkerOptions(*arguments);
  if (!options.ok()) {
    return Fail(options.status(),
                absl::IsInvalidArgument(options.status()) ? kUsage : kFailed);
  }
  return Serve(*options);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main({argv + 1, argv + argc});
}
