// Where a remote cache is, as users write it:
//
//   grpc://HOST[:PORT][/INSTANCE]    port 80 by default
//   grpcs://HOST[:PORT][/INSTANCE]   over TLS, port 443 by default
//   unix:PATH                        a socket on this host, without instance
//
// HOST is a name, an IPv4 address, or an IPv6 address in brackets. INSTANCE
// may hold slashes. Immutable, and always well formed; any thread may use it.
#ifndef CASEMENT_REMOTE_REMOTE_ADDRESS_H_
#define CASEMENT_REMOTE_REMOTE_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace casement {

class RemoteAddress {
 public:
  // InvalidArgument, saying what is wrong, for anything else.
  static absl::StatusOr<RemoteAddress> Parse(absl::string_view text);

  bool is_tls() const { return is_tls_; }
  bool is_unix() const { return is_unix_; }
  // What gRPC calls it.
  const std::string& target() const { return target_; }
  // REv2's instance name, which is empty for most.
  const std::string& instance() const { return instance_; }
  // Where it is, with the port, without the instance: for messages.
  const std::string& ToString() const { return text_; }

 private:
  RemoteAddress() = default;
  static absl::StatusOr<RemoteAddress> ParseUnix(absl::string_view path);
  static absl::StatusOr<RemoteAddress> ParseHost(absl::string_view text,
                                                 bool is_tls);

  bool is_tls_ = false;
  bool is_unix_ = false;
  std::string target_;
  std::string instance_;
  std::string text_;
};

}  // namespace casement

#endif  // CASEMENT_REMOTE_REMOTE_ADDRESS_H_
