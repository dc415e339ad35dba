// An action's command: in a sandbox, in mount and process namespaces of its
// own, by way of bubblewrap.
#ifndef CASEMENT_WORKER_ACTION_PROCESS_H_
#define CASEMENT_WORKER_ACTION_PROCESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace casement {

struct ProcessOptions {
  std::string sandbox;            // Its absolute path.
  std::string working_directory;  // Below it; "" is itself.
  std::vector<std::string> command;
  std::vector<std::string> environment;  // NAME=value: these, and no other.
  absl::Duration timeout;
  // Of standard output, and of standard error as well.
  int64_t output_bytes_max = int64_t{64} << 20;
  // Once it can be read, the command is killed.
  int cancel_fd = -1;
};

struct ProcessResult {
  enum class End : uint8_t {
    kByItself,
    // It was killed:
    kTimeout,
    kTooMuchOutput,
    kCancelled,
  };
  End end = End::kByItself;
  int exit_status =
      0;  // 128+N after signal N; 127 if there is no such program.
  std::string out;
  std::string err;
};

// The words that are run, without bwrap's option for its status.
std::vector<std::string> ActionWords(const ProcessOptions& options);

// Returns when no process of the command's is left. Its standard input is
// empty. FailedPrecondition if bubblewrap is not there or could not set up the
// namespaces. Any thread, but it must not end before the command; calls run in
// parallel.
absl::StatusOr<ProcessResult> RunAction(const ProcessOptions& options);

}  // namespace casement

#endif  // CASEMENT_WORKER_ACTION_PROCESS_H_
