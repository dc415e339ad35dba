// How an error names the blobs that are missing.
#ifndef CASEMENT_STORE_MISSING_H_
#define CASEMENT_STORE_MISSING_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "casement/digest.h"

namespace casement {

// The type under which the payload below is found.
inline constexpr char kPreconditionFailureType[] =
    "type.googleapis.com/google.rpc.PreconditionFailure";

// FailedPrecondition, as REv2 wants it: the message names a few of `missing`
// and says how many there are; a google.rpc.PreconditionFailure, as payload,
// names up to 10,000, each by a violation of type "MISSING" and subject
// "blobs/<hash>/<size>".
absl::Status MissingBlobsStatus(absl::Span<const Digest> missing);

// NotFound with EIO: a blob that was promised is not here. Whoever can fetch it
// (BlobFetcher) tries again once it has come.
absl::Status AbsentBlobStatus(const Digest& digest);
// The same where its first `upto` bytes would do.
absl::Status AbsentBlobStatus(const Digest& digest, int64_t upto);
// The blob, if `status` is such an error, and how much of it is needed.
struct AbsentBlob {
  Digest digest;
  int64_t upto = 0;
};
std::optional<AbsentBlob> AbsentBlobOf(const absl::Status& status);

// Adds that payload to an error.
void AddMissing(absl::Span<const Digest> missing, absl::Status& status);

}  // namespace casement

#endif  // CASEMENT_STORE_MISSING_H_
