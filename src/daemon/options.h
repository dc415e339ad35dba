// casementd's command line, understood.
#ifndef CASEMENT_DAEMON_OPTIONS_H_
#define CASEMENT_DAEMON_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/arguments.h"
#include "daemon/listen_options.h"
#include "daemon/remote_options.h"

namespace casement {

struct DaemonOptions {
  enum class Transport : uint8_t { kAuto, kDevice, kIoUring };
  enum class Path : uint8_t { kAuto, kPassthrough, kCached };

  std::string store;  // Absolute, and so are the others.
  std::string mount;
  std::string socket;
  int64_t max_bytes = 0;
  int64_t stashes_max = 0;
  int high_watermark_percent = 0;  // 0: the store's own defaults.
  int low_watermark_percent = 0;
  bool foreground = false;
  bool allow_other = false;
  Transport transport = Transport::kAuto;
  Path data_path = Path::kAuto;
  std::optional<gid_t> allow_group;
  std::optional<RemoteCas::Options> remote;
  ListenOptions listen;
};

// What it understands, and the text of --help.
ArgumentParser DaemonArguments();

// InvalidArgument for a value that cannot be; NotFound for a store or mount
// point that does not exist; FailedPrecondition if one is inside the other.
absl::StatusOr<DaemonOptions> UnderstandOptions(const Arguments& arguments);

}  // namespace casement

#endif  // CASEMENT_DAEMON_OPTIONS_H_
