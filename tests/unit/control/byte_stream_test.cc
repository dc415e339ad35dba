// ByteStream beyond whole blobs: uploads that break off, and compression.
#include <algorithm>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "base/compression.h"
#include "control/pending_uploads.h"
#include "gmock/gmock.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

using google::bytestream::QueryWriteStatusRequest;
using google::bytestream::QueryWriteStatusResponse;
using google::bytestream::WriteRequest;
using google::bytestream::WriteResponse;
using grpc::StatusCode;
using ::testing::HasSubstr;

std::string ZstdName(const Digest& digest) {
  return absl::StrCat("i/compressed-blobs/zstd/", digest.HexHash(), "/",
                      digest.size_bytes());
}

std::string ZstdUploadName(const Digest& digest) {
  return absl::StrCat("uploads/1-2-3/compressed-blobs/zstd/", digest.HexHash(),
                      "/", digest.size_bytes());
}

class ByteStreamTest : public ControlServerTest {
 protected:
  explicit ByteStreamTest(ControlServer::Options options = {})
      : ControlServerTest(std::move(options)) {}

  grpc::Status Query(const std::string& name,
                     QueryWriteStatusResponse* response) {
    QueryWriteStatusRequest request;
    request.set_resource_name(name);
    grpc::ClientContext context;
    return bytes_->QueryWriteStatus(&context, request, response);
  }

  // -1: it is not known.
  int64_t CommittedBytes(const std::string& name) {
    QueryWriteStatusResponse response;
    return Query(name, &response).ok() ? response.committed_size() : -1;
  }

  // As a client that dies, or whose connection does.
  void BreakOff(const std::string& name, int64_t offset,
                const std::string& data) {
    const int64_t before = std::max<int64_t>(CommittedBytes(name), 0);
    grpc::ClientContext context;
    WriteResponse response;
    auto writer = bytes_->Write(&context, &response);
    EXPECT_TRUE(writer->Write(Piece(name, offset, data, false)));
    // Until it is there: else it is as if it had not been sent.
    EXPECT_TRUE(Eventually(absl::Seconds(5), [&] {
      return harness_.store().ledger().Get(Owner::kUploads) > before;
    }));
    context.TryCancel();
    writer->Finish();
  }

  int64_t UploadBytes() {
    return harness_.store().ledger().Get(Owner::kUploads);
  }
};

TEST_F(ByteStreamTest, AnUploadThatBrokeOffGoesOnWhereItWas) {
  const std::string bytes = Pattern(3 * kMiB);
  const Digest digest = Digest::Of(bytes);
  const std::string name = UploadName(digest);
  EXPECT_EQ(CommittedBytes(name), -1);
  BreakOff(name, 0, bytes.substr(0, kMiB));
  ASSERT_TRUE(Eventually(absl::Seconds(5),
                         [&] { return CommittedBytes(name) == kMiB; }));
  QueryWriteStatusResponse kept;
  ASSERT_TRUE(Query(name, &kept).ok());
  EXPECT_FALSE(kept.complete());
  EXPECT_GE(UploadBytes(), kMiB) << "what is kept must be accounted (G3)";
  WriteResponse response;
  const grpc::Status status =
      Write({Piece(name, kMiB, bytes.substr(kMiB), true)}, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.committed_size(), 3 * kMiB);
  EXPECT_TRUE(*harness_.store().Read(digest, 3 * kMiB) == bytes);
  EXPECT_EQ(UploadBytes(), 0);
  ASSERT_TRUE(Query(name, &kept).ok());
  EXPECT_TRUE(kept.complete());
}

TEST_F(ByteStreamTest, AStreamThatEndsWithoutItsLastPieceSaysSoAndIsKept) {
  const Digest digest = Digest::Of("hello");
  const std::string name = UploadName(digest);
  WriteResponse response;
  const grpc::Status status = Write({Piece(name, 0, "he", false)}, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("last piece"));
  EXPECT_FALSE(harness_.store().Contains(digest));
  EXPECT_EQ(CommittedBytes(name), 2);
  EXPECT_EQ(CommittedBytes("uploads/other" + name.substr(name.find('/', 21))),
            -1);
}

