// Runs a command with a sandbox as its working directory or its root, in mount
// and process namespaces of its own, by way of bubblewrap.
#ifndef CASEMENT_CLI_BUBBLEWRAP_H_
#define CASEMENT_CLI_BUBBLEWRAP_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace casement {

struct BubblewrapOptions {
  std::string sandbox;  // Its absolute path.
  bool is_root = false;
  bool stdout_to_stderr = false;
  std::vector<std::string> command;
};

// The words that are run, without bwrap's option for its status. With the
// sandbox as the root, /proc, /dev and /tmp are mounted where it has those
// directories already: bubblewrap would make others, and they would be changes
// of the action.
std::vector<std::string> BubblewrapWords(const BubblewrapOptions& options);

struct BubblewrapResult {
  int exit_status = 0;  // 128+N after signal N.
  bool was_interrupted = false;
};

// Waits until the command has ended; no process that it started is left then.
// Meanwhile SIGINT, SIGTERM, SIGHUP and SIGQUIT for this process are passed on
// to the command. FailedPrecondition if bubblewrap is not there or could not
// set up the namespaces. For one call at a time.
absl::StatusOr<BubblewrapResult> RunBubblewrap(
    const BubblewrapOptions& options);

}  // namespace casement

#endif  // CASEMENT_CLI_BUBBLEWRAP_H_
