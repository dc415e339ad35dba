#include "control/cas_service.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/compression.h"
#include "base/status.h"
#include "control/missing_blob.h"
#include "control/request_limits.h"
#include "model/digest_message.h"
#include "model/directory.h"
#include "proto/digest_function.h"
#include "proto/grpc_status.h"

namespace casement {
namespace {

absl::Status CheckBatch(int64_t bytes) {
  if (bytes <= kBatchBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "batch: more than ", kBatchBytesMax, " bytes of blobs in all"));
}

absl::Status Update(BlobStore& store,
                    const rev2::BatchUpdateBlobsRequest::Request& request) {
  ASSIGN_OR_RETURN(const Digest digest, FromMessage(request.digest()));
  switch (request.compressor()) {
    case rev2::Compressor::IDENTITY:
      return store.Put(digest, request.data());
    case rev2::Compressor::ZSTD: {
      const absl::StatusOr<std::string> bytes =
          ZstdDecompress(request.data(), digest.size_bytes());
      if (!bytes.ok()) {
        return Annotate(bytes.status(), "storing ", digest.ToString());
      }
      return store.Put(digest, *bytes);
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("compressor ", static_cast<int>(request.compressor()),
                       ": only IDENTITY and ZSTD are known"));
  }
}

absl::StatusOr<std::string> ReadBlob(BlobStore& store,
                                     const DigestMessage& message,
                                     int64_t bytes_max) {
  ASSIGN_OR_RETURN(const Digest digest, FromMessage(message));
  absl::StatusOr<std::string> bytes = store.Read(digest, bytes_max);
  if (!bytes.ok()) return NamingBlob(bytes.status(), digest);
  return bytes;
}

// Compressed, if that makes it smaller.
void SetData(std::string bytes, bool may_compress,
             rev2::BatchReadBlobsResponse::Response& result) {
  if (may_compress) {
    std::string compressed = ZstdCompress(bytes);
    if (compressed.size() < bytes.size()) {
      result.set_compressor(rev2::Compressor::ZSTD);
      bytes = std::move(compressed);
    }
  }
  result.set_data(std::move(bytes));
}

// What counts in a batch: without overflow, and at least 0.
int64_t BytesOf(const DigestMessage& digest) {
  return std::clamp<int64_t>(digest.size_bytes(), 0, kBatchBytesMax + 1);
}

template <typename Messages>
int64_t TotalBytes(const Messages& digests) {
  int64_t total = 0;
  for (const DigestMessage& digest : digests) {
    total += BytesOf(digest);
  }
  return total;
}

// All Directories below a root, each once, breadth first: an order that only
// depends on the tree, so that a page token can be a number.
class TreeWalk {
 public:
  TreeWalk(BlobStore& store, const Digest& root) : store_(store) {
    Queue(root);
  }

  bool done() const { return queue_.empty(); }
  // The next Directory that is here. NotFound for one that is not.
  absl::Status Next(rev2::Directory& directory) {
    const Digest digest = queue_.front();
    queue_.pop_front();
    absl::StatusOr<std::string> bytes = store_.Read(digest, kDirectoryBytesMax);
    if (!bytes.ok()) return NamingBlob(bytes.status(), digest);
    // Checks what protobuf does not, names and digests among it.
    if (const auto parsed = Directory::Parse(*bytes); !parsed.ok()) {
      return Annotate(parsed.status(), "directory ", digest.ToString());
    }
    if (!directory.ParseFromString(*bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("directory ", digest.ToString(), ": no Directory"));
    }
    for (const rev2::DirectoryNode& child : directory.directories()) {
      ASSIGN_OR_RETURN(const Digest child_digest, FromMessage(child.digest()));
      Queue(child_digest);
    }
    if (static_cast<int64_t>(seen_.size()) > kTreeDirectoriesMax) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "tree: more than ", kTreeDirectoriesMax, " directories"));
    }
    return absl::OkStatus();
  }

 private:
  void Queue(const Digest& digest) {
    if (seen_.insert(digest).second) queue_.push_back(digest);
  }

  BlobStore& store_;
  std::deque<Digest> queue_;
  absl::flat_hash_set<Digest> seen_;
};

absl::StatusOr<int64_t> SkipOf(const rev2::GetTreeRequest& request) {
  int64_t skip = 0;
  if (request.page_size() < 0) {
    return absl::InvalidArgumentError("page size: negative");
  }
  if (!request.page_token().empty() &&
      (!absl::SimpleAtoi(request.page_token(), &skip) || skip < 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("page token ",
                     absl::Utf8SafeCEscape(request.page_token().substr(0, 64)),
                     ": not one of ours"));
  }
  return skip;
}

