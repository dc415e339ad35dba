// casementd's options for a remote cache.
#ifndef CASEMENT_DAEMON_REMOTE_OPTIONS_H_
#define CASEMENT_DAEMON_REMOTE_OPTIONS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "base/arguments.h"
#include "remote/remote_cas.h"

namespace casement {

void AddRemoteArguments(ArgumentParser& parser);

// Nothing without --remote. InvalidArgument for an address or a value that
// cannot be, and for options that mean nothing without it.
absl::StatusOr<std::optional<RemoteCas::Options>> UnderstandRemoteOptions(
    const Arguments& arguments);

}  // namespace casement

#endif  // CASEMENT_DAEMON_REMOTE_OPTIONS_H_
