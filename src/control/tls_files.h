// Certificates and keys for TLS, in PEM, as OpenSSL writes them.
#ifndef CASEMENT_CONTROL_TLS_FILES_H_
#define CASEMENT_CONTROL_TLS_FILES_H_

#include <string>

#include "absl/status/status.h"

namespace casement {

struct TlsFiles {
  std::string
      certificate;  // The server's, and those between it and its root's.
  std::string key;
  // Whose certificates clients must have; "": they need none.
  std::string client_ca;
};

// InvalidArgument, saying which, if one is malformed or the key is another
// certificate's. gRPC would start with them, and every handshake would fail.
absl::Status CheckUsable(const TlsFiles& files);

}  // namespace casement

#endif  // CASEMENT_CONTROL_TLS_FILES_H_
