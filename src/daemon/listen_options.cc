#include "daemon/listen_options.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/small_file.h"
#include "base/status.h"

namespace casement {
namespace {

// The contents of the file that an option names.
absl::StatusOr<std::string> ReadPem(const Arguments& arguments,
                                    const std::string& option) {
  absl::StatusOr<std::string> pem = ReadSmallFile(arguments.Get(option));
  if (!pem.ok()) return Annotate(pem.status(), "--", option);
  if (pem->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", option, " ", arguments.Get(option), ": is empty"));
  }
  return pem;
}

absl::Status CheckTogether(const Arguments& arguments) {
  const bool has_certificate = arguments.Has("tls-certificate");
  if (has_certificate != arguments.Has("tls-key")) {
    return absl::InvalidArgumentError(
        "--tls-certificate and --tls-key need each other");
  }
  if (arguments.Has("tls-client-ca") && !has_certificate) {
    return absl::InvalidArgumentError(
        "--tls-client-ca needs --tls-certificate and --tls-key");
  }
  if (has_certificate && !arguments.Has("listen")) {
    return absl::InvalidArgumentError(
        "--tls-certificate is for TCP: it needs --listen");
  }
  return absl::OkStatus();
}

}  // namespace

void AddListenArguments(ArgumentParser& parser) {
  parser
      .Add({.name = "listen",
            .placeholder = "HOST:PORT",
            .help = "serve blobs and results of actions on TCP as well, in "
                    "clear text on a loopback address; port 0: any"})
      .Add({.name = "tls-certificate",
            .placeholder = "FILE",
            .help = "the server's certificate for --listen, and those between "
                    "it and its root's, in PEM"})
      .Add({.name = "tls-key", .placeholder = "FILE", .help = "its key"})
      .Add({.name = "tls-client-ca",
            .placeholder = "FILE",
            .help = "who signs the certificates that clients must have; "
                    "needed on any address but a loopback one"});
}

absl::StatusOr<ListenOptions> UnderstandListenOptions(
    const Arguments& arguments) {
  RETURN_IF_ERROR(CheckTogether(arguments));
  ListenOptions options;
  if (!arguments.Has("listen")) return options;
  const absl::StatusOr<TcpAddress> address =
      TcpAddress::Parse(arguments.Get("listen"));
  if (!address.ok()) return Annotate(address.status(), "--listen");
  options.address = *address;
  if (!address->IsLoopback() && !arguments.Has("tls-client-ca")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen ", address->ToString(),
                     ": other machines reach it, so it "
                     "needs --tls-certificate, --tls-key and --tls-client-ca"));
  }
  if (!arguments.Has("tls-certificate")) return options;
  options.tls.emplace();
  ASSIGN_OR_RETURN(options.tls->certificate,
                   ReadPem(arguments, "tls-certificate"));
  ASSIGN_OR_RETURN(options.tls->key, ReadPem(arguments, "tls-key"));
  if (arguments.Has("tls-client-ca")) {
    ASSIGN_OR_RETURN(options.tls->client_ca,
                     ReadPem(arguments, "tls-client-ca"));
  }
  return options;
}

}  // namespace casement
