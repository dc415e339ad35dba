// Differential: random blobs of every size go into the store in every way that
// there is, come out in every way, and have to be the same bytes.
//
// `--seed=N` is another choice of bytes, sizes and pieces; it is printed.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/compression.h"
#include "base/unique_fd.h"
#include "build/bazel/remote/execution/v2/remote_execution.grpc.pb.h"
#include "build/buildgrid/local_cas.grpc.pb.h"
#include "google/bytestream/bytestream.grpc.pb.h"
#include "model/directory.h"
#include "model/hasher.h"
#include "mount/data_paths.h"
#include "support/blob_messages.h"
#include "support/number_flags.h"
#include "support/running_daemon.h"

namespace casement {

uint64_t seed = 1;

namespace {

namespace rev2 = ::build::bazel::remote::execution::v2;
namespace local_cas = ::build::buildgrid;
using google::bytestream::ByteStream;
using google::bytestream::ReadRequest;
using google::bytestream::ReadResponse;
using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;
using grpc::ClientContext;

constexpr int64_t kKiB = int64_t{1} << 10;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kBatchBytesMax = 4 * kMiB;

// Bytes that nobody has to keep: any part of them is made when it is wanted.
class Blob {
 public:
  Blob(uint64_t number, int64_t size) : number_(number), size_(size) {
    Hasher hasher;
    for (int64_t at = 0; at < size; at += kMiB) hasher.Update(Part(at, kMiB));
    digest_ = hasher.Finish();
  }

  int64_t size() const { return size_; }
  const Digest& digest() const { return digest_; }
  std::string name() const {
    return absl::StrCat(digest_.HexHash(), "/", size_);
  }
  // As far as there are so many.
  std::string Part(int64_t offset, int64_t bytes) const {
    bytes = std::clamp<int64_t>(size_ - offset, 0, bytes);
    const int64_t first = offset / 8;
    std::vector<uint64_t> words((offset + bytes + 7) / 8 - first);
    for (size_t i = 0; i < words.size(); ++i) words[i] = Word(first + i);
    return std::string(reinterpret_cast<const char*>(words.data()) + offset % 8,
                       bytes);
  }
  std::string All() const { return Part(0, size_); }

 private:
  // Of every 64 KiB, half can be compressed.
  uint64_t Word(uint64_t index) const {
    if (index / 4096 % 2 == 0) index = index / 4096 * 4096 + index % 7;
    // SplitMix64.
    uint64_t word = number_ * 0xd1342543de82ef95 + index * 0x9e3779b97f4a7c15;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
  }

  const uint64_t number_;
  const int64_t size_;
  Digest digest_;
};

Digest HashOf(const std::string& bytes) { return Digest::Of(bytes); }

class Blobs : public testing::TestWithParam<std::string> {
 protected:
  struct WayIn {
    const char* name;
    int64_t bytes_max;
    std::function<void(const Blob&)> put;
  };
  struct WayOut {
    const char* name;
    int64_t bytes_max;
    std::function<Digest(const Blob&)> get;
  };

  Blobs() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    const auto channel = grpc::CreateCustomChannel(
        absl::StrCat("unix:", daemon_.socket()),
        grpc::InsecureChannelCredentials(), arguments);
    cas_ = rev2::ContentAddressableStorage::NewStub(channel);
    bytes_ = ByteStream::NewStub(channel);
    local_ = local_cas::LocalContentAddressableStorage::NewStub(channel);
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  }

