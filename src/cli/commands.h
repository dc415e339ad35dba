// What each command of casement does.
//
// They print on standard output and return the exit status; an error is for the
// caller to print, and means exit status 1.
#ifndef CASEMENT_CLI_COMMANDS_H_
#define CASEMENT_CLI_COMMANDS_H_

#include "absl/status/statusor.h"
#include "casement/client.h"
#include "cli/invocation.h"

namespace casement {

absl::StatusOr<int> Put(Client& client, const Invocation& invocation);
absl::StatusOr<int> Get(Client& client, const Invocation& invocation);
absl::StatusOr<int> Evict(Client& client, const Invocation& invocation);
absl::StatusOr<int> Stats(Client& client, const Invocation& invocation);
absl::StatusOr<int> Verify(Client& client, const Invocation& invocation);
absl::StatusOr<int> SandboxCreate(Client& client, const Invocation& invocation);
absl::StatusOr<int> SandboxList(Client& client, const Invocation& invocation);
absl::StatusOr<int> SandboxDiff(Client& client, const Invocation& invocation);
absl::StatusOr<int> SandboxCollect(Client& client,
                                   const Invocation& invocation);
absl::StatusOr<int> SandboxRelease(Client& client,
                                   const Invocation& invocation);
absl::StatusOr<int> Run(Client& client, const Invocation& invocation);

}  // namespace casement

#endif  // CASEMENT_CLI_COMMANDS_H_
