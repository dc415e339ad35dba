// An REv2 cache in memory, on a real socket, that can be told to misbehave.
//
// Thread safe.
#ifndef CASEMENT_TESTS_SUPPORT_FAKE_REMOTE_H_
#define CASEMENT_TESTS_SUPPORT_FAKE_REMOTE_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/compression.h"
#include "base/mutex.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "casement/digest.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "gtest/gtest.h"

namespace casement {

class FakeRemote {
  using BatchReadRequest =
      ::build::bazel::remote::execution::v2::BatchReadBlobsRequest;
  using BatchReadResponse =
      ::build::bazel::remote::execution::v2::BatchReadBlobsResponse;
  using BatchUpdateRequest =
      ::build::bazel::remote::execution::v2::BatchUpdateBlobsRequest;
  using BatchUpdateResponse =
      ::build::bazel::remote::execution::v2::BatchUpdateBlobsResponse;
  using FindRequest =
      ::build::bazel::remote::execution::v2::FindMissingBlobsRequest;
  using FindResponse =
      ::build::bazel::remote::execution::v2::FindMissingBlobsResponse;
  using CapabilitiesRequest =
      ::build::bazel::remote::execution::v2::GetCapabilitiesRequest;
  using CapabilitiesResponse =
      ::build::bazel::remote::execution::v2::ServerCapabilities;

 public:
  // What it does wrong, and what it says of itself.
  struct Manners {
    // So many calls of each method fail with this before one works.
    int failures = 0;
    grpc::Status failure =
        grpc::Status(grpc::StatusCode::UNAVAILABLE, "not now");
    // Calls of this method get no answer until they are cancelled; "*": all.
    std::string hanging = {};
    // A stream of a blob, in or out, ends in UNAVAILABLE after so many bytes
    // of it; so many do. A Read stops instead if `stalls`.
    int64_t break_after_bytes = 0;
    int breaks = 0;
    bool stalls = false;
    absl::Duration pause = {};  // Between pieces.
    int64_t extra_bytes = 0;    // Sent after a blob's end; or left out before.
    bool leaves_out = false;    // All blobs, of batches.
    bool answers_twice = false;
    bool forgets_writes = false;  // Those that broke off.
    bool knows_sha256 = true;
    bool is_cache = true;
    bool knows_zstd = false;
    bool sends_no_zstd = false;  // Where it should.
    int64_t batch_bytes_max = 0;
  };
  // What came.
  struct Seen {
    std::map<std::string, int> calls = {};  // By method.
    std::vector<int64_t> read_offsets = {};
    std::vector<int64_t> write_offsets = {};  // The first of each stream.
    std::vector<std::string> resources = {};
    std::vector<int> find_sizes = {};  // Digests in each.
    size_t message_bytes_max = 0;      // Of batches, either way.
    std::vector<std::string> instances = {};
    std::multimap<std::string, std::string> headers = {};
    std::vector<std::string> peers = {};
  };

  // Not served before Start().
  FakeRemote() : capabilities_(*this), cas_(*this), bytes_(*this) {}
  ~FakeRemote() { Stop(); }

