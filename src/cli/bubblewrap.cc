#include "cli/bubblewrap.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "run/bubblewrap_process.h"

namespace casement {
namespace {

constexpr std::array<int, 4> kForwarded = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

// Where the signal handler writes. A handler knows nothing else.
int signal_pipe_write_fd = -1;

struct Signal {
  int number;
  // From the terminal: the command, in our process group, has it already.
  bool is_from_terminal;
};

void OnSignal(int number, siginfo_t* info, void*) {
  const int saved_errno = errno;
  const Signal signal = {.number = number,
                         .is_from_terminal = info->si_code == SI_KERNEL};
  // Smaller than PIPE_BUF: all or nothing. A full pipe holds many already.
  [[maybe_unused]] const ssize_t written =
      ::write(signal_pipe_write_fd, &signal, sizeof(signal));
  errno = saved_errno;
}

// Catches the forwarded signals while it lives; as they were before, after.
class SignalCatcher {
 public:
  static absl::StatusOr<std::unique_ptr<SignalCatcher>> Start() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
      return ErrnoStatus(errno, "pipe");
    }
    return std::unique_ptr<SignalCatcher>(new SignalCatcher(ends));
  }
  SignalCatcher(const SignalCatcher&) = delete;
  SignalCatcher& operator=(const SignalCatcher&) = delete;
  ~SignalCatcher() {
    for (size_t i = 0; i < kForwarded.size(); ++i) {
      ::sigaction(kForwarded[i], &before_[i], nullptr);
    }
    signal_pipe_write_fd = -1;
  }

  int fd() const { return read_end_.get(); }
  bool Next(Signal& signal) {
    return ::read(fd(), &signal, sizeof(signal)) == sizeof(signal);
  }

 private:
  explicit SignalCatcher(int ends[2])
      : read_end_(ends[0]), write_end_(ends[1]) {
    signal_pipe_write_fd = write_end_.get();
    struct sigaction action = {};
    action.sa_sigaction = OnSignal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    ::sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kForwarded.size(); ++i) {
      ::sigaction(kForwarded[i], nullptr, &before_[i]);
      // What nohup(1) and its like ignore stays ignored.
      if (before_[i].sa_handler == SIG_IGN) continue;
      ::sigaction(kForwarded[i], &action, nullptr);
    }
  }

  UniqueFd read_end_;
  UniqueFd write_end_;
  std::array<struct sigaction, kForwarded.size()> before_ = {};
};

// The oldest child of a process, -1 if it has none. The first process of a
// namespace is bubblewrap's, and its first child is the command; to the first
// process itself no signal comes but SIGKILL (pid_namespaces(7)).
pid_t FirstChildOf(pid_t process) {
  if (process <= 0) return -1;
  std::ifstream children(
      absl::StrCat("/proc/", process, "/task/", process, "/children"));
  pid_t first = -1;
  return children >> first ? first : -1;
}

// Until bubblewrap has ended; whether a signal came.
bool PassOnSignals(const UniqueFd& process, pid_t keeper,
                   BubblewrapStatus& status, SignalCatcher& signals) {
  bool was_interrupted = false;
  bool is_status_open = true;
  for (;;) {
    pollfd waiting[] = {{.fd = process.get(), .events = POLLIN, .revents = 0},
                        {.fd = signals.fd(), .events = POLLIN, .revents = 0},
                        {.fd = is_status_open ? status.read_fd() : -1,
                         .events = POLLIN,
                         .revents = 0}};
    if (::poll(waiting, std::size(waiting), -1) < 0) continue;  // EINTR.
    if (waiting[2].revents != 0) is_status_open = status.Take();
    Signal signal;
    while (signals.Next(signal)) {
      was_interrupted = true;
      if (signal.is_from_terminal) continue;
      // bubblewrap itself would die of it, and take the command with it before
      // that could clean up.
      const pid_t command = FirstChildOf(status.init());
      if (command > 0) {
        ::kill(command, signal.number);
      } else {
        ::kill(keeper, SIGTERM);
      }
    }
    if (waiting[0].revents != 0) return was_interrupted;
  }
}

bool IsDirectory(const std::string& path) {
  struct stat there;
  return ::lstat(path.c_str(), &there) == 0 && S_ISDIR(there.st_mode);
}

}  // namespace

std::vector<std::string> BubblewrapWords(const BubblewrapOptions& options) {
  const std::string& sandbox = options.sandbox;
  std::vector<std::string> words = {"bwrap", "--die-with-parent",
                                    "--unshare-pid"};
  const auto add = [&words](std::initializer_list<std::string> more) {
    words.insert(words.end(), more);
  };
  if (!options.is_root) {
    add({"--dev-bind", "/", "/", "--proc", "/proc", "--bind", sandbox, sandbox,
         "--chdir", sandbox});
  } else {
    add({"--bind", sandbox, "/"});
    if (IsDirectory(sandbox + "/proc")) add({"--proc", "/proc"});
    if (IsDirectory(sandbox + "/dev")) add({"--dev", "/dev"});
    if (IsDirectory(sandbox + "/tmp")) add({"--tmpfs", "/tmp"});
    add({"--chdir", "/"});
  }
  add({"--"});
  words.insert(words.end(), options.command.begin(), options.command.end());
  return words;
}

absl::StatusOr<BubblewrapResult> RunBubblewrap(
    const BubblewrapOptions& options) {
  ASSIGN_OR_RETURN(BubblewrapStatus status, BubblewrapStatus::Open());
  std::vector<std::string> words = BubblewrapWords(options);
  words.insert(words.begin() + 1,
               {"--json-status-fd", absl::StrCat(status.write_fd())});
  ASSIGN_OR_RETURN(const std::unique_ptr<SignalCatcher> signals,
                   SignalCatcher::Start());
  // On this thread, the main one: the program dies with who made it.
  SpawnOptions spawn = {.words = std::move(words),
                        .inherited_fd = status.write_fd()};
  if (options.stdout_to_stderr) spawn.stdout_fd = STDERR_FILENO;
  ASSIGN_OR_RETURN(const pid_t pid, SpawnBubblewrap(spawn));
  status.CloseWriteEnd();
  const UniqueFd process(
      static_cast<int>(::syscall(SYS_pidfd_open, pid, /*flags=*/0)));
  if (!process.valid()) return ErrnoStatus(errno, "pidfd_open");
  BubblewrapResult result;
  result.was_interrupted = PassOnSignals(process, pid, status, *signals);
  int wait_status = 0;
  if (::waitpid(pid, &wait_status, 0) != pid) {
    return ErrnoStatus(errno, "waitpid");
  }
  status.Take();
  result.exit_status = ExitStatusOf(wait_status);
  if (status.init() < 0 && !WIFSIGNALED(wait_status)) {
    return absl::FailedPreconditionError(
        absl::StrCat("run: bubblewrap could not start the command in ",
                     options.sandbox, "; it says why above"));
  }
  return result;
}

}  // namespace casement