  int64_t Random(int64_t max) {
    return std::uniform_int_distribution<int64_t>(0, max)(random_);
  }
  Blob NewBlob(int64_t size) { return Blob(random_(), size); }
  static void ExpectOk(const grpc::Status& status) {
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  // Ways in.

  void PutBatch(const Blob& blob, bool is_zstd) {
    rev2::BatchUpdateBlobsRequest request;
    auto& update = *request.add_requests();
    *update.mutable_digest() = MessageOf(blob.digest());
    update.set_data(is_zstd ? ZstdCompress(blob.All()) : blob.All());
    if (is_zstd) update.set_compressor(rev2::Compressor::ZSTD);
    rev2::BatchUpdateBlobsResponse response;
    ClientContext context;
    ExpectOk(cas_->BatchUpdateBlobs(&context, request, &response));
    EXPECT_EQ(response.responses(0).status().code(), 0)
        << response.responses(0).status().message();
  }

  // One stream of an upload, from `from` to `to`; only the last one succeeds.
  void PutStream(const Blob& blob, const std::string& name, bool is_zstd,
                 int64_t from, int64_t to) {
    ClientContext context;
    WriteResponse response;
    const auto writer = bytes_->Write(&context, &response);
    WriteRequest piece;
    piece.set_resource_name(name);
    ZstdCompressor compressor;
    int64_t offset = from;
    int64_t wire = from;
    do {
      const std::string part =
          blob.Part(offset, std::min(to - offset, 1 + Random(3 * kMiB)));
      offset += static_cast<int64_t>(part.size());
      std::string& data = *piece.mutable_data();
      data = part;
      if (is_zstd) {
        data.clear();
        compressor.Compress(part, /*is_last=*/offset == to, data);
      }
      piece.set_write_offset(wire);
      wire += static_cast<int64_t>(data.size());
      piece.set_finish_write(offset == blob.size());
      if (!writer->Write(piece)) break;
    } while (offset < to);
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    if (to < blob.size()) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      return;
    }
    ExpectOk(status);
    // The empty blob is there before.
    EXPECT_EQ(response.committed_size(),
              is_zstd && blob.size() == 0 ? -1 : wire);
  }

  std::string UploadName(const Blob& blob, bool is_zstd) {
    return absl::StrCat("uploads/", random_(),
                        is_zstd ? "/compressed-blobs/zstd/" : "/blobs/",
                        blob.name());
  }

  void PutWhole(const Blob& blob, bool is_zstd) {
    PutStream(blob, UploadName(blob, is_zstd), is_zstd, 0, blob.size());
  }

  // In up to four streams, each of which goes on where the last one broke off.
  void PutResumed(const Blob& blob, bool is_zstd) {
    const std::string name = UploadName(blob, is_zstd);
    int64_t from = 0;
    for (int breaks = 0; breaks < 3 && from < blob.size(); ++breaks) {
      const int64_t to = from + Random(blob.size() - from);
      if (to == from || to == blob.size()) continue;
      PutStream(blob, name, is_zstd, from, to);
      google::bytestream::QueryWriteStatusRequest request;
      request.set_resource_name(name);
      google::bytestream::QueryWriteStatusResponse response;
      ClientContext context;
      ExpectOk(bytes_->QueryWriteStatus(&context, request, &response));
      EXPECT_EQ(response.committed_size(), to);
      from = response.committed_size();
    }
    PutStream(blob, name, is_zstd, from, blob.size());
  }