TEST_F(ByteStreamTest, OnlyTheNextOffsetGoesOn) {
  const Digest digest = Digest::Of("hello");
  const std::string name = UploadName(digest);
  WriteResponse response;
  Write({Piece(name, 0, "he", false)}, &response);
  for (const int offset : {1, 3, 5}) {
    const grpc::Status status =
        Write({Piece(name, offset, "llo", true)}, &response);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("instead of 2"));
  }
  ASSERT_TRUE(Write({Piece(name, 2, "llo", true)}, &response).ok());
  EXPECT_EQ(response.committed_size(), 5);
}

TEST_F(ByteStreamTest, AnUploadMayBeginAgain) {
  const Digest digest = Digest::Of("hello");
  const std::string name = UploadName(digest);
  WriteResponse response;
  Write({Piece(name, 0, "xx", false)}, &response);
  ASSERT_TRUE(Write({Piece(name, 0, "hello", true)}, &response).ok());
  EXPECT_EQ(UploadBytes(), 0);
}

TEST_F(ByteStreamTest, WrongBytesBeforeTheBreakAreFoundAtTheEnd) {
  const Digest digest = Digest::Of("hello");
  const std::string name = UploadName(digest);
  WriteResponse response;
  Write({Piece(name, 0, "xx", false)}, &response);
  EXPECT_EQ(Write({Piece(name, 2, "llo", true)}, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(CommittedBytes(name), -1);
  EXPECT_EQ(UploadBytes(), 0);
  EXPECT_FALSE(harness_.store().Contains(digest));
}

TEST_F(ByteStreamTest, WhatIsKeptHasALimit) {
  std::vector<std::string> names;
  for (int i = 0; i < 80; ++i) {
    names.push_back(UploadName(Digest::Of(absl::StrCat("hello ", i))));
    WriteResponse response;
    Write({Piece(names.back(), 0, "hello", false)}, &response);
  }
  int kept = 0;
  for (const std::string& name : names) {
    if (CommittedBytes(name) == 5) ++kept;
  }
  EXPECT_EQ(kept, 64);
  EXPECT_EQ(CommittedBytes(names.front()), -1);
  EXPECT_EQ(CommittedBytes(names.back()), 5);
}

class SmallStoreTest : public ::testing::Test {
 protected:
  SmallStoreTest() : pending_({.bytes_max = 10}) {}

  std::unique_ptr<Upload> Started(const std::string& bytes) {
    auto upload = harness_.store().StartUpload(Digest::Of("a long blob"));
    EXPECT_TRUE(upload.ok());
    EXPECT_TRUE((*upload)->Write(bytes).ok());
    return *std::move(upload);
  }

  ControlHarness harness_;
  PendingUploads pending_;
};

TEST_F(SmallStoreTest, LargerOnesTakeThePlaceOfTheLongestKept) {
  pending_.Keep("a", Started("aaaa"));
  pending_.Keep("b", Started("bbbb"));
  pending_.Keep("c", Started("cccc"));
  EXPECT_EQ(pending_.WrittenBytes("a"), std::nullopt);
  EXPECT_EQ(pending_.WrittenBytes("b"), 4);
  pending_.Keep("b", Started("bb"));
  EXPECT_EQ(pending_.WrittenBytes("b"), 2);
  pending_.Keep("d", Started("ddddddddddd"));
  EXPECT_EQ(pending_.WrittenBytes("d"), std::nullopt);
  EXPECT_EQ(pending_.WrittenBytes("c"), 4);
  EXPECT_EQ(pending_.Take("c", 3), nullptr);
  EXPECT_NE(pending_.Take("c", 4), nullptr);
  EXPECT_EQ(pending_.WrittenBytes("c"), std::nullopt);
}

class ImpatientByteStreamTest : public ByteStreamTest {
 protected:
  ImpatientByteStreamTest()
      : ByteStreamTest({.upload_patience = absl::Milliseconds(300)}) {}
};

// G3, G22
TEST_F(ImpatientByteStreamTest, WhoNeverComesBackIsForgotten) {
  const std::string bytes = Pattern(2 * kMiB);
  const std::string name = UploadName(Digest::Of(bytes));
  BreakOff(name, 0, bytes.substr(0, kMiB));
  EXPECT_TRUE(
      Eventually(absl::Seconds(10), [this] { return UploadBytes() == 0; }));
  EXPECT_EQ(CommittedBytes(name), -1);
}

TEST_F(ByteStreamTest, BlobsOfEverySizeTravelCompressed) {
  for (const int size : {0, 1, kMiB - 1, 9 * kMiB}) {
    std::string bytes = Pattern(size);
    std::fill(bytes.begin(), bytes.begin() + size / 2, 'x');
    const Digest digest = Digest::Of(bytes);
    const std::string compressed = ZstdCompress(bytes);
    std::vector<WriteRequest> pieces;
    for (size_t at = 0; at < compressed.size(); at += kMiB) {
      pieces.push_back(Piece(ZstdUploadName(digest), at,
                             compressed.substr(at, kMiB),
                             at + kMiB >= compressed.size()));
    }
    WriteResponse response;
    const grpc::Status status = Write(pieces, &response);
    ASSERT_TRUE(status.ok()) << size << " " << status.error_message();
    EXPECT_EQ(response.committed_size(),
              size == 0 ? -1 : static_cast<int64_t>(compressed.size()));
    for (const int offset : {0, size / 3, size}) {
      std::string got;
      ASSERT_TRUE(Read(ZstdName(digest), offset, 0, &got).ok());
      if (size > kMiB && offset == 0) {
        EXPECT_LT(got.size(), bytes.size());
      }
      const auto plain = ZstdDecompress(got, size);
      ASSERT_TRUE(plain.ok()) << plain.status();
      EXPECT_TRUE(*plain == bytes.substr(offset)) << size << " " << offset;
    }
  }
}

TEST_F(ByteStreamTest, WrongCompressedReadsAreRefused) {
  const Digest digest = PutNow("hello");
  std::string got;
  EXPECT_EQ(Read(ZstdName(digest), 0, 3, &got).error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Read(ZstdName(digest), 6, 0, &got).error_code(),
            StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(Read(ZstdName(Digest::Of("absent")), 0, 0, &got).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_EQ(got, "");
}

TEST_F(ByteStreamTest, WrongCompressedUploadsAreRefusedAndLeaveNothing) {
  const std::string bytes = Pattern(100'000);
  const Digest digest = Digest::Of(bytes);
  const std::string name = ZstdUploadName(digest);
  const std::string good = ZstdCompress(bytes);
  for (const std::string& wrong :
       {bytes, good.substr(0, good.size() - 1), good + "more",
        ZstdCompress(bytes + "x"), ZstdCompress(bytes.substr(1)),
        ZstdCompress(Pattern(100'001).substr(1)),
        ZstdCompress(std::string(200 * kMiB, '\0'))}) {
    WriteResponse response;
    EXPECT_EQ(Write({Piece(name, 0, wrong, true)}, &response).error_code(),
              StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(UploadBytes(), 0);
  }
  EXPECT_FALSE(harness_.store().Contains(digest));
}

TEST_F(ByteStreamTest, ACompressedUploadOfWhatIsThereIsAnsweredWithMinusOne) {
  const Digest digest = PutNow("hello");
  WriteResponse response;
  ASSERT_TRUE(
      Write({Piece(ZstdUploadName(digest), 0, "any", false)}, &response).ok());
  EXPECT_EQ(response.committed_size(), -1);
}

// As REv2 has it: the first offset is the blob's, the others count on from it
// in bytes on the wire.
TEST_F(ByteStreamTest, ACompressedUploadGoesOnWithAnotherFrame) {
  const std::string bytes = Pattern(kMiB);
  const Digest digest = Digest::Of(bytes);
  const std::string name = ZstdUploadName(digest);
  const std::string first = ZstdCompress(bytes.substr(0, 300'000));
  WriteResponse response;
  Write({Piece(name, 0, first, false)}, &response);
  ASSERT_EQ(CommittedBytes(name), 300'000);
  const std::string second = ZstdCompress(bytes.substr(300'000));
  const grpc::Status status =
      Write({Piece(name, 300'000, second.substr(0, 1000), false),
             Piece(name, 301'000, second.substr(1000), true)},
            &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.committed_size(),
            300'000 + static_cast<int64_t>(second.size()));
  EXPECT_TRUE(harness_.store().Contains(digest));
}

TEST_F(ByteStreamTest, SixtyFourClientsUploadBreakOffAndGoOn) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([this, i] {
      // Half of them the same blob.
      const std::string bytes =
          absl::StrCat(i % 2 == 0 ? i : 0, Pattern(200'000));
      const Digest digest = Digest::Of(bytes);
      const std::string name =
          absl::StrCat("uploads/", i, "/", BlobName(digest));
      auto stub = google::bytestream::ByteStream::NewStub(NewChannel());
      const auto write = [&](int64_t offset, const std::string& data,
                             bool is_last) {
        grpc::ClientContext context;
        WriteResponse response;
        auto writer = stub->Write(&context, &response);
        writer->Write(Piece(name, offset, data, is_last));
        writer->WritesDone();
        return writer->Finish();
      };
      write(0, bytes.substr(0, 50'000), false);
      const grpc::Status status = write(50'000, bytes.substr(50'000), true);
      EXPECT_TRUE(status.ok()) << status.error_message();
      EXPECT_TRUE(*harness_.store().Read(digest, kMiB) == bytes);
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(UploadBytes(), 0);
  harness_.store().CheckInvariants();
}

// Batches.

TEST_F(ByteStreamTest, BatchesTakeAndGiveCompressedBlobs) {
  const std::string bytes(100'000, 'x');
  const std::string noise = Digest::Of("noise").HexHash().substr(0, 20);
  rev2::BatchUpdateBlobsRequest update;
  const auto add = [&](const Digest& digest, const std::string& data) {
    auto& request = *update.add_requests();
    *request.mutable_digest() = MessageOf(digest);
    request.set_data(data);
    request.set_compressor(rev2::Compressor::ZSTD);
  };
  add(Digest::Of(bytes), ZstdCompress(bytes));
  add(Digest::Of(noise), ZstdCompress(noise));
  add(Digest::Of("bomb"), ZstdCompress(std::string(100 * kMiB, '\0')));
  add(Digest::Of("plain"), "plain");
  add(Digest::Of("wrong"), ZstdCompress("wrung"));
  grpc::ClientContext context;
  rev2::BatchUpdateBlobsResponse updated;
  ASSERT_TRUE(cas_->BatchUpdateBlobs(&context, update, &updated).ok());
  std::vector<int> codes;
  for (const auto& response : updated.responses()) {
    codes.push_back(response.status().code());
  }
  EXPECT_THAT(codes, ::testing::ElementsAre(0, 0, 3, 3, 3));

  rev2::BatchReadBlobsRequest read;
  *read.add_digests() = MessageOf(Digest::Of(bytes));
  *read.add_digests() = MessageOf(Digest::Of(noise));
  for (const bool accepts : {false, true}) {
    if (accepts) read.add_acceptable_compressors(rev2::Compressor::ZSTD);
    grpc::ClientContext second;
    rev2::BatchReadBlobsResponse got;
    ASSERT_TRUE(cas_->BatchReadBlobs(&second, read, &got).ok());
    EXPECT_EQ(got.responses(0).compressor() == rev2::Compressor::ZSTD, accepts);
    EXPECT_TRUE((accepts ? *ZstdDecompress(got.responses(0).data(), kMiB)
                         : got.responses(0).data()) == bytes);
    // Not worth it.
    EXPECT_EQ(got.responses(1).compressor(), rev2::Compressor::IDENTITY);
    EXPECT_EQ(got.responses(1).data(), noise);
  }
}

TEST_F(ByteStreamTest, BatchesCountWhatBlobsAreUncompressed) {
  rev2::BatchUpdateBlobsRequest update;
  for (const char byte : {'a', 'b', 'c'}) {
    const std::string bytes(2 * kMiB, byte);
    auto& request = *update.add_requests();
    *request.mutable_digest() = MessageOf(Digest::Of(bytes));
    request.set_data(ZstdCompress(bytes));
    request.set_compressor(rev2::Compressor::ZSTD);
  }
  grpc::ClientContext context;
  rev2::BatchUpdateBlobsResponse response;
  EXPECT_EQ(cas_->BatchUpdateBlobs(&context, update, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ByteStreamTest, CapabilitiesAnnounceTheCompressor) {
  auto stub = rev2::Capabilities::NewStub(channel_);
  grpc::ClientContext context;
  rev2::ServerCapabilities capabilities;
  ASSERT_TRUE(stub->GetCapabilities(&context, {}, &capabilities).ok());
  const rev2::CacheCapabilities& cache = capabilities.cache_capabilities();
  EXPECT_THAT(cache.supported_compressors(),
              ::testing::ElementsAre(rev2::Compressor::ZSTD));
  EXPECT_THAT(cache.supported_batch_update_compressors(),
              ::testing::ElementsAre(rev2::Compressor::ZSTD));
}

}  // namespace
}  // namespace casement
