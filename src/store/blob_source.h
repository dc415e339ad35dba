// Where blobs come from that the store lacks, and where outputs go: the build
// farm's own cache. An interface, so that tests can make it slow, wrong or
// gone.
//
// Thread safe. Each call blocks until it has an answer or its deadline, which
// the source knows, has passed. What it gives is not verified: the store does.
//
// Errors: NotFound, it does not have the blob; Unavailable and
// DeadlineExceeded, it cannot be reached, retries included; Cancelled, after
// Cancel(); others as the source says them.
#ifndef CASEMENT_STORE_BLOB_SOURCE_H_
#define CASEMENT_STORE_BLOB_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "casement/digest.h"

namespace casement {

class BlobSource {
 public:
  virtual ~BlobSource() = default;

  // Those that it does not have, in the order given.
  virtual absl::StatusOr<std::vector<Digest>> FindMissing(
      absl::Span<const Digest> digests) = 0;

  // What FetchSmall() and SendSmall() take at most: the sum of the blobs'
  // sizes, and how many.
  virtual int64_t small_bytes_max() const = 0;
  virtual size_t small_blobs_max() const = 0;
  // Gets several small blobs in one exchange. Calls `take` once for each, in
  // any order, with its bytes or with why there are none. The bytes are gone
  // when `take` returns.
  using Take = absl::FunctionRef<void(const Digest& digest,
                                      absl::StatusOr<absl::string_view> bytes)>;
  virtual void FetchSmall(absl::Span<const Digest> digests, Take take) = 0;

  // Gets one blob of any size, in pieces and in order. An error of `sink` ends
  // it, and is its result.
  using Sink = absl::FunctionRef<absl::Status(absl::string_view piece)>;
  virtual absl::Status Fetch(const Digest& digest, Sink sink) = 0;

  struct SmallBlob {
    Digest digest;
    std::string bytes;
  };
  // Sends several small blobs, which are distinct, in one exchange. Calls
  // `sent` once for each, in any order.
  using Sent =
      absl::FunctionRef<void(const Digest& digest, const absl::Status& status)>;
  virtual void SendSmall(absl::Span<const SmallBlob> blobs, Sent sent) = 0;

  // Sends one blob. `read` returns bytes of it from an offset on, at least one
  // before the blob's end, until somebody calls it again.
  using Read =
      absl::FunctionRef<absl::StatusOr<absl::string_view>(int64_t offset)>;
  virtual absl::Status Send(const Digest& digest, Read read) = 0;

  // Ends all calls, those to come as well, at once. For the daemon's end.
  virtual void Cancel() = 0;
};

}  // namespace casement

#endif  // CASEMENT_STORE_BLOB_SOURCE_H_