  void WriteTo(const Blob& blob, const std::string& path) {
    const UniqueFd fd(
        open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
    for (int64_t at = 0; at < blob.size();) {
      const std::string part = blob.Part(at, 1 + Random(2 * kMiB));
      ASSERT_EQ(write(fd.get(), part.data(), part.size()),
                static_cast<ssize_t>(part.size()));
      at += static_cast<int64_t>(part.size());
    }
  }

  void PutLocalFile(const Blob& blob, bool is_tool) {
    const std::string path = daemon_.folder() + "/file";
    WriteTo(blob, path);
    if (is_tool) {
      EXPECT_EQ(daemon_.Casement({"put", path}).out,
                absl::StrCat(blob.digest().ToString(), "  ", path, "\n"));
    } else {
      EXPECT_EQ(*daemon_.client().PutFile(path), blob.digest());
    }
    unlink(path.c_str());
  }

  void PutCollected(const Blob& blob) {
    const auto sandbox = daemon_.client().Create({});
    ASSERT_TRUE(sandbox.ok()) << sandbox.status();
    WriteTo(blob, sandbox->info.path + "/out");
    const auto collected =
        daemon_.client().Collect(sandbox->info.name, {"out"});
    ASSERT_TRUE(collected.ok()) << collected.status();
    EXPECT_EQ(collected->outputs[0].digest, blob.digest());
    EXPECT_TRUE(daemon_.client().Release(sandbox->info.name).ok());
  }

  void PutCaptured(const Blob& blob) {
    ClientContext staging;
    const auto stream = local_->StageTree(&staging);
    local_cas::StageTreeRequest request;
    *request.mutable_root_digest() = MessageOf(Digest());
    stream->Write(request);
    local_cas::StageTreeResponse stage;
    ASSERT_TRUE(stream->Read(&stage));
    WriteTo(blob, stage.path() + "/out");
    local_cas::CaptureFilesRequest capture;
    capture.add_path(stage.path() + "/out");
    local_cas::CaptureFilesResponse captured;
    ClientContext context;
    ExpectOk(local_->CaptureFiles(&context, capture, &captured));
    EXPECT_EQ(captured.responses(0).digest().hash(), blob.digest().HexHash());
    stream->WritesDone();
    while (stream->Read(&stage)) {
    }
    ExpectOk(stream->Finish());
  }

  std::vector<WayIn> WaysIn() {
    constexpr int64_t kAny = INT64_MAX;
    return {
        {"batch", kBatchBytesMax, [this](auto& b) { PutBatch(b, false); }},
        {"batch, zstd", kBatchBytesMax, [this](auto& b) { PutBatch(b, true); }},
        {"stream", kAny, [this](auto& b) { PutWhole(b, false); }},
        {"stream, zstd", kAny, [this](auto& b) { PutWhole(b, true); }},
        {"broken off", kAny, [this](auto& b) { PutResumed(b, false); }},
        {"broken off, zstd", kAny, [this](auto& b) { PutResumed(b, true); }},
        {"casement put", kAny, [this](auto& b) { PutLocalFile(b, true); }},
        {"PutFile()", kAny, [this](auto& b) { PutLocalFile(b, false); }},
        {"Put()", 64 * kMiB,
         [this](auto& b) {
           EXPECT_EQ(*daemon_.client().Put(b.All()), b.digest());
         }},
        {"collected", kAny, [this](auto& b) { PutCollected(b); }},
        {"captured", kAny, [this](auto& b) { PutCaptured(b); }},
    };
  }

  // Ways out: what each gives hashes to this.

  Digest GetBatch(const Blob& blob, bool may_be_zstd) {
    rev2::BatchReadBlobsRequest request;
    *request.add_digests() = MessageOf(blob.digest());
    if (may_be_zstd) request.add_acceptable_compressors(rev2::Compressor::ZSTD);
    rev2::BatchReadBlobsResponse response;
    ClientContext context;
    ExpectOk(cas_->BatchReadBlobs(&context, request, &response));
    const auto& got = response.responses(0);
    return got.compressor() == rev2::Compressor::ZSTD
               ? HashOf(*ZstdDecompress(got.data(), blob.size()))
               : HashOf(got.data());
  }

  // Adds the bytes from `offset` on to what is hashed; as many as there are for
  // a limit of 0.
  void ReadInto(Hasher& hasher, const Blob& blob, bool is_zstd, int64_t offset,
                int64_t limit) {
    ReadRequest request;
    request.set_resource_name(absl::StrCat(
        is_zstd ? "compressed-blobs/zstd/" : "blobs/", blob.name()));
    request.set_read_offset(offset);
    request.set_read_limit(limit);
    ClientContext context;
    const auto reader = bytes_->Read(&context, request);
    ReadResponse response;
    ZstdDecompressor decompressor;
    while (reader->Read(&response)) {
      if (!is_zstd) {
        hasher.Update(response.data());
        continue;
      }
      EXPECT_TRUE(decompressor
                      .Decompress(response.data(),
                                  [&hasher](absl::string_view bytes) {
                                    hasher.Update(bytes);
                                    return absl::OkStatus();
                                  })
                      .ok());
    }
    ExpectOk(reader->Finish());
  }
  Digest GetStream(const Blob& blob, bool is_zstd) {
    Hasher hasher;
    ReadInto(hasher, blob, is_zstd, 0, 0);
    return hasher.Finish();
  }
  // In three parts: the first ones by a limit, the last one from an offset on.
  Digest GetParts(const Blob& blob, bool ends_with_zstd) {
    const int64_t first = Random(blob.size());
    const int64_t second = first + Random(blob.size() - first);
    Hasher hasher;
    if (first > 0) ReadInto(hasher, blob, false, 0, first);
    if (second > first) ReadInto(hasher, blob, false, first, second - first);
    ReadInto(hasher, blob, ends_with_zstd, second, 0);
    return hasher.Finish();
  }

  Digest ReadPath(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(fd.valid()) << path;
    Hasher hasher;
    std::string buffer(static_cast<size_t>(1 + Random(2 * kMiB)), '\0');
    ssize_t got = 0;
    while ((got = read(fd.get(), buffer.data(), buffer.size())) > 0) {
      hasher.Update({buffer.data(), static_cast<size_t>(got)});
    }
    EXPECT_EQ(got, 0) << path;
    return hasher.Finish();
  }
  Digest MapPath(const std::string& path, int64_t size) {
    if (size == 0) return ReadPath(path);
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    EXPECT_EQ(fstat(fd.get(), &status), 0);
    EXPECT_EQ(status.st_size, size);
    void* const map = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    EXPECT_NE(map, MAP_FAILED);
    if (map == MAP_FAILED) return Digest();
    Hasher hasher;
    hasher.Update({static_cast<const char*>(map), static_cast<size_t>(size)});
    munmap(map, size);
    return hasher.Finish();
  }
  std::string CasPath(const Blob& blob) const {
    return daemon_.At("cas/" + blob.digest().ToString());
  }

  Digest GetInput(const Blob& blob, bool is_read_only) {
    DirectoryBuilder builder;
    builder.AddFile("input", blob.digest(), false);
    SandboxSpec spec;
    spec.root = *daemon_.client().Put(builder.Build());
    if (is_read_only) spec.inputs = InputsPolicy::kReadOnly;
    const auto sandbox = daemon_.client().Create(spec);
    EXPECT_TRUE(sandbox.ok()) << sandbox.status();
    if (!sandbox.ok()) return Digest();
    const Digest got = ReadPath(sandbox->info.path + "/input");
    EXPECT_TRUE(daemon_.client().Release(sandbox->info.name).ok());
    return got;
  }

  Digest GetFile(const Blob& blob, bool is_tool) {
    const std::string path = daemon_.folder() + "/got";
    if (is_tool) {
      EXPECT_EQ(daemon_.Casement({"get", blob.digest().ToString(), "-o", path})
                    .exit_status,
                0);
    } else {
      const UniqueFd fd(
          open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644));
      const absl::Status got = daemon_.client().Get(blob.digest(), fd.get());
      EXPECT_TRUE(got.ok()) << got;
    }
    const Digest digest = ReadPath(path);
    unlink(path.c_str());
    return digest;
  }

