#include "worker/action_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "run/bubblewrap_process.h"

namespace casement {
namespace {

using End = ProcessResult::End;

// One of the command's streams.
class Stream {
 public:
  static absl::StatusOr<Stream> Open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
    Stream stream;
    stream.read_end_.Reset(ends[0]);
    stream.write_end_.Reset(ends[1]);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return stream;
  }

  // -1 at the end, which poll(2) skips.
  int read_fd() const { return read_end_.get(); }
  int write_fd() const { return write_end_.get(); }
  void CloseWriteEnd() { write_end_.Reset(); }
  // All that is there now, or more than may be there in all.
  void Take(int64_t bytes_max) {
    std::array<char, 65536> buffer;
    for (;;) {
      const ssize_t got = ::read(read_fd(), buffer.data(), buffer.size());
      if (got > 0) {
        text_.append(buffer.data(), got);
        if (size() > bytes_max) return;
      } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
        read_end_.Reset();
        return;
      } else if (errno == EAGAIN) {
        return;
      }
    }
  }
  int64_t size() const { return static_cast<int64_t>(text_.size()); }
  std::string TakeText() { return std::move(text_); }

 private:
  UniqueFd read_end_;
  UniqueFd write_end_;
  std::string text_;
};

struct Pipes {
  BubblewrapStatus status;
  Stream out;
  Stream err;
};

absl::StatusOr<Pipes> OpenPipes() {
  ASSIGN_OR_RETURN(BubblewrapStatus status, BubblewrapStatus::Open());
  ASSIGN_OR_RETURN(Stream out, Stream::Open());
  ASSIGN_OR_RETURN(Stream err, Stream::Open());
  return Pipes{std::move(status), std::move(out), std::move(err)};
}

absl::StatusOr<pid_t> Spawn(const ProcessOptions& options, Pipes& pipes) {
  SpawnOptions spawn = {.words = ActionWords(options),
                        .inherited_fd = pipes.status.write_fd(),
                        .stdout_fd = pipes.out.write_fd(),
                        .stderr_fd = pipes.err.write_fd(),
                        .environment = options.environment,
                        .unblock_signals = true};
  spawn.words.insert(
      spawn.words.begin() + 1,
      {"--json-status-fd", absl::StrCat(pipes.status.write_fd())});
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return ErrnoStatus(errno, "/dev/null");
  spawn.stdin_fd = null.get();
  ASSIGN_OR_RETURN(const pid_t pid, SpawnBubblewrap(spawn));
  pipes.status.CloseWriteEnd();
  pipes.out.CloseWriteEnd();
  pipes.err.CloseWriteEnd();
  return pid;
}

int MillisecondsUntil(absl::Time deadline) {
  const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now()) + 1;
  return static_cast<int>(
      std::clamp<int64_t>(left, 0, std::numeric_limits<int>::max()));
}

// Until bubblewrap has ended.
End Attend(const ProcessOptions& options, pid_t keeper, int process_fd,
           Pipes& pipes) {
  const absl::Time deadline = absl::Now() + options.timeout;
  End end = End::kByItself;
  bool is_status_open = true;
  for (;;) {
    const bool is_killed = end != End::kByItself;
    pollfd polled[] = {
        {.fd = process_fd, .events = POLLIN, .revents = 0},
        {.fd = is_status_open ? pipes.status.read_fd() : -1,
         .events = POLLIN,
         .revents = 0},
        {.fd = pipes.out.read_fd(), .events = POLLIN, .revents = 0},
        {.fd = pipes.err.read_fd(), .events = POLLIN, .revents = 0},
        {.fd = is_killed ? -1 : options.cancel_fd,
         .events = POLLIN,
         .revents = 0}};
    const int timeout_ms = is_killed ? -1 : MillisecondsUntil(deadline);
    if (::poll(polled, std::size(polled), timeout_ms) < 0) continue;  // EINTR.
    if (polled[1].revents != 0) is_status_open = pipes.status.Take();
    if (polled[2].revents != 0) pipes.out.Take(options.output_bytes_max);
    if (polled[3].revents != 0) pipes.err.Take(options.output_bytes_max);
    if (polled[0].revents != 0) return end;
    if (is_killed) continue;
    if (absl::Now() >= deadline) end = End::kTimeout;
    if (std::max(pipes.out.size(), pipes.err.size()) >
        options.output_bytes_max) {
      end = End::kTooMuchOutput;
    }
    if (polled[4].revents != 0) end = End::kCancelled;
    // It ends when all of them have.
    if (end != End::kByItself) ::kill(keeper, SIGTERM);
  }
}

}  // namespace

std::vector<std::string> ActionWords(const ProcessOptions& options) {
  const std::string& sandbox = options.sandbox;
  const std::string directory =
      options.working_directory.empty()
          ? sandbox
          : absl::StrCat(sandbox, "/", options.working_directory);
  std::vector<std::string> words = {"bwrap",
                                    "--die-with-parent",
                                    "--new-session",
                                    "--unshare-pid",
                                    "--dev-bind",
                                    "/",
                                    "/",
                                    "--proc",
                                    "/proc",
                                    "--bind",
                                    sandbox,
                                    sandbox,
                                    "--chdir",
                                    directory,
                                    "--"};
  // bubblewrap sets PWD, which Bazel gives another value than the directory's.
  std::vector<std::string> pwd = {"-u", "PWD", "--"};
  for (const std::string& variable : options.environment) {
    if (absl::StartsWith(variable, "PWD=")) pwd = {"--", variable};
  }
  words.emplace_back("/usr/bin/env");
  words.insert(words.end(), pwd.begin(), pwd.end());
  words.insert(words.end(), options.command.begin(), options.command.end());
  return words;
}

absl::StatusOr<ProcessResult> RunAction(const ProcessOptions& options) {
  ASSIGN_OR_RETURN(Pipes pipes, OpenPipes());
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(options, pipes));
  const UniqueFd process(
      static_cast<int>(::syscall(SYS_pidfd_open, pid, /*flags=*/0)));
  if (!process.valid()) {
    const int error = errno;
    ::kill(pid, SIGTERM);
    ::waitpid(pid, nullptr, 0);
    return ErrnoStatus(error, "pidfd_open");
  }
  ProcessResult result;
  result.end = Attend(options, pid, process.get(), pipes);
  int wait_status = 0;
  if (::waitpid(pid, &wait_status, 0) != pid) {
    return ErrnoStatus(errno, "waitpid");
  }
  pipes.status.Take();
  // What is still in the pipes.
  pipes.out.Take(options.output_bytes_max);
  pipes.err.Take(options.output_bytes_max);
  result.out = pipes.out.TakeText();
  result.err = pipes.err.TakeText();
  result.exit_status = ExitStatusOf(wait_status);
  if (pipes.status.init() < 0 && result.end == End::kByItself) {
    return absl::FailedPreconditionError(
        absl::StrCat("bubblewrap could not start the command: ",
                     absl::StripAsciiWhitespace(result.err)));
  }
  return result;
}

}  // namespace casement
