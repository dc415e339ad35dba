#include "cli/bubblewrap.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "nlohmann/json.hpp"

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

// What bubblewrap tells of the command, as JSON objects one after the other.
class StatusPipe {
 public:
  static absl::StatusOr<StatusPipe> Open() {
    int ends[2];
    // The read end for us alone; the other for bubblewrap, which we spawn.
    if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return StatusPipe(ends);
  }

  int read_fd() const { return read_end_.get(); }
  int write_fd() const { return write_end_.get(); }
  void CloseWriteEnd() { write_end_.Reset(); }

  // False at the end.
  bool Take() {
    char buffer[4096];
    const ssize_t got = ::read(read_fd(), buffer, sizeof(buffer));
    if (got > 0) text_.append(buffer, got);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
  }
  // The first process of the command's namespace, once known.
  pid_t init() const { return Number("child-pid").value_or(-1); }
  // Whether bubblewrap came so far as to wait for the command.
  bool has_exit_code() const { return Number("exit-code").has_value(); }

 private:
  explicit StatusPipe(int ends[2]) : read_end_(ends[0]), write_end_(ends[1]) {}

  // A field of one of the objects, which come a line each.
  std::optional<int> Number(const std::string& field) const {
    size_t start = 0;
    for (size_t end; (end = text_.find('\n', start)) != std::string::npos;
         start = end + 1) {
      const auto json =
          nlohmann::json::parse(text_.substr(start, end - start), nullptr,
                                /*allow_exceptions=*/false);
      if (!json.is_object()) continue;
      const auto value = json.find(field);
      if (value != json.end() && value->is_number_integer()) {
        return value->get<int>();
      }
    }
    return std::nullopt;
  }

  UniqueFd read_end_;
  UniqueFd write_end_;
  std::string text_;
};

// The new process, between fork(2) and exec: system calls only. Its --die-with-
// parent comes too late if we are killed before it is read, so the kernel is
// told here; the setting survives exec.
[[noreturn]] void BecomeProgram(char* const* argv, pid_t parent,
                                int inherited_fd, bool stdout_to_stderr,
                                int error_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::fcntl(inherited_fd, F_SETFD, 0);
  if (stdout_to_stderr) ::dup2(STDERR_FILENO, STDOUT_FILENO);
  ::execvp(argv[0], argv);
  const int error = errno;
  [[maybe_unused]] const ssize_t wrote =
      ::write(error_fd, &error, sizeof(error));
  ::_exit(1);
}

// Call it from the main thread: the program dies with the thread that made it.
absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& words,
                            int inherited_fd, bool stdout_to_stderr) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  int ends[2];  // Closed by a successful exec, which is how we know of it.
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    BecomeProgram(argv.data(), parent, inherited_fd, stdout_to_stderr,
                  write_end.get());
  }
  if (pid < 0) return ErrnoStatus(errno, "fork");
  write_end.Reset();
  int error = 0;
  if (::read(read_end.get(), &error, sizeof(error)) == sizeof(error)) {
    ::waitpid(pid, nullptr, 0);
    return absl::FailedPreconditionError(absl::StrCat(
        "run needs bubblewrap: ", MakeErrnoStatus(error, words[0]).message()));
  }
  return pid;
}

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
bool PassOnSignals(const UniqueFd& process, pid_t bubblewrap,
                   StatusPipe& status, SignalCatcher& signals) {
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
      ::kill(command > 0 ? command : bubblewrap, signal.number);
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
  ASSIGN_OR_RETURN(StatusPipe status, StatusPipe::Open());
  std::vector<std::string> words = BubblewrapWords(options);
  words.insert(words.begin() + 1,
               {"--json-status-fd", absl::StrCat(status.write_fd())});
  ASSIGN_OR_RETURN(const std::unique_ptr<SignalCatcher> signals,
                   SignalCatcher::Start());
  ASSIGN_OR_RETURN(const pid_t pid,
                   Spawn(words, status.write_fd(), options.stdout_to_stderr));
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
  result.exit_status = WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
                                                : WEXITSTATUS(wait_status);
  if (status.init() < 0 && !WIFSIGNALED(wait_status)) {
    return absl::FailedPreconditionError(
        absl::StrCat("run: bubblewrap could not start the command in ",
                     options.sandbox, "; it says why above"));
  }
  return result;
}

}  // namespace casement
