// casementd: see casementd(8).
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/unique_fd.h"
#include "daemon/daemon.h"
#include "daemon/log.h"
#include "daemon/options.h"

namespace casement {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

// One line on standard error, whatever the message holds.
int Fail(const absl::Status& status, int exit_status) {
  Log(status.message());
  return exit_status;
}

// Files that sandboxes wrote are open, as far as this allows, and so are blobs
// and clients' connections. Who has CAP_SYS_RESOURCE may raise the hard limit,
// too.
void RaiseOpenFilesLimit() {
  constexpr rlim_t kEnough = 1 << 18;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  rlimit enough = limit;
  enough.rlim_cur = enough.rlim_max = std::max(limit.rlim_max, kEnough);
  if (setrlimit(RLIMIT_NOFILE, &enough) != 0) setrlimit(RLIMIT_NOFILE, &limit);
}

// Signals that end the daemon; blocked in every thread, and waited for.
sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    sigaddset(&signals, signal);
  }
  return signals;
}

// The parent of a daemon in the background: returns when the child has said
// how its start went, with the status to exit with.
int AwaitChild(int pipe_fd) {
  char exit_status = kFailed;
  while (read(pipe_fd, &exit_status, 1) < 0 && errno == EINTR) {
  }
  return exit_status;
}

void TellParent(const UniqueFd& pipe, int exit_status) {
  if (!pipe.valid()) return;
  const auto byte = static_cast<char>(exit_status);
  [[maybe_unused]] const ssize_t wrote = write(pipe.get(), &byte, 1);
}

// Lets go of the terminal, once nothing more is to be said there.
void LeaveTerminal() {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    dup2(null.get(), fd);
  }
}

int Serve(const DaemonOptions& options, UniqueFd parent) {
  RaiseOpenFilesLimit();
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // The mount must not be kept busy, nor any other.
  if (chdir("/") != 0) return kFailed;
  auto daemon = Daemon::Start(options, [] { kill(getpid(), SIGTERM); });
  if (!daemon.ok()) {
    const int exit_status = Fail(daemon.status(), kFailed);
    TellParent(parent, exit_status);
    return exit_status;
  }
  TellParent(parent, 0);
  if (parent.valid()) LeaveTerminal();
  parent.Reset();
  int signal = 0;
  sigwait(&signals, &signal);
  return 0;
}

int ServeInBackground(const DaemonOptions& options) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    Log(absl::StrCat("pipe: ", strerror(errno)));
    return kFailed;
  }
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) {
    Log(absl::StrCat("fork: ", strerror(errno)));
    return kFailed;
  }
  if (child > 0) {
    write_end.Reset();
    return AwaitChild(read_end.get());
  }
  read_end.Reset();
  setsid();
  return Serve(options, std::move(write_end));
}

int Main(const std::vector<std::string>& words) {
  const ArgumentParser parser = DaemonArguments();
  for (const std::string& word : words) {
    if (word != "--version") continue;
    std::printf("casementd %s\n", CASEMENT_VERSION);
    return 0;
  }
  const absl::StatusOr<Arguments> arguments = parser.Parse(words);
  if (!arguments.ok()) return Fail(arguments.status(), kUsage);
  if (arguments->Has("help")) {
    std::fputs(parser.Help().c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<DaemonOptions> options = UnderstandOptions(*arguments);
  if (!options.ok()) {
    return Fail(options.status(),
                absl::IsInvalidArgument(options.status()) ? kUsage : kFailed);
  }
  if (options->foreground) return Serve(*options, UniqueFd());
  return ServeInBackground(*options);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  return casement::Main({argv + 1, argv + argc});
}
