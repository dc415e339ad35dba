#include "client/tree_upload.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/parallel.h"
#include "base/status.h"

namespace casement {
namespace {

using Blob = LocalTree::Blob;

// Keeps the daemon's disk and one connection busy; each call of these holds a
// batch in memory.
constexpr size_t kCallsMax = 4;

// What travels in one call: several small blobs or one large one.
using Load = std::vector<Blob>;

absl::StatusOr<std::vector<Blob>> MissingBlobs(const LocalTree& tree,
                                               BlobTransfer& transfer) {
  std::vector<Blob> blobs = tree.Blobs();
  std::vector<Digest> digests;
  digests.reserve(blobs.size());
  for (const Blob& blob : blobs) digests.push_back(blob.digest);
  ASSIGN_OR_RETURN(const std::vector<Digest> missing,
                   transfer.Missing(digests));
  const absl::flat_hash_set<Digest> wanted(missing.begin(), missing.end());
  blobs.erase(std::remove_if(blobs.begin(), blobs.end(),
                             [&wanted](const Blob& blob) {
                               return !wanted.contains(blob.digest);
                             }),
              blobs.end());
  return blobs;
}

std::vector<Load> LoadsOf(const std::vector<Blob>& blobs) {
  std::vector<Load> loads;
  Load batch;
  int64_t batch_bytes = 0;
  for (const Blob& blob : blobs) {
    const int64_t size = blob.digest.size_bytes();
    if (size > BlobTransfer::kSmallBytesMax) {
      loads.push_back({blob});
      continue;
    }
    if (batch_bytes + size > BlobTransfer::kBatchBytesMax ||
        batch.size() == BlobTransfer::kBatchBlobsMax) {
      loads.push_back(std::move(batch));
      batch.clear();
      batch_bytes = 0;
    }
    batch.push_back(blob);
    batch_bytes += size;
  }
  if (!batch.empty()) loads.push_back(std::move(batch));
  return loads;
}

// The bytes of a small blob. Aborted if the file has others now.
absl::StatusOr<std::string> BytesOf(const LocalTree& tree, const Blob& blob) {
  if (blob.is_directory) return tree.Message(blob);
  ASSIGN_OR_RETURN(const UniqueFd fd, tree.Open(blob));
  // One more than it had, to see a longer file.
  std::string bytes(blob.digest.size_bytes() + 1, '\0');
  size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t got =
        ::pread(fd.get(), bytes.data() + filled, bytes.size() - filled, filled);
    if (got < 0) return ErrnoStatus(errno, tree.PathOf(blob));
    if (got == 0) break;
    filled += got;
  }
  bytes.resize(filled);
  if (Digest::Of(bytes) != blob.digest) {
    return absl::AbortedError(
        absl::StrCat(tree.PathOf(blob), ": changed while it was read"));
  }
  return bytes;
}

absl::Status SendLoad(const LocalTree& tree, BlobTransfer& transfer,
                      const Load& load) {
  const Blob& first = load.front();
  if (first.digest.size_bytes() > BlobTransfer::kSmallBytesMax) {
    if (first.is_directory) {
      return transfer.SendBytes(first.digest, tree.Message(first));
    }
    ASSIGN_OR_RETURN(const UniqueFd fd, tree.Open(first));
    return transfer.SendFile(first.digest, fd.get(), tree.PathOf(first));
  }
  std::vector<BlobTransfer::Small> batch;
  for (const Blob& blob : load) {
    ASSIGN_OR_RETURN(std::string bytes, BytesOf(tree, blob));
    batch.push_back({.digest = blob.digest, .bytes = std::move(bytes)});
  }
  return transfer.SendBatch(std::move(batch));
}

int64_t BytesIn(const std::vector<Blob>& blobs) {
  int64_t bytes = 0;
  for (const Blob& blob : blobs) bytes += blob.digest.size_bytes();
  return bytes;
}

}  // namespace

absl::Status UploadTree(const LocalTree& tree, BlobTransfer& transfer,
                        ProgressGatherer& progress) {
  ASSIGN_OR_RETURN(const std::vector<Blob> blobs, MissingBlobs(tree, transfer));
  progress.Update([&blobs](TreeProgress& all) {
    all.blobs_missing = blobs.size();
    all.bytes_missing = BytesIn(blobs);
  });
  const std::vector<Load> loads = LoadsOf(blobs);
  return ParallelFor(loads.size(), kCallsMax, [&](size_t i) -> absl::Status {
    RETURN_IF_ERROR(SendLoad(tree, transfer, loads[i]));
    progress.Update([&load = loads[i]](TreeProgress& all) {
      all.blobs_sent += load.size();
      all.bytes_sent += BytesIn(load);
    });
    return absl::OkStatus();
  });
}

}  // namespace casement
