#include "run/bubblewrap_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "run/keeper.h"

namespace casement {
namespace {

std::vector<char*> Pointers(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (const std::string& word : words) {
    pointers.push_back(const_cast<char*>(word.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// The new process, between fork(2) and exec: system calls only.
void BecomeProgram(char* const* argv, char* const* environment,
                   const SpawnOptions& options, int error_fd) {
  ::fcntl(options.inherited_fd, F_SETFD, 0);
  if (options.stdin_fd) ::dup2(*options.stdin_fd, STDIN_FILENO);
  if (options.stdout_fd) ::dup2(*options.stdout_fd, STDOUT_FILENO);
  if (options.stderr_fd) ::dup2(*options.stderr_fd, STDERR_FILENO);
  if (options.unblock_signals) {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }
  ::execvpe(argv[0], argv, environment);
  const int error = errno;
  [[maybe_unused]] const ssize_t wrote =
      ::write(error_fd, &error, sizeof(error));
}

}  // namespace

absl::StatusOr<BubblewrapStatus> BubblewrapStatus::Open() {
  int ends[2];
  // The read end for us alone; the other for bubblewrap, which we spawn.
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
  return BubblewrapStatus(std::move(read_end), std::move(write_end));
}

bool BubblewrapStatus::Take() {
  char buffer[4096];
  const ssize_t got = ::read(read_fd(), buffer, sizeof(buffer));
  if (got > 0) text_.append(buffer, got);
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

// A field of one of the objects, which come a line each.
std::optional<int> BubblewrapStatus::Number(const std::string& field) const {
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

absl::StatusOr<pid_t> SpawnBubblewrap(const SpawnOptions& options) {
  const std::vector<char*> argv = Pointers(options.words);
  std::vector<char*> environment;
  if (options.environment.has_value()) {
    environment = Pointers(*options.environment);
  }
  char* const* const given =
      options.environment.has_value() ? environment.data() : environ;
  int ends[2];  // Closed by a successful exec, which is how we know of it.
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t pid = StartKept(
      [&] { BecomeProgram(argv.data(), given, options, write_end.get()); });
  if (pid < 0) return ErrnoStatus(errno, "fork");
  write_end.Reset();
  int error = 0;
  if (::read(read_end.get(), &error, sizeof(error)) == sizeof(error)) {
    ::waitpid(pid, nullptr, 0);
    return absl::FailedPreconditionError(
        absl::StrCat("run needs bubblewrap: ",
                     MakeErrnoStatus(error, options.words[0]).message()));
  }
  return pid;
}

int ExitStatusOf(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status)
                                  : WEXITSTATUS(wait_status);
}

}  // namespace casement