  // On `address`, which gRPC's servers understand.
  void Start(const std::string& address,
             const std::shared_ptr<grpc::ServerCredentials>& credentials =
                 grpc::InsecureServerCredentials()) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, credentials, &port_);
    builder.SetMaxReceiveMessageSize(4 << 20);
    builder.RegisterService(&capabilities_);
    builder.RegisterService(&cas_);
    builder.RegisterService(&bytes_);
    server_ = builder.BuildAndStart();
    EXPECT_NE(server_, nullptr) << address;
  }
  void Stop() {
    if (server_ == nullptr) return;
    // Cancels what hangs.
    server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  int port() const { return port_; }

  void Behave(Manners manners) {
    MutexLock lock(mu_);
    manners_ = std::move(manners);
    failed_.clear();
  }
  Seen seen() {
    MutexLock lock(mu_);
    return seen_;
  }
  int Calls(const std::string& method) {
    MutexLock lock(mu_);
    return seen_.calls[method];
  }
  Digest Put(const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    MutexLock lock(mu_);
    blobs_[KeyOf(digest)] = bytes;
    return digest;
  }
  bool Has(const Digest& digest, const std::string& bytes) {
    MutexLock lock(mu_);
    const auto found = blobs_.find(KeyOf(digest));
    return found != blobs_.end() && found->second == bytes;
  }

 private:
  static std::string KeyOf(const Digest& digest) {
    return absl::StrCat(digest.HexHash(), "/", digest.size_bytes());
  }
  template <typename Message>
  static std::string KeyOf(const Message& digest) {
    return absl::StrCat(digest.hash(), "/", digest.size_bytes());
  }
  // The last two parts of "[INSTANCE/][uploads/UUID/]blobs/HASH/SIZE".
  static std::string KeyIn(const std::string& resource) {
    const std::vector<std::string> parts = absl::StrSplit(resource, '/');
    if (parts.size() < 3) return "";
    return absl::StrCat(parts[parts.size() - 2], "/", parts.back());
  }
  static bool IsZstd(const std::string& resource) {
    return absl::StrContains(resource, "compressed-blobs/zstd/");
  }

  // Counts the call, and does what all methods may do wrong.
  grpc::Status Begin(const std::string& method, grpc::ServerContext* context) {
    bool hangs = false;
    {
      MutexLock lock(mu_);
      ++seen_.calls[method];
      seen_.peers.push_back(context->peer());
      for (const auto& [name, value] : context->client_metadata()) {
        seen_.headers.emplace(std::string(name.data(), name.size()),
                              std::string(value.data(), value.size()));
      }
      hangs = manners_.hanging == "*" || manners_.hanging == method;
      if (!hangs && failed_[method] < manners_.failures) {
        ++failed_[method];
        return manners_.failure;
      }
    }
    if (hangs) Hang(context);
    return grpc::Status::OK;
  }
  static void Hang(grpc::ServerContext* context) {
    while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(2));
  }
  // Whether a stream that is `bytes` into a blob breaks now.
  bool Breaks(int64_t bytes) {
    MutexLock lock(mu_);
    if (manners_.breaks == 0 || bytes < manners_.break_after_bytes) {
      return false;
    }
    --manners_.breaks;
    return true;
  }
  Manners manners() {
    MutexLock lock(mu_);
    return manners_;
  }
  void See(const std::string& instance) {
    MutexLock lock(mu_);
    seen_.instances.push_back(instance);
  }
  // What it sends for a blob: its bytes, or as many more or fewer as it should
  // not.
  std::string BytesFor(const std::string& blob) {
    const int64_t extra = manners().extra_bytes;
    std::string bytes = blob;
    bytes.resize(
        std::max<int64_t>(0, static_cast<int64_t>(bytes.size()) + extra));
    return bytes;
  }

  grpc::Status Read(grpc::ServerContext* context, const std::string& resource,
                    int64_t offset,
                    grpc::ServerWriter<google::bytestream::ReadResponse>& out) {
    std::string blob;
    {
      MutexLock lock(mu_);
      seen_.read_offsets.push_back(offset);
      seen_.resources.push_back(resource);
      const auto found = blobs_.find(KeyIn(resource));
      if (found == blobs_.end()) {
        return {grpc::StatusCode::NOT_FOUND, "no such blob"};
      }
      blob = found->second;
    }
    blob = BytesFor(blob);
    const int64_t begin = offset;
    const Manners how = manners();
    const int64_t size = static_cast<int64_t>(blob.size());
    ZstdCompressor zstd;
    while (offset < size) {
      if (Breaks(offset - begin)) {
        if (!how.stalls) return {grpc::StatusCode::UNAVAILABLE, "broke off"};
        Hang(context);
      }
      const std::string piece = blob.substr(offset, 64 << 10);
      offset += static_cast<int64_t>(piece.size());
      google::bytestream::ReadResponse response;
      if (IsZstd(resource) && !how.sends_no_zstd) {
        zstd.Compress(piece, offset == size, *response.mutable_data());
        if (response.data().empty()) continue;
      } else {
        response.set_data(piece);
      }
      if (!out.Write(response)) break;
      absl::SleepFor(how.pause);
    }
    return grpc::Status::OK;
  }

  grpc::Status Write(grpc::ServerReader<google::bytestream::WriteRequest>& in,
                     int64_t* committed) {
    google::bytestream::WriteRequest request;
    std::string resource;
    std::string bytes;
    int64_t received = 0;
    const Manners how = manners();
    while (in.Read(&request)) {
      if (resource.empty()) {
        resource = request.resource_name();
        MutexLock lock(mu_);
        seen_.write_offsets.push_back(request.write_offset());
        seen_.resources.push_back(resource);
        if (request.write_offset() > 0) bytes = partial_[resource];
      }
      if (request.write_offset() != static_cast<int64_t>(bytes.size())) {
        return {grpc::StatusCode::INVALID_ARGUMENT, "a gap"};
      }
      bytes += request.data();
      received += static_cast<int64_t>(request.data().size());
      if (Breaks(received)) {
        MutexLock lock(mu_);
        if (!how.forgets_writes) partial_[resource] = bytes;
        return {grpc::StatusCode::UNAVAILABLE, "broke off"};
      }
      absl::SleepFor(how.pause);
      if (!request.finish_write()) continue;
      *committed = static_cast<int64_t>(bytes.size()) + how.extra_bytes;
      if (IsZstd(resource)) {
        bytes = ZstdDecompress(bytes, 1 << 30).value_or("not zstd");
      }
      MutexLock lock(mu_);
      blobs_[KeyIn(resource)] = bytes;
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::INVALID_ARGUMENT, "no end"};
  }

  grpc::Status ReadBatch(const BatchReadRequest& request,
                         BatchReadResponse* response) {
    See(request.instance_name());
    const Manners how = manners();
    int64_t total = 0;
    for (const auto& digest : request.digests()) {
      total += digest.size_bytes();
      if (how.leaves_out) continue;
      for (int i = 0; i < (how.answers_twice ? 2 : 1); ++i) {
        auto& blob = *response->add_responses();
        *blob.mutable_digest() = digest;
        MutexLock lock(mu_);
        const auto found = blobs_.find(KeyOf(digest));
        if (found == blobs_.end()) {
          blob.mutable_status()->set_code(grpc::StatusCode::NOT_FOUND);
          continue;
        }
        std::string bytes = found->second;
        bytes.resize(bytes.size() + manners_.extra_bytes);
        blob.set_data(bytes);
      }
    }
    MutexLock lock(mu_);
    seen_.message_bytes_max =
        std::max({seen_.message_bytes_max, request.ByteSizeLong(),
                  response->ByteSizeLong()});
    if (how.batch_bytes_max > 0 && total > how.batch_bytes_max) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "too much for a batch"};
    }
    return grpc::Status::OK;
  }

  grpc::Status UpdateBatch(const BatchUpdateRequest& request,
                           BatchUpdateResponse* response) {
    See(request.instance_name());
    const Manners how = manners();
    if (how.leaves_out) return grpc::Status::OK;
    for (const auto& update : request.requests()) {
      auto& result = *response->add_responses();
      *result.mutable_digest() = update.digest();
      if (Digest::Of(update.data()).HexHash() != update.digest().hash()) {
        result.mutable_status()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        result.mutable_status()->set_message("other bytes");
        continue;
      }
      MutexLock lock(mu_);
      blobs_[KeyOf(update.digest())] = update.data();
    }
    return grpc::Status::OK;
  }

  grpc::Status Find(const FindRequest& request, FindResponse* response) {
    See(request.instance_name());
    MutexLock lock(mu_);
    seen_.find_sizes.push_back(request.blob_digests_size());
    // In no order of the client's.
    for (int i = request.blob_digests_size() - 1; i >= 0; --i) {
      if (blobs_.count(KeyOf(request.blob_digests(i))) > 0) continue;
      *response->add_missing_blob_digests() = request.blob_digests(i);
    }
    return grpc::Status::OK;
  }

  class Capabilities final
      : public ::build::bazel::remote::execution::v2::Capabilities::Service {
   public:
    explicit Capabilities(FakeRemote& remote) : remote_(remote) {}
    grpc::Status GetCapabilities(grpc::ServerContext* context,
                                 const CapabilitiesRequest* request,
                                 CapabilitiesResponse* response) override {
      using ::build::bazel::remote::execution::v2::Compressor;
      using ::build::bazel::remote::execution::v2::DigestFunction;
      const grpc::Status begun = remote_.Begin("GetCapabilities", context);
      if (!begun.ok()) return begun;
      remote_.See(request->instance_name());
      const Manners how = remote_.manners();
      if (!how.is_cache) return grpc::Status::OK;
      auto& cache = *response->mutable_cache_capabilities();
      // 3: SHA512.
      cache.add_digest_functions(how.knows_sha256
                                     ? DigestFunction::SHA256
                                     : static_cast<DigestFunction::Value>(3));
      cache.set_max_batch_total_size_bytes(how.batch_bytes_max);
      if (how.knows_zstd) cache.add_supported_compressors(Compressor::ZSTD);
      return grpc::Status::OK;
    }

   private:
    FakeRemote& remote_;
  };

  class Cas final : public ::build::bazel::remote::execution::v2::
                        ContentAddressableStorage::Service {
   public:
    explicit Cas(FakeRemote& remote) : remote_(remote) {}
    grpc::Status FindMissingBlobs(grpc::ServerContext* context,
                                  const FindRequest* request,
                                  FindResponse* response) override {
      const grpc::Status begun = remote_.Begin("FindMissingBlobs", context);
      return begun.ok() ? remote_.Find(*request, response) : begun;
    }
    grpc::Status BatchReadBlobs(grpc::ServerContext* context,
                                const BatchReadRequest* request,
                                BatchReadResponse* response) override {
      const grpc::Status begun = remote_.Begin("BatchReadBlobs", context);
      return begun.ok() ? remote_.ReadBatch(*request, response) : begun;
    }
    grpc::Status BatchUpdateBlobs(grpc::ServerContext* context,
                                  const BatchUpdateRequest* request,
                                  BatchUpdateResponse* response) override {
      const grpc::Status begun = remote_.Begin("BatchUpdateBlobs", context);
      return begun.ok() ? remote_.UpdateBatch(*request, response) : begun;
    }

   private:
    FakeRemote& remote_;
  };

  class Bytes final : public google::bytestream::ByteStream::Service {
   public:
    explicit Bytes(FakeRemote& remote) : remote_(remote) {}
    grpc::Status Read(
        grpc::ServerContext* context,
        const google::bytestream::ReadRequest* request,
        grpc::ServerWriter<google::bytestream::ReadResponse>* out) override {
      const grpc::Status begun = remote_.Begin("Read", context);
      if (!begun.ok()) return begun;
      return remote_.Read(context, request->resource_name(),
                          request->read_offset(), *out);
    }
    grpc::Status Write(grpc::ServerContext* context,
                       grpc::ServerReader<google::bytestream::WriteRequest>* in,
                       google::bytestream::WriteResponse* response) override {
      const grpc::Status begun = remote_.Begin("Write", context);
      if (!begun.ok()) return begun;
      int64_t committed = 0;
      const grpc::Status written = remote_.Write(*in, &committed);
      response->set_committed_size(committed);
      return written;
    }
    grpc::Status QueryWriteStatus(
        grpc::ServerContext* context,
        const google::bytestream::QueryWriteStatusRequest* request,
        google::bytestream::QueryWriteStatusResponse* response) override {
      const grpc::Status begun = remote_.Begin("QueryWriteStatus", context);
      if (!begun.ok()) return begun;
      MutexLock lock(remote_.mu_);
      const auto found = remote_.partial_.find(request->resource_name());
      if (found == remote_.partial_.end()) {
        return {grpc::StatusCode::NOT_FOUND, "no such upload"};
      }
      response->set_committed_size(static_cast<int64_t>(found->second.size()));
      return grpc::Status::OK;
    }

   private:
    FakeRemote& remote_;
  };

  Mutex mu_;
  Manners manners_ ABSL_GUARDED_BY(mu_);
  Seen seen_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int> failed_ ABSL_GUARDED_BY(mu_);  // By method.
  std::map<std::string, std::string> blobs_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> partial_ ABSL_GUARDED_BY(mu_);
  Capabilities capabilities_;
  Cas cas_;
  Bytes bytes_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace casement

#endif  // CASEMENT_TESTS_SUPPORT_FAKE_REMOTE_H_