  std::vector<WayOut> WaysOut() {
    constexpr int64_t kAny = INT64_MAX;
    return {
        {"batch", kBatchBytesMax,
         [this](auto& b) { return GetBatch(b, false); }},
        {"batch, zstd", kBatchBytesMax,
         [this](auto& b) { return GetBatch(b, true); }},
        {"stream", kAny, [this](auto& b) { return GetStream(b, false); }},
        {"stream, zstd", kAny, [this](auto& b) { return GetStream(b, true); }},
        {"parts", kAny, [this](auto& b) { return GetParts(b, false); }},
        {"parts, zstd", kAny, [this](auto& b) { return GetParts(b, true); }},
        {"cas/", kAny, [this](auto& b) { return ReadPath(CasPath(b)); }},
        {"cas/, mapped", kAny,
         [this](auto& b) { return MapPath(CasPath(b), b.size()); }},
        {"exec view", kAny,
         [this](auto& b) { return ReadPath(CasPath(b) + ".exec"); }},
        {"input", kAny, [this](auto& b) { return GetInput(b, false); }},
        {"read-only input", kAny,
         [this](auto& b) { return GetInput(b, true); }},
        {"Get()", kAny, [this](auto& b) { return GetFile(b, false); }},
        {"casement get", kAny, [this](auto& b) { return GetFile(b, true); }},
        {"GetBytes()", 64 * kMiB,
         [this](auto& b) {
           return HashOf(*daemon_.client().GetBytes(b.digest(), b.size()));
         }},
    };
  }

