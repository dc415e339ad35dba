// How REv2 names a blob: in a message, and as a resource.
#ifndef CASEMENT_TESTS_SUPPORT_BLOB_MESSAGES_H_
#define CASEMENT_TESTS_SUPPORT_BLOB_MESSAGES_H_

#include <string>

#include "absl/strings/str_cat.h"
#include "build/bazel/remote/execution/v2/remote_execution.pb.h"
#include "casement/digest.h"

namespace casement {

inline build::bazel::remote::execution::v2::Digest MessageOf(
    const Digest& digest) {
  build::bazel::remote::execution::v2::Digest message;
  message.set_hash(digest.HexHash());
  message.set_size_bytes(digest.size_bytes());
  return message;
}

inline std::string BlobName(const Digest& digest) {
  return absl::StrCat("blobs/", digest.HexHash(), "/", digest.size_bytes());
}

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_BLOB_MESSAGES_H_
