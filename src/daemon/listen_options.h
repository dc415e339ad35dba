// casementd's options for TCP.
#ifndef CASEMENT_DAEMON_LISTEN_OPTIONS_H_
#define CASEMENT_DAEMON_LISTEN_OPTIONS_H_

#include <optional>

#include "absl/status/statusor.h"
#include "base/arguments.h"
#include "base/tcp_address.h"
#include "control/tls_files.h"

namespace casement {

struct ListenOptions {
  std::optional<TcpAddress> address;
  std::optional<TlsFiles> tls;
};

void AddListenArguments(ArgumentParser& parser);

// InvalidArgument for options that do not go together, and for an address that
// other machines reach without TLS and a client CA; an errno's status for a
// file that cannot be read.
absl::StatusOr<ListenOptions> UnderstandListenOptions(
    const Arguments& arguments);

}  // namespace casement

#endif  // CASEMENT_DAEMON_LISTEN_OPTIONS_H_