  bool IsMissing(const Blob& blob) {
    local_cas::UploadMissingBlobsRequest request;
    *request.add_blob_digests() = MessageOf(blob.digest());
    local_cas::UploadMissingBlobsResponse response;
    ClientContext context;
    ExpectOk(local_->UploadMissingBlobs(&context, request, &response));
    return response.responses_size() > 0;
  }

  // Of the ways out, each `out_step`th, another beginning each time.
  void Play(const Blob& blob, const std::vector<WayIn>& in, size_t out_step) {
    const std::vector<WayOut> out = WaysOut();
    size_t first = 0;
    for (const WayIn& way : in) {
      if (blob.size() > way.bytes_max) continue;
      EXPECT_EQ(IsMissing(blob), blob.size() > 0);
      way.put(blob);
      EXPECT_FALSE(IsMissing(blob)) << way.name << ", " << blob.size();
      for (size_t i = first++ % out_step; i < out.size(); i += out_step) {
        if (blob.size() > out[i].bytes_max) continue;
        EXPECT_EQ(out[i].get(blob), blob.digest())
            << blob.size() << " bytes: in by " << way.name << ", out by "
            << out[i].name;
      }
      if (HasFailure()) return;
      EXPECT_TRUE(daemon_.client().Evict({blob.digest()}).ok());
    }
  }

  std::mt19937_64 random_{seed};
  RunningDaemon daemon_{{"--data-path", GetParam()}};
  std::unique_ptr<rev2::ContentAddressableStorage::Stub> cas_;
  std::unique_ptr<ByteStream::Stub> bytes_;
  std::unique_ptr<local_cas::LocalContentAddressableStorage::Stub> local_;
};

CASEMENT_IN_BOTH_DATA_PATHS(Blobs);

// Around pages, the kernel's and zstd's blocks, our pieces, what is sent in
// batches, what a message holds.
TEST_P(Blobs, AtEveryLimitComeOutAsTheyWentIn) {
  std::vector<int64_t> sizes = {0, 1, 2};
  for (const int64_t limit :
       {4 * kKiB, 128 * kKiB, 512 * kKiB, kMiB, 4 * kMiB, 8 * kMiB}) {
    for (const int64_t off : {-1, 0, 1}) sizes.push_back(limit + off);
  }
  for (const int64_t size : sizes) {
    Play(NewBlob(size), WaysIn(), size < kMiB ? 1 : 3);
    if (HasFailure()) return;
  }
}

TEST_P(Blobs, OfRandomSizesComeOutAsTheyWentIn) {
  for (const int64_t max : {100 * int64_t{1}, 64 * kKiB, 64 * kKiB, 2 * kMiB,
                            2 * kMiB, 16 * kMiB, 16 * kMiB}) {
    Play(NewBlob(1 + Random(max)), WaysIn(), max < kMiB ? 1 : 2);
    if (HasFailure()) return;
  }
}

// In one data path.
class LargestBlobs : public Blobs {};

INSTANTIATE_TEST_SUITE_P(DataPath, LargestBlobs, testing::Values("passthrough"),
                         [](const auto& info) { return info.param; });

TEST_P(LargestBlobs, OfHundredsOfMebibytesComeOutAsTheyWentIn) {
  Play(NewBlob(200 * kMiB + Random(kMiB)), WaysIn(), WaysOut().size() / 2);
}

// A few ways only.
TEST_P(LargestBlobs, OfAGibibyteComeOutAsTheyWentIn) {
  std::vector<WayIn> in;
  for (const WayIn& way : WaysIn()) {
    const std::string name = way.name;
    if (name == "broken off" || name == "collected") in.push_back(way);
  }
  ASSERT_EQ(in.size(), 2u);
  Play(NewBlob(kMiB * 1024), in, WaysOut().size() / 2);
}

}  // namespace
}  // namespace casement

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!casement::ParseNumberFlags(argc, argv, {{"--seed", &casement::seed}})) {
    return 2;
  }
  return RUN_ALL_TESTS();
}
