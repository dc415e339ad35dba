#include "remote/remote_channels.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/quote.h"
#include "base/small_file.h"
#include "base/status.h"
#include "proto/grpc_lifetime.h"

namespace casement {
namespace {

// Blobs and lists of them come in far smaller messages.
constexpr int kMessageBytesMax = 16 << 20;

constexpr absl::string_view kCertificateMark = "-----BEGIN CERTIFICATE-----";
// Of PKCS #8, and of the older "RSA PRIVATE KEY" and its like.
constexpr absl::string_view kKeyMark = "PRIVATE KEY-----";

grpc::ChannelArguments Arguments(const RemoteAddress& address) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix("casement");
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  // gRPC begins with 64 KiB a round trip and finds out slowly that it can have
  // more.
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 4 << 20);
  // Connections of their own instead of one for all channels.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Between attempts to connect; the least is also what one attempt may take.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A host that lost its power does not say so. While calls wait, ask whether
  // it is there; else the connection would be kept until TCP gives it up. At
  // most two questions between messages, which is what servers bear with.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
  if (address.is_unix()) {
    // Else it is the path, which servers refuse as an authority.
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, "localhost");
  }
  return arguments;
}

absl::StatusOr<std::string> ReadPem(const std::string& path,
                                    absl::string_view mark,
                                    absl::string_view what) {
  if (path.empty()) return std::string();
  ASSIGN_OR_RETURN(std::string pem, ReadSmallFile(path));
  if (absl::StrContains(pem, mark)) return pem;
  return absl::InvalidArgumentError(
      absl::StrCat(QuoteName(path), ": no ", what, " in PEM"));
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(
    const RemoteAddress& address, const RemoteTlsFiles& tls) {
  if (!address.is_tls()) {
    if (tls.roots.empty() && tls.certificate.empty() && tls.key.empty()) {
      return grpc::InsecureChannelCredentials();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        address.ToString(), " is without TLS, but TLS files are named"));
  }
  if (tls.certificate.empty() != tls.key.empty()) {
    return absl::InvalidArgumentError(
        "a client certificate and its key go together");
  }
  grpc::SslCredentialsOptions options;
  ASSIGN_OR_RETURN(options.pem_root_certs,
                   ReadPem(tls.roots, kCertificateMark, "certificate"));
  ASSIGN_OR_RETURN(options.pem_cert_chain,
                   ReadPem(tls.certificate, kCertificateMark, "certificate"));
  ASSIGN_OR_RETURN(options.pem_private_key,
                   ReadPem(tls.key, kKeyMark, "private key"));
  return grpc::SslCredentials(options);
}

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<grpc::Channel>>> MakeRemoteChannels(
    const RemoteAddress& address, const RemoteTlsFiles& tls, int count) {
  KeepGrpcRunning();
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                   Credentials(address, tls));
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  channels.reserve(count);
  for (int i = 0; i < count; ++i) {
    channels.push_back(grpc::CreateCustomChannel(address.target(), credentials,
                                                 Arguments(address)));
  }
  return channels;
}

}  // namespace casement
