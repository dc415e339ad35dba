// The one digest function that there is.
#ifndef CASEMENT_PROTO_DIGEST_FUNCTION_H_
#define CASEMENT_PROTO_DIGEST_FUNCTION_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"

namespace casement {

// InvalidArgument for any but SHA-256, which a request need not name.
inline absl::Status CheckFunction(
    ::build::bazel::remote::execution::v2::DigestFunction::Value function) {
  using Known = ::build::bazel::remote::execution::v2::DigestFunction;
  if (function == Known::UNKNOWN || function == Known::SHA256) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("digest function ",
                                                 static_cast<int>(function),
                                                 ": only SHA256 is known"));
}

}  // namespace casement

#endif  // CASEMENT_PROTO_DIGEST_FUNCTION_H_
