// Digest <-> REv2's message.
#ifndef CASEMENT_MODEL_DIGEST_MESSAGE_H_
#define CASEMENT_MODEL_DIGEST_MESSAGE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"

namespace casement {

using DigestMessage = ::build::bazel::remote::execution::v2::Digest;

inline absl::StatusOr<Digest> FromMessage(const DigestMessage& message) {
  return Digest::FromParts(message.hash(), message.size_bytes());
}

inline void SetMessage(const Digest& digest, DigestMessage* message) {
  message->set_hash(digest.HexHash());
  message->set_size_bytes(digest.size_bytes());
}

// InvalidArgument if one of them is malformed.
template <typename Messages>
absl::StatusOr<std::vector<Digest>> FromMessages(const Messages& messages) {
  std::vector<Digest> digests;
  digests.reserve(messages.size());
  for (const DigestMessage& message : messages) {
    ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
    digests.push_back(digest);
  }
  return digests;
}

}  // namespace casement

#endif  // CASEMENT_MODEL_DIGEST_MESSAGE_H_