absl::Status WriteTree(BlobStore& store, const grpc::ServerContext& context,
                       const rev2::GetTreeRequest& request,
                       grpc::ServerWriter<rev2::GetTreeResponse>& writer) {
  RETURN_IF_ERROR(CheckFunction(request.digest_function()));
  ASSIGN_OR_RETURN(const Digest root, FromMessage(request.root_digest()));
  ASSIGN_OR_RETURN(const int64_t skip, SkipOf(request));
  rev2::GetTreeResponse page;
  size_t page_bytes = 0;
  TreeWalk walk(store, root);
  for (int64_t found = 0; !walk.done();) {
    if (context.IsCancelled()) return absl::CancelledError("the peer is gone");
    rev2::Directory directory;
    const absl::Status next = walk.Next(directory);
    if (absl::IsNotFound(next) && found > 0) continue;
    RETURN_IF_ERROR(next);
    if (found++ < skip) continue;
    page_bytes += directory.ByteSizeLong();
    page.add_directories()->Swap(&directory);
    if (request.page_size() > 0) {
      if (page.directories_size() < request.page_size() &&
          page_bytes < kPieceBytes) {
        continue;
      }
      if (!walk.done()) page.set_next_page_token(absl::StrCat(found));
      break;
    }
    if (page_bytes < kPieceBytes) continue;
    if (!writer.Write(page)) return absl::CancelledError("the peer is gone");
    page.Clear();
    page_bytes = 0;
  }
  if (page.directories_size() > 0) writer.Write(page);
  return absl::OkStatus();
}

}  // namespace

grpc::Status CasService::FindMissingBlobs(
    grpc::ServerContext*, const rev2::FindMissingBlobsRequest* request,
    rev2::FindMissingBlobsResponse* response) {
  if (const absl::Status known = CheckFunction(request->digest_function());
      !known.ok()) {
    return ToGrpc(known);
  }
  const absl::StatusOr<std::vector<Digest>> digests =
      FromMessages(request->blob_digests());
  if (!digests.ok()) return ToGrpc(digests.status());
  for (const Digest& digest : store_.Missing(*digests)) {
    SetMessage(digest, response->add_missing_blob_digests());
  }
  return grpc::Status::OK;
}

grpc::Status CasService::BatchUpdateBlobs(
    grpc::ServerContext*, const rev2::BatchUpdateBlobsRequest* request,
    rev2::BatchUpdateBlobsResponse* response) {
  absl::Status allowed = CheckFunction(request->digest_function());
  int64_t bytes = 0;
  for (const auto& update : request->requests()) {
    // Of the blob as well: what is compressed is held in memory.
    bytes += std::max<int64_t>(update.data().size(), BytesOf(update.digest()));
  }
  if (allowed.ok()) allowed = CheckBatch(bytes);
  if (!allowed.ok()) return ToGrpc(allowed);
  for (const auto& update : request->requests()) {
    auto& result = *response->add_responses();
    *result.mutable_digest() = update.digest();
    *result.mutable_status() = ToProto(Update(store_, update));
  }
  return grpc::Status::OK;
}

grpc::Status CasService::BatchReadBlobs(
    grpc::ServerContext*, const rev2::BatchReadBlobsRequest* request,
    rev2::BatchReadBlobsResponse* response) {
  absl::Status allowed = CheckFunction(request->digest_function());
  if (allowed.ok()) allowed = CheckBatch(TotalBytes(request->digests()));
  if (!allowed.ok()) return ToGrpc(allowed);
  const auto& compressors = request->acceptable_compressors();
  const bool may_compress =
      std::find(compressors.begin(), compressors.end(),
                rev2::Compressor::ZSTD) != compressors.end();
  for (const DigestMessage& digest : request->digests()) {
    auto& result = *response->add_responses();
    *result.mutable_digest() = digest;
    absl::StatusOr<std::string> bytes =
        ReadBlob(store_, digest, kBatchBytesMax);
    *result.mutable_status() = ToProto(bytes.status());
    if (bytes.ok()) SetData(*std::move(bytes), may_compress, result);
  }
  return grpc::Status::OK;
}

grpc::Status CasService::GetTree(
    grpc::ServerContext* context, const rev2::GetTreeRequest* request,
    grpc::ServerWriter<rev2::GetTreeResponse>* writer) {
  return ToGrpc(WriteTree(store_, *context, *request, *writer));
}

grpc::Status CapabilitiesService::GetCapabilities(
    grpc::ServerContext*, const rev2::GetCapabilitiesRequest*,
    rev2::ServerCapabilities* response) {
  rev2::CacheCapabilities& cache = *response->mutable_cache_capabilities();
  cache.add_digest_functions(rev2::DigestFunction::SHA256);
  cache.mutable_action_cache_update_capabilities()->set_update_enabled(true);
  cache.set_max_batch_total_size_bytes(kBatchBytesMax);
  cache.set_symlink_absolute_path_strategy(
      rev2::SymlinkAbsolutePathStrategy::ALLOWED);
  cache.add_supported_compressors(rev2::Compressor::ZSTD);
  cache.add_supported_batch_update_compressors(rev2::Compressor::ZSTD);
  response->mutable_low_api_version()->set_major(2);
  response->mutable_high_api_version()->set_major(2);
  return grpc::Status::OK;
}

}  // namespace casement
