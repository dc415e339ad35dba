#include "daemon/remote_options.h"

#include <array>
#include <filesystem>  // NOLINT
#include <string>
#include <system_error>  // NOLINT

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "remote/remote_address.h"

namespace casement {
namespace {

constexpr std::array<const char*, 6> kRemoteOptions = {
    "remote-ca",      "remote-certificate", "remote-key",
    "remote-headers", "remote-timeout",     "remote-zstd"};

// Absolute: the daemon works in another directory.
absl::StatusOr<std::string> FileOption(const Arguments& arguments,
                                       const std::string& name) {
  if (!arguments.Has(name)) return std::string();
  std::error_code error;
  const std::string path =
      std::filesystem::absolute(arguments.Get(name), error);
  if (error) return ErrnoStatus(error.value(), "--", name);
  return path;
}

}  // namespace

void AddRemoteArguments(ArgumentParser& parser) {
  parser
      .Add({.name = "remote",
            .placeholder = "ADDRESS",
            .help = "the REv2 cache that missing blobs come from: "
                    "grpc[s]://HOST[:PORT][/INSTANCE] or unix:PATH"})
      .Add({.name = "remote-ca",
            .placeholder = "FILE",
            .help = "certificates that the remote cache's is checked with; the "
                    "system's if not given"})
      .Add({.name = "remote-certificate",
            .placeholder = "FILE",
            .help = "the daemon's own certificate, for the remote cache"})
      .Add({.name = "remote-key", .placeholder = "FILE", .help = "and its key"})
      .Add({.name = "remote-headers",
            .placeholder = "FILE",
            .help = "\"name: value\" lines that go with each call to it"})
      .Add({.name = "remote-timeout",
            .placeholder = "SECONDS",
            .help = "how long a call to it may take, its retries included; 30 "
                    "if not given"})
      .Add({.name = "remote-zstd",
            .help = "let larger blobs travel compressed"});
}

absl::StatusOr<std::optional<RemoteCas::Options>> UnderstandRemoteOptions(
    const Arguments& arguments) {
  if (!arguments.Has("remote")) {
    for (const char* const name : kRemoteOptions) {
      if (!arguments.Has(name)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " means nothing without --remote"));
    }
    return std::optional<RemoteCas::Options>();
  }
  const absl::StatusOr<RemoteAddress> address =
      RemoteAddress::Parse(arguments.Get("remote"));
  if (!address.ok()) return Annotate(address.status(), "--remote");
  RemoteCas::Options remote{.address = *address};
  ASSIGN_OR_RETURN(remote.tls.roots, FileOption(arguments, "remote-ca"));
  ASSIGN_OR_RETURN(remote.tls.certificate,
                   FileOption(arguments, "remote-certificate"));
  ASSIGN_OR_RETURN(remote.tls.key, FileOption(arguments, "remote-key"));
  ASSIGN_OR_RETURN(remote.headers_path,
                   FileOption(arguments, "remote-headers"));
  if (arguments.Has("remote-timeout")) {
    ASSIGN_OR_RETURN(const int64_t seconds,
                     arguments.GetInteger("remote-timeout", 1, 3600));
    remote.timeout = absl::Seconds(seconds);
  }
  remote.compress = arguments.Has("remote-zstd");
  return std::optional<RemoteCas::Options>(remote);
}

}  // namespace casement
