// What an REv2 Action asks for, understood.
#ifndef CASEMENT_WORKER_ACTION_SPEC_H_
#define CASEMENT_WORKER_ACTION_SPEC_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"

namespace casement {

namespace rev2 = ::build::bazel::remote::execution::v2;

struct ActionLimits {
  // For actions that name no timeout, and the longest that one may name.
  absl::Duration timeout_max = absl::Hours(1);
  // Run actions whatever platform they ask for.
  bool ignore_platform = false;
};

struct ActionSpec {
  // How the client named it, which is how the result has to report it.
  enum class Named : uint8_t { kPath, kFile, kDirectory };
  struct Output {
    std::string path;  // Below the working directory; "" is that itself.
    Named named = Named::kPath;
  };

  Digest action;
  Digest input_root;
  std::vector<std::string> arguments;    // At least one.
  std::vector<std::string> environment;  // NAME=value.
  std::string working_directory;         // Below the input root; "": itself.
  std::vector<Output> outputs;
  absl::Duration timeout;
  bool do_not_cache = false;
  // For sandboxes: actions of one label are alike.
  std::string label;

  // A path of an output, from the input root on; "." for that itself.
  std::string FromRoot(absl::string_view output) const;
};

// The Command that an Action names. InvalidArgument if it is no Action.
absl::StatusOr<Digest> CommandOf(absl::string_view action);

// From the two messages' bytes; `who` is what the request says of itself. The
// errors are those of Execute (remote_execution.proto).
absl::StatusOr<ActionSpec> ParseAction(const Digest& digest,
                                       absl::string_view action,
                                       absl::string_view command,
                                       const rev2::RequestMetadata& who,
                                       const ActionLimits& limits);

}  // namespace casement

#endif  // CASEMENT_WORKER_ACTION_SPEC_H_
