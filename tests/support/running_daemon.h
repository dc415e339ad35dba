// A real casementd on a temporary store and mount, for tests that need one.
//
// Everything is below one temporary folder, which goes with it. A program that
// is killed takes its daemon along, and the next to make one removes what it
// left. Not thread safe, but for client(); the daemon ends with the thread that
// started it.
#ifndef CASEMENT_TESTS_SUPPORT_RUNNING_DAEMON_H_
#define CASEMENT_TESTS_SUPPORT_RUNNING_DAEMON_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "casement/client.h"

namespace casement {

// What a program printed, and how it ended (128 + N for signal N).
struct ProgramResult {
  int exit_status = 0;
  std::string out;
  std::string err;
};

// Runs a program to its end, standard input empty.
ProgramResult RunProgram(const std::vector<std::string>& words);
// As `sh -c`.
ProgramResult RunShell(const std::string& script);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);

class RunningDaemon {
 public:
  // Fails the test (by throwing) if the daemon does not start. `arguments` come
  // after --store, --mount and --socket. `prefix`: a command that executes the
  // one after it, such as prlimit(1).
  explicit RunningDaemon(std::vector<std::string> arguments = {},
                         std::vector<std::string> prefix = {});
  // Ends the daemon by SIGTERM, unmounts what is left, removes all files.
  ~RunningDaemon();
  RunningDaemon(const RunningDaemon&) = delete;
  RunningDaemon& operator=(const RunningDaemon&) = delete;

  // Starts the daemon again, on the same store and mount.
  void Start();
  // For the next start.
  void SetArguments(std::vector<std::string> arguments) {
    arguments_ = std::move(arguments);
  }
  // SIGTERM; its exit status.
  int Stop();
  // SIGKILL. The mount stays behind, dead.
  void Kill();

  Client& client() { return *client_; }
  pid_t pid() const { return pid_; }
  // Below mount(), "cas/..." and so on.
  std::string At(const std::string& path) const { return mount_ + "/" + path; }
  const std::string& mount() const { return mount_; }
  const std::string& store() const { return store_; }
  const std::string& socket() const { return socket_; }
  // For files of the test's own.
  const std::string& folder() const { return folder_; }
  // What the daemon said on standard error.
  std::string log() const { return ReadFile(folder_ + "/log"); }
  // The value of a metric, summed over its labels that match.
  double Metric(const std::string& name, const std::string& label = "");

  // The command line tool with this daemon's socket.
  ProgramResult Casement(const std::vector<std::string>& words) const;

 private:
  std::vector<std::string> arguments_;
  const std::vector<std::string> prefix_;
  std::string folder_;
  UniqueFd owner_;  // Locked while this program lives.
  std::string store_;
  std::string mount_;
  std::string socket_;
  pid_t pid_ = -1;
  std::unique_ptr<Client> client_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_RUNNING_DAEMON_H_
