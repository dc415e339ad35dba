#include "daemon/options.h"

#include <grp.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>  // NOLINT
#include <string>
#include <system_error>  // NOLINT

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/socket_path.h"

namespace casement {
namespace {

constexpr int kHighWatermarkPercent = 99;

// The daemon must not touch its own mount: it would wait for itself.
absl::Status CheckApart(const std::string& store, const std::string& mount) {
  if (absl::StartsWith(store + "/", mount + "/") ||
      absl::StartsWith(mount + "/", store + "/")) {
    return absl::FailedPreconditionError(
        absl::StrCat("the store ", store, " and the mount point ", mount,
                     " must not be inside each other"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Absolute(const std::string& path,
                                     absl::string_view what) {
  char resolved[PATH_MAX];
  if (realpath(path.c_str(), resolved) != nullptr) return std::string(resolved);
  // A dead mount cannot be resolved, and is taken as it is written.
  if (errno == ENOTCONN && absl::StartsWith(path, "/")) return path;
  return ErrnoStatus(errno, what, " ", path);
}

absl::StatusOr<gid_t> GroupOf(const std::string& name) {
  uint32_t number = 0;
  if (absl::SimpleAtoi(name, &number)) return number;
  const group* const found = getgrnam(name.c_str());
  if (found == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("--allow-group: there is no group \"", name, "\""));
  }
  return found->gr_gid;
}

absl::Status UnderstandWatermarks(const Arguments& arguments,
                                  DaemonOptions& options) {
  const bool has_high = arguments.Has("high-watermark");
  const bool has_low = arguments.Has("low-watermark");
  if (!has_high && !has_low) return absl::OkStatus();
  int64_t high = kHighWatermarkPercent;
  if (has_high) {
    ASSIGN_OR_RETURN(high, arguments.GetInteger("high-watermark", 1, 100));
  }
  int64_t low = std::max<int64_t>(high - 1, 1);
  if (has_low) {
    ASSIGN_OR_RETURN(low, arguments.GetInteger("low-watermark", 1, 100));
  }
  if (low > high) {
    return absl::InvalidArgumentError(
        absl::StrCat("--low-watermark ", low,
                     " must not be above --high-watermark, which is ", high));
  }
  options.high_watermark_percent = static_cast<int>(high);
  options.low_watermark_percent = static_cast<int>(low);
  return absl::OkStatus();
}

}  // namespace

ArgumentParser DaemonArguments() {
  ArgumentParser parser(
      "casementd --store DIR --mount DIR [OPTION]...",
      "Serves a content-addressed store as a file system, and one sandbox "
      "directory per build action.");
  parser
      .Add({.name = "store",
            .placeholder = "DIR",
            .help = "where blobs are kept; made ready if it is empty",
            .is_required = true})
      .Add({.name = "mount",
            .placeholder = "DIR",
            .help = "an empty directory to mount at",
            .is_required = true})
      .Add({.name = "max-bytes",
            .placeholder = "SIZE",
            .help = "what the store may take on disk, for example 50GiB",
            .default_value = "50GiB"})
      .Add({.name = "high-watermark",
            .placeholder = "PERCENT",
            .help = "evict beside requests once the store takes more than so "
                    "much of --max-bytes; 99 if not given"})
      .Add({.name = "low-watermark",
            .placeholder = "PERCENT",
            .help = "and stop at this; one less than the high one if not "
                    "given"})
      .Add({.name = "socket",
            .placeholder = "PATH",
            .help = "where clients connect; by default $CASEMENT_SOCKET, else "
                    "/run/casement/casement.sock for root and "
                    "$XDG_RUNTIME_DIR/casement.sock for others"})
      .Add({.name = "foreground",
            .help = "stay in the foreground; without it the command returns "
                    "once the mount serves"})
      .Add({.name = "transport",
            .placeholder = "TRANSPORT",
            .help = "how requests come from the kernel",
            .default_value = "auto",
            .choices = {"auto", "dev", "io_uring"}})
      .Add({.name = "data-path",
            .placeholder = "PATH",
            .help = "how file contents go to the kernel",
            .default_value = "auto",
            .choices = {"auto", "passthrough", "cached"}})
      .Add({.name = "allow-other",
            .help = "let other users reach the mount, as modes and owners say"})
      .Add({.name = "allow-group",
            .placeholder = "GROUP",
            .help = "let the members of this group use the socket"})
      .Add({.name = "stashes-max",
            .placeholder = "N",
            .help = "how many released sandboxes may be kept for later ones; "
                    "0: none",
            .default_value = "256"})
      .Add({.name = "version", .help = "print the version and exit"});
  AddListenArguments(parser);
  AddRemoteArguments(parser);
  return parser;
}

absl::StatusOr<DaemonOptions> UnderstandOptions(const Arguments& arguments) {
  DaemonOptions options;
  ASSIGN_OR_RETURN(options.max_bytes, arguments.GetBytes("max-bytes"));
  if (options.max_bytes <= 0) {
    return absl::InvalidArgumentError("--max-bytes must be more than 0");
  }
  RETURN_IF_ERROR(UnderstandWatermarks(arguments, options));
  ASSIGN_OR_RETURN(options.store, Absolute(arguments.Get("store"), "store"));
  ASSIGN_OR_RETURN(options.mount,
                   Absolute(arguments.Get("mount"), "mount point"));
  RETURN_IF_ERROR(CheckApart(options.store, options.mount));
  ASSIGN_OR_RETURN(const std::string socket,
                   ResolveSocketPath(arguments.Get("socket")));
  // The daemon works in another directory.
  std::error_code error;
  options.socket = std::filesystem::absolute(socket, error);
  if (error) return ErrnoStatus(error.value(), "socket ", socket);
  if (!absl::SimpleAtoi(arguments.Get("stashes-max"), &options.stashes_max) ||
      options.stashes_max < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--stashes-max \"", arguments.Get("stashes-max"),
                     "\": must be a number, 0 or more"));
  }
  if (arguments.Has("allow-group")) {
    ASSIGN_OR_RETURN(options.allow_group,
                     GroupOf(arguments.Get("allow-group")));
  }
  ASSIGN_OR_RETURN(options.remote, UnderstandRemoteOptions(arguments));
  ASSIGN_OR_RETURN(options.listen, UnderstandListenOptions(arguments));
  options.foreground = arguments.Has("foreground");
  options.allow_other = arguments.Has("allow-other");
  const std::string transport = arguments.Get("transport");
  if (transport == "dev") {
    options.transport = DaemonOptions::Transport::kDevice;
  } else if (transport == "io_uring") {
    options.transport = DaemonOptions::Transport::kIoUring;
  }
  if (options.transport == DaemonOptions::Transport::kIoUring &&
      options.remote.has_value()) {
    return absl::InvalidArgumentError(
        "--transport io_uring does not go with --remote: requests that wait "
        "for the remote cache would keep its few places from all others");
  }
  const std::string path = arguments.Get("data-path");
  if (path == "passthrough") {
    options.data_path = DaemonOptions::Path::kPassthrough;
  } else if (path == "cached") {
    options.data_path = DaemonOptions::Path::kCached;
  }
  return options;
}

}  // namespace casement
