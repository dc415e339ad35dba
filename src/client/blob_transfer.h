// Blobs to and from the daemon: REv2's ContentAddressableStorage for small
// ones, ByteStream for the others. Thread safe.
#ifndef CASEMENT_CLIENT_BLOB_TRANSFER_H_
#define CASEMENT_CLIENT_BLOB_TRANSFER_H_

#include <grpcpp/channel.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/digest.h"
#include "google/bytestream/bytestream.grpc.pb.h"

namespace casement {

class BlobTransfer {
 public:
  // Blobs of at most this size travel together, so that small ones do not cost
  // a call each; up to this much in a call, as every REv2 server takes.
  static constexpr int64_t kSmallBytesMax = int64_t{512} << 10;
  static constexpr int64_t kBatchBytesMax = int64_t{4} << 20;
  static constexpr size_t kBatchBlobsMax = 10000;

  explicit BlobTransfer(const std::shared_ptr<grpc::Channel>& channel);

  // Those that the store lacks, in the order given, each once.
  absl::StatusOr<std::vector<Digest>> Missing(absl::Span<const Digest> digests);

  struct Small {
    Digest digest;
    std::string bytes;
  };
  // Within the limits above. Fails with the first error; InvalidArgument and
  // its like name the digest.
  absl::Status SendBatch(std::vector<Small> blobs);

  // Puts the blob's bytes from an offset on into the string, which is as long
  // as is wanted at most; makes it shorter if there are no more for now.
  using Source =
      std::function<absl::Status(int64_t offset, std::string& piece)>;
  absl::Status Send(const Digest& digest, const Source& source);
  absl::Status SendBytes(const Digest& digest, absl::string_view bytes);
  // Aborted if the file's bytes are not the digest's any more; `path` is for
  // errors.
  absl::Status SendFile(const Digest& digest, int fd, absl::string_view path);

  // Gets each piece in order. DataLoss if they do not hash to the digest.
  using Sink = std::function<absl::Status(absl::string_view piece)>;
  absl::Status Receive(const Digest& digest, const Sink& sink);

 private:
  const std::unique_ptr<
      build::bazel::remote::execution::v2::ContentAddressableStorage::Stub>
      cas_;
  const std::unique_ptr<google::bytestream::ByteStream::Stub> byte_stream_;
};

}  // namespace casement

#endif  // CASEMENT_CLIENT_BLOB_TRANSFER_H_
