// The directories that an action may count on (REv2, Command).
#ifndef CASEMENT_WORKER_OUTPUT_PARENTS_H_
#define CASEMENT_WORKER_OUTPUT_PARENTS_H_

#include <string>

#include "absl/status/status.h"
#include "worker/action_spec.h"

namespace casement {

// Makes the directories in which outputs will be, below `sandbox`. No symlink
// of the inputs leads out of it. FailedPrecondition if there is no such working
// directory in the inputs, or if they are in the way; ENOSPC's status.
absl::Status MakeOutputParents(const std::string& sandbox,
                               const ActionSpec& spec);

}  // namespace casement

#endif  // CASEMENT_WORKER_OUTPUT_PARENTS_H_
