#include "run/keeper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace casement {
namespace {

// Kills all children of this process that there are now. False if the kernel
// does not name them (CONFIG_PROC_CHILDREN).
bool KillChildren() {
  const int fd = ::open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  std::array<char, 4096> text;  // "12 345 "
  pid_t pid = 0;
  for (ssize_t got; (got = ::read(fd, text.data(), text.size())) > 0;) {
    for (ssize_t i = 0; i < got; ++i) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');
      } else if (pid > 0) {
        ::kill(pid, SIGKILL);
        pid = 0;
      }
    }
  }
  ::close(fd);
  return true;
}

[[noreturn]] void EndLike(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int number = WTERMSIG(wait_status);
    const rlimit no_core{};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(number, SIG_DFL);
    sigset_t one;
    ::sigemptyset(&one);
    ::sigaddset(&one, number);
    ::kill(::getpid(), number);  // Blocked until now.
    ::sigprocmask(SIG_UNBLOCK, &one, nullptr);
    ::_exit(128 + number);
  }
  ::_exit(WEXITSTATUS(wait_status));
}

// All signals are blocked.
[[noreturn]] void Keep(pid_t program, pid_t parent) {
  // Nobody waits for the end of a pipe because we hold it.
  ::syscall(SYS_close_range, 0, ~0U, 0);
  sigset_t awaited;
  ::sigemptyset(&awaited);
  ::sigaddset(&awaited, SIGCHLD);
  ::sigaddset(&awaited, SIGTERM);
  bool is_over = ::getppid() != parent;
  bool has_ended = false;
  int result = 0;
  for (;;) {
    int wait_status = 0;
    pid_t ended;
    while ((ended = ::waitpid(-1, &wait_status, WNOHANG)) > 0) {
      if (ended != program) continue;
      has_ended = is_over = true;
      result = wait_status;
    }
    if (ended < 0 && has_ended) EndLike(result);  // ECHILD
    if (is_over && !KillChildren()) {
      if (has_ended) EndLike(result);
      ::kill(program, SIGKILL);
    }
    const int number = ::sigwaitinfo(&awaited, nullptr);
    if (number == SIGTERM) is_over = true;
  }
}

}  // namespace

pid_t StartKept(absl::FunctionRef<void()> become_program) {
  // What we do at a signal is not for the keeper to do.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t parent = ::getpid();
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    const pid_t self = ::getpid();
    const pid_t program = ::fork();
    if (program == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != self) ::_exit(1);
      ::sigprocmask(SIG_SETMASK, &before, nullptr);
      become_program();
      ::_exit(1);
    }
    if (program < 0) ::_exit(1);
    Keep(program, parent);
  }
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return keeper;
}

}  // namespace casement
