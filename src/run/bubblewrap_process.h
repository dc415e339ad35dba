// What whoever runs commands by way of bubblewrap needs: a process of it, and
// what it tells of the command.
#ifndef CASEMENT_RUN_BUBBLEWRAP_PROCESS_H_
#define CASEMENT_RUN_BUBBLEWRAP_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace casement {

// What bubblewrap tells of the command, as JSON objects one after the other.
class BubblewrapStatus {
 public:
  static absl::StatusOr<BubblewrapStatus> Open();

  int read_fd() const { return read_end_.get(); }
  // For its --json-status-fd.
  int write_fd() const { return write_end_.get(); }
  void CloseWriteEnd() { write_end_.Reset(); }

  // Call it when read_fd() can be read. False at the end.
  bool Take();
  // The first process of the command's namespace, once known; else -1.
  pid_t init() const { return Number("child-pid").value_or(-1); }

 private:
  BubblewrapStatus(UniqueFd read_end, UniqueFd write_end)
      : read_end_(std::move(read_end)), write_end_(std::move(write_end)) {}
  std::optional<int> Number(const std::string& field) const;

  UniqueFd read_end_;
  UniqueFd write_end_;
  std::string text_;
};

struct SpawnOptions {
  std::vector<std::string> words;
  // Stays open in the program, under its number.
  int inherited_fd = -1;
  // In place of ours, where they are given.
  std::optional<int> stdin_fd = {};
  std::optional<int> stdout_fd = {};
  std::optional<int> stderr_fd = {};
  // NAME=value; ours if it is not given.
  std::optional<std::vector<std::string>> environment = {};
  // No signal is blocked in the program.
  bool unblock_signals = false;
};

// Starts a program, which is looked for on our PATH, and returns its keeper's
// pid (keeper.h). FailedPrecondition, "run needs bubblewrap: ...", if it cannot
// be executed.
absl::StatusOr<pid_t> SpawnBubblewrap(const SpawnOptions& options);

// 128+N after signal N.
int ExitStatusOf(int wait_status);

}  // namespace casement

#endif  // CASEMENT_RUN_BUBBLEWRAP_PROCESS_H_
