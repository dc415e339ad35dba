// RemoteCas in front of a cache that is slow, wrong, gone, or back again.
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "remote/remote_cas.h"
#include "support/fake_remote.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::SizeIs;
using ::testing::StartsWith;
using Kind = RemoteCas::Kind;
using Result = RemoteCas::Result;
using grpc::StatusCode;

constexpr int kMiB = 1 << 20;

std::string Pattern(size_t bytes) {
  std::string pattern(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) {
    pattern[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  return pattern;
}

class RemoteFaults : public ::testing::Test {
 protected:
  void StartServer() { server_.Start("unix:" + socket()); }
  std::string socket() const { return folder_ / "socket"; }

  std::unique_ptr<RemoteCas> Open(absl::Duration timeout, bool compress = false,
                                  const std::string& headers_path = "") {
    auto remote =
        RemoteCas::Open({.address = *RemoteAddress::Parse("unix:" + socket()),
                         .headers_path = headers_path,
                         .timeout = timeout,
                         .compress = compress});
    EXPECT_TRUE(remote.ok()) << remote.status();
    return *std::move(remote);
  }

  // The ways to ask a remote for something, on blobs that it has.
  struct Way {
    std::string name;
    std::function<absl::Status(RemoteCas&)> ask;
  };
  std::vector<Way> Ways() {
    return {
        {"FindMissing",
         [this](RemoteCas& remote) {
           return remote.FindMissing({small_}).status();
         }},
        {"FetchSmall",
         [this](RemoteCas& remote) { return FetchSmall(remote, small_); }},
        {"Fetch",
         [this](RemoteCas& remote) { return Fetch(remote, large_).status(); }},
        {"SendSmall",
         [this](RemoteCas& remote) {
           return SendSmall(remote, {small_bytes_});
         }},
        {"Send small",
         [this](RemoteCas& remote) { return Send(remote, small_bytes_); }},
        {"Send large",
         [this](RemoteCas& remote) { return Send(remote, large_bytes_); }},
    };
  }

  static absl::Status FetchSmall(RemoteCas& remote, const Digest& digest) {
    int answers = 0;
    absl::Status status;
    remote.FetchSmall({digest}, [&](const Digest& which,
                                    absl::StatusOr<absl::string_view> bytes) {
      ++answers;
      status = bytes.status();
      EXPECT_EQ(which, digest);
      if (!bytes.ok()) return;
      EXPECT_EQ(Digest::Of(*bytes), digest);
    });
    EXPECT_EQ(answers, 1);
    return status;
  }
  static absl::StatusOr<std::string> Fetch(RemoteCas& remote,
                                           const Digest& digest) {
    std::string bytes;
    const absl::Status fetched =
        remote.Fetch(digest, [&bytes](absl::string_view piece) {
          bytes.append(piece.data(), piece.size());
          return absl::OkStatus();
        });
    if (!fetched.ok()) return fetched;
    return bytes;
  }
  // The first error.
  static absl::Status SendSmall(RemoteCas& remote,
                                const std::vector<std::string>& blobs) {
    std::vector<BlobSource::SmallBlob> small;
    for (const std::string& bytes : blobs) {
      small.push_back({.digest = Digest::Of(bytes), .bytes = bytes});
    }
    std::set<std::string> answered;
    absl::Status first;
    remote.SendSmall(small,
                     [&](const Digest& digest, const absl::Status& status) {
                       EXPECT_TRUE(answered.insert(digest.ToString()).second);
                       if (first.ok()) first = status;
                     });
    EXPECT_EQ(answered.size(), blobs.size());
    return first;
  }
  static absl::Status Send(RemoteCas& remote, const std::string& bytes) {
    return remote.Send(Digest::Of(bytes), [&bytes](int64_t offset) {
      return absl::string_view(bytes).substr(offset, 64 << 10);
    });
  }

  TempDirectory folder_;
  FakeRemote server_;
  const std::string small_bytes_ = "a small blob";
  const std::string large_bytes_ = Pattern(3 * kMiB);
  const Digest small_ = server_.Put(small_bytes_);
  const Digest large_ = server_.Put(large_bytes_);
};

TEST_F(RemoteFaults, WhatPassesIsTriedAgain) {
  StartServer();
  for (const grpc::Status& failure : {
           grpc::Status(StatusCode::UNAVAILABLE, "busy"),
           grpc::Status(StatusCode::ABORTED, "again"),
           grpc::Status(StatusCode::CANCELLED, "going down"),
           grpc::Status(StatusCode::INTERNAL,
                        "Received RST_STREAM with error code 2"),
       }) {
    for (const Way& way : Ways()) {
      server_.Behave({.failures = 2, .failure = failure});
      const auto remote = Open(absl::Seconds(30));
      EXPECT_EQ(way.ask(*remote), absl::OkStatus()) << way.name;
      // GetCapabilities' two, the call's, and maybe QueryWriteStatus'.
      EXPECT_GE(remote->GetStats().retries, 4) << way.name;
      EXPECT_LE(remote->GetStats().retries, 6) << way.name;
    }
  }
}

TEST_F(RemoteFaults, WhatDoesNotPassIsNotTriedAgain) {
  StartServer();
  for (const StatusCode code :
       {StatusCode::PERMISSION_DENIED, StatusCode::INTERNAL,
        StatusCode::RESOURCE_EXHAUSTED, StatusCode::INVALID_ARGUMENT,
        StatusCode::UNIMPLEMENTED}) {
    for (const Way& way : Ways()) {
      const auto remote = Open(absl::Seconds(30));
      ASSERT_EQ(FetchSmall(*remote, small_), absl::OkStatus());
      server_.Behave({.failures = 1, .failure = {code, "so there"}});
      const absl::Status asked = way.ask(*remote);
      server_.Behave({});
      EXPECT_EQ(static_cast<int>(asked.code()), code) << way.name << asked;
      EXPECT_THAT(std::string(asked.message()),
                  AllOf(StartsWith("remote unix:"), EndsWith(": so there")));
      EXPECT_EQ(remote->GetStats().retries, 0) << way.name;
    }
  }
}

TEST_F(RemoteFaults, NotFoundIsOnlySaidOfABlob) {
  StartServer();
  for (const Way& way : Ways()) {
    const auto remote = Open(absl::Seconds(30));
    server_.Behave({.failures = 1,
                    .failure = {StatusCode::NOT_FOUND, "no such instance"}});
    const absl::Status asked = way.ask(*remote);
    EXPECT_TRUE(absl::IsFailedPrecondition(asked)) << way.name << asked;
  }
  const auto remote = Open(absl::Seconds(30));
  server_.Behave({});
  ASSERT_EQ(FetchSmall(*remote, small_), absl::OkStatus());
  const Digest missing = Digest::Of("missing");
  EXPECT_TRUE(absl::IsNotFound(Fetch(*remote, missing).status()));
  EXPECT_TRUE(absl::IsNotFound(FetchSmall(*remote, missing)));
}

TEST_F(RemoteFaults, ARemoteThatIsNotThereIsUnavailableWithinTheTimeout) {
  for (const Way& way : Ways()) {
    const auto remote = Open(absl::Milliseconds(500));
    const absl::Time begin = absl::Now();
    const absl::Status asked = way.ask(*remote);
    EXPECT_TRUE(absl::IsUnavailable(asked)) << way.name << asked;
    EXPECT_THAT(std::string(asked.message()),
                HasSubstr("remote unix:" + socket()));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(3)) << way.name;
    EXPECT_GT(remote->GetStats().retries, 0) << way.name;
  }
}

TEST_F(RemoteFaults, ARemoteThatAppearsIsUsedByCallsThatWait) {
  const auto remote = Open(absl::Seconds(30));
  std::vector<std::thread> askers;
  for (const Way& way : Ways()) {
    askers.emplace_back([&remote, way] {
      EXPECT_EQ(way.ask(*remote), absl::OkStatus()) << way.name;
    });
  }
  absl::SleepFor(absl::Milliseconds(1500));
  StartServer();
  const absl::Time begin = absl::Now();
  for (std::thread& asker : askers) asker.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(4));
}

TEST_F(RemoteFaults, ARemoteThatIsBackIsUsedSoon) {
  StartServer();
  // One connection: else another than that which waits may be the first.
  const auto open = [this](absl::Duration timeout) {
    auto remote =
        RemoteCas::Open({.address = *RemoteAddress::Parse("unix:" + socket()),
                         .timeout = timeout,
                         .connections = 1});
    EXPECT_TRUE(remote.ok()) << remote.status();
    return *std::move(remote);
  };
  const auto patient = open(absl::Seconds(60));
  const auto quick = open(absl::Milliseconds(100));
  ASSERT_EQ(FetchSmall(*patient, small_), absl::OkStatus());
  server_.Stop();
  // Long enough for gRPC's own waits to have grown beyond what is allowed
  // below, were they not capped.
  const absl::Time down_until = absl::Now() + absl::Seconds(12);
  std::thread asker(
      [&] { EXPECT_EQ(FetchSmall(*patient, small_), absl::OkStatus()); });
  while (absl::Now() < down_until) {
    EXPECT_FALSE(FetchSmall(*quick, small_).ok());
  }
  StartServer();
  const absl::Time begin = absl::Now();
  asker.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(4));
  while (!FetchSmall(*quick, small_).ok()) {
    ASSERT_LT(absl::Now() - begin, absl::Seconds(4));
  }
}

TEST_F(RemoteFaults, ARemoteThatHangsIsLeftAfterTheTimeout) {
  StartServer();
  for (const char* const method : {"*", "FindMissingBlobs", "BatchReadBlobs",
                                   "Read", "BatchUpdateBlobs", "Write"}) {
    server_.Behave({.hanging = method});
    int hanging = 0;
    for (const Way& way : Ways()) {
      const auto remote = Open(absl::Milliseconds(400));
      const absl::Time begin = absl::Now();
      const absl::Status asked = way.ask(*remote);
      EXPECT_LT(absl::Now() - begin, absl::Seconds(3)) << way.name;
      if (asked.ok()) continue;
      ++hanging;
      EXPECT_TRUE(absl::IsDeadlineExceeded(asked)) << way.name << asked;
      EXPECT_THAT(std::string(asked.message()), HasSubstr("in 400ms"));
    }
    const std::string name = method;
    EXPECT_EQ(hanging, name == "*"                  ? 6
                       : name == "BatchUpdateBlobs" ? 2
                                                    : 1)
        << method;
  }
}

TEST_F(RemoteFaults, AFetchThatBreaksOffGoesOnWhereItWas) {
  for (const bool compress : {false, true}) {
    StartServer();
    server_.Behave(
        {.break_after_bytes = kMiB, .breaks = 2, .knows_zstd = true});
    const auto remote = Open(absl::Seconds(30), compress);
    const auto fetched = Fetch(*remote, large_);
    ASSERT_TRUE(fetched.ok()) << fetched.status();
    EXPECT_TRUE(*fetched == large_bytes_);
    const std::vector<int64_t> offsets = server_.seen().read_offsets;
    const absl::Span<const int64_t> last = absl::MakeConstSpan(offsets).last(3);
    EXPECT_EQ(last[0], 0);
    EXPECT_GT(last[1], 0);
    EXPECT_GT(last[2], last[1]);
    EXPECT_EQ(remote->GetStats().retries, 2);
    EXPECT_EQ(remote->GetStats().fetched_bytes, 3 * kMiB);
    EXPECT_THAT(server_.seen().resources.back(),
                HasSubstr(compress ? "compressed-blobs/zstd/" : "blobs/"));
    server_.Stop();
  }
}

TEST_F(RemoteFaults, AFetchOutlastsARestart) {
  StartServer();
  server_.Behave({.pause = absl::Milliseconds(20)});  // A second in all.
  const auto remote = Open(absl::Seconds(30));
  std::thread restart([this] {
    absl::SleepFor(absl::Milliseconds(300));
    server_.Stop();
    absl::SleepFor(absl::Milliseconds(300));
    StartServer();
  });
  const auto fetched = Fetch(*remote, large_);
  restart.join();
  ASSERT_TRUE(fetched.ok()) << fetched.status();
  EXPECT_TRUE(*fetched == large_bytes_);
  EXPECT_GT(remote->GetStats().retries, 0);
}

TEST_F(RemoteFaults, AFetchTakesAsLongAsItsBytesFlow) {
  StartServer();
  server_.Behave({.pause = absl::Milliseconds(30)});  // 48 of them.
  const auto remote = Open(absl::Milliseconds(500));
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(Fetch(*remote, large_).ok());
  EXPECT_GT(absl::Now() - begin, absl::Milliseconds(1200));
}

TEST_F(RemoteFaults, ASendTakesAsLongAsItsBytesFlow) {
  StartServer();
  // Five seconds in all. HTTP/2 and the kernel take some megabytes before the
  // other end reads them, for which it has the timeout when all are sent.
  const std::string bytes = Pattern(32 * kMiB);
  server_.Behave({.pause = absl::Milliseconds(10)});
  const auto remote = Open(absl::Seconds(3));
  const absl::Time begin = absl::Now();
  EXPECT_EQ(Send(*remote, bytes), absl::OkStatus());
  EXPECT_GT(absl::Now() - begin, absl::Seconds(4));
  EXPECT_TRUE(server_.Has(Digest::Of(bytes), bytes));
}

TEST_F(RemoteFaults, ABlobThatStallsIsGivenUp) {
  StartServer();
  server_.Behave({.break_after_bytes = kMiB, .breaks = 1, .stalls = true});
  const auto remote = Open(absl::Milliseconds(400));
  const absl::Time begin = absl::Now();
  const absl::Status fetched = Fetch(*remote, large_).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(fetched)) << fetched;
  EXPECT_THAT(std::string(fetched.message()),
              HasSubstr("no progress in 400ms"));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
}

TEST_F(RemoteFaults, ASlowSinkIsNotTheRemotesFault) {
  StartServer();
  // Between pieces more time passes than is allowed, but most of it in the
  // sink.
  server_.Behave({.pause = absl::Milliseconds(600)});
  const auto remote = Open(absl::Milliseconds(400));
  const Digest digest = server_.Put(Pattern(192 << 10));
  const absl::Status fetched = remote->Fetch(digest, [](absl::string_view) {
    absl::SleepFor(absl::Milliseconds(450));
    return absl::OkStatus();
  });
  EXPECT_EQ(fetched, absl::OkStatus());
}

TEST_F(RemoteFaults, ASendThatBreaksOffGoesOnWhereItWas) {
  StartServer();
  server_.Behave({.break_after_bytes = kMiB, .breaks = 2});
  const auto remote = Open(absl::Seconds(30));
  const std::string bytes = Pattern(5 * kMiB);
  EXPECT_EQ(Send(*remote, bytes), absl::OkStatus());
  EXPECT_TRUE(server_.Has(Digest::Of(bytes), bytes));
  EXPECT_THAT(server_.seen().write_offsets, ElementsAre(0, kMiB, 2 * kMiB));
  EXPECT_EQ(remote->GetStats().retries, 2);
  // One upload, under one name.
  const std::vector<std::string> resources = server_.seen().resources;
  EXPECT_THAT(resources, Each(resources.front()));
}

TEST_F(RemoteFaults, ASendThatTheRemoteForgotStartsAnew) {
  StartServer();
  for (const bool compress : {false, true}) {
    server_.Behave({.break_after_bytes = 1,
                    .breaks = 2,
                    .forgets_writes = true,
                    .knows_zstd = true});
    const auto remote = Open(absl::Seconds(30), compress);
    const std::string bytes = absl::StrCat(compress, Pattern(5 * kMiB));
    EXPECT_EQ(Send(*remote, bytes), absl::OkStatus());
    EXPECT_TRUE(server_.Has(Digest::Of(bytes), bytes));
  }
  EXPECT_THAT(server_.seen().write_offsets, ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_EQ(server_.Calls("QueryWriteStatus"), 2);
  const std::vector<std::string> resources = server_.seen().resources;
  EXPECT_NE(resources[0], resources[1]);
}

TEST_F(RemoteFaults, TooManyOrTooFewBytesAreDataLoss) {
  StartServer();
  for (const int64_t extra : {1, kMiB, -1, -3 * kMiB}) {
    server_.Behave({.extra_bytes = extra});
    const auto remote = Open(absl::Seconds(30));
    int64_t came = 0;
    const absl::Status fetched =
        remote->Fetch(large_, [&came](absl::string_view piece) {
          came += static_cast<int64_t>(piece.size());
          return absl::OkStatus();
        });
    EXPECT_TRUE(absl::IsDataLoss(fetched)) << extra << fetched;
    EXPECT_LE(came, large_.size_bytes());
    EXPECT_EQ(remote->GetStats().retries, 0);
    EXPECT_EQ(remote->GetStats().Calls(Kind::kFetch, Result::kDataLoss), 1);
  }
  for (const int64_t extra : {1, -1}) {
    server_.Behave({.extra_bytes = extra});
    const auto remote = Open(absl::Seconds(30));
    const absl::Status fetched = FetchSmall(*remote, small_);
    EXPECT_TRUE(absl::IsDataLoss(fetched)) << extra << fetched;
    EXPECT_EQ(remote->GetStats().fetched_bytes, 0);
    const absl::Status sent = Send(*remote, large_bytes_);
    EXPECT_TRUE(absl::IsDataLoss(sent)) << extra << sent;
  }
}

TEST_F(RemoteFaults, BytesThatAreNotZstdsAreDataLoss) {
  StartServer();
  for (const FakeRemote::Manners& manners :
       {FakeRemote::Manners{.knows_zstd = true, .sends_no_zstd = true},
        FakeRemote::Manners{.extra_bytes = 1, .knows_zstd = true}}) {
    server_.Behave(manners);
    const auto remote = Open(absl::Seconds(30), /*compress=*/true);
    const absl::Status fetched = Fetch(*remote, large_).status();
    EXPECT_TRUE(absl::IsDataLoss(fetched)) << fetched;
  }
  EXPECT_THAT(server_.seen().resources,
              Each(StartsWith("compressed-blobs/zstd/")));
}

TEST_F(RemoteFaults, BlobsLeftOutOfAnAnswerAreAnsweredWithAnError) {
  StartServer();
  server_.Behave({.leaves_out = true});
  const auto remote = Open(absl::Seconds(30));
  EXPECT_TRUE(absl::IsDataLoss(FetchSmall(*remote, small_)));
  EXPECT_TRUE(absl::IsInternal(Send(*remote, small_bytes_)));
  EXPECT_TRUE(absl::IsInternal(SendSmall(*remote, {"one", "two"})));
}

TEST_F(RemoteFaults, NoBlobIsAnsweredTwiceUnlessItIsAskedForTwice) {
  StartServer();
  server_.Behave({.answers_twice = true});
  const auto remote = Open(absl::Seconds(30));
  EXPECT_EQ(FetchSmall(*remote, small_), absl::OkStatus());
  int answers = 0;
  remote->FetchSmall({small_, small_},
                     [&](const Digest&, absl::StatusOr<absl::string_view> got) {
                       EXPECT_TRUE(got.ok()) << got.status();
                       ++answers;
                     });
  EXPECT_EQ(answers, 2);
}

TEST_F(RemoteFaults, ARemoteThatIsNoCacheOfSha256IsRefusedAndAskedAgain) {
  StartServer();
  const auto remote = Open(absl::Seconds(30));
  for (const Way& way : Ways()) {
    server_.Behave({.knows_sha256 = false});
    const absl::Status other = way.ask(*remote);
    EXPECT_TRUE(absl::IsFailedPrecondition(other)) << way.name << other;
    EXPECT_THAT(std::string(other.message()), HasSubstr("SHA256"));
    server_.Behave({.is_cache = false});
    const absl::Status none = way.ask(*remote);
    EXPECT_TRUE(absl::IsFailedPrecondition(none)) << way.name << none;
    EXPECT_THAT(std::string(none.message()), HasSubstr("is no cache"));
  }
  server_.Behave({});
  EXPECT_EQ(FetchSmall(*remote, small_), absl::OkStatus());
}

TEST_F(RemoteFaults, SmallerBatchesAreKeptTo) {
  StartServer();
  server_.Behave({.batch_bytes_max = 1000});
  const auto remote = Open(absl::Seconds(30));
  std::vector<Digest> digests = {large_};
  for (int i = 0; i < 10; ++i) {
    digests.push_back(server_.Put(absl::StrCat(i, Pattern(400))));
  }
  int answers = 0;
  remote->FetchSmall(digests, [&](const Digest& digest,
                                  absl::StatusOr<absl::string_view> bytes) {
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(Digest::Of(*bytes), digest);
    ++answers;
  });
  EXPECT_EQ(answers, 11);
  EXPECT_EQ(server_.Calls("BatchReadBlobs"), 5);
  EXPECT_EQ(server_.Calls("Read"), 1);
  EXPECT_EQ(Send(*remote, Pattern(2000)), absl::OkStatus());
  EXPECT_EQ(server_.Calls("BatchUpdateBlobs"), 0);
  EXPECT_EQ(server_.Calls("Write"), 1);
  const std::vector<std::string> blobs = {Pattern(400),  Pattern(401),
                                          Pattern(3000), Pattern(402),
                                          Pattern(500),  Pattern(501)};
  EXPECT_EQ(SendSmall(*remote, blobs), absl::OkStatus());
  for (const std::string& bytes : blobs) {
    EXPECT_TRUE(server_.Has(Digest::Of(bytes), bytes)) << bytes.size();
  }
  EXPECT_EQ(server_.Calls("BatchUpdateBlobs"), 3);
  EXPECT_EQ(server_.Calls("Write"), 2);
}

TEST_F(RemoteFaults, TheLimitsOfSmallBlobsFitIntoOneMessageOfFourMiB) {
  StartServer();
  const auto remote = Open(absl::Seconds(60));
  const int64_t blobs = static_cast<int64_t>(remote->small_blobs_max());
  const int64_t size = remote->small_bytes_max() / blobs;
  std::vector<Digest> digests;
  for (int64_t i = 0; i < blobs; ++i) {
    std::string bytes = absl::StrCat(i, ":");
    bytes.resize(size);
    digests.push_back(server_.Put(bytes));
  }
  int64_t answers = 0;
  remote->FetchSmall(
      digests, [&](const Digest&, absl::StatusOr<absl::string_view> bytes) {
        EXPECT_TRUE(bytes.ok()) << bytes.status();
        ++answers;
      });
  EXPECT_EQ(answers, blobs);
  EXPECT_EQ(server_.Calls("BatchReadBlobs"), 1);
  EXPECT_LE(server_.seen().message_bytes_max, 4 * kMiB);
  std::vector<std::string> sent;
  for (int64_t i = 0; i < blobs; ++i) {
    sent.push_back(absl::StrCat("other ", i));
    sent.back().resize(static_cast<size_t>(size));
  }
  // The server takes no more than 4 MiB.
  EXPECT_EQ(SendSmall(*remote, sent), absl::OkStatus());
  EXPECT_EQ(server_.Calls("BatchUpdateBlobs"), 1);
}

TEST_F(RemoteFaults, LongListsAreAskedForInSeveralRequests) {
  StartServer();  // Which takes no more than 4 MiB in one.
  const auto remote = Open(absl::Seconds(60));
  std::vector<Digest> digests;
  for (int i = 0; i < 100000; ++i) {
    Digest::Hash hash = {};
    std::memcpy(hash.data(), &i, sizeof(i));
    digests.push_back(Digest::FromHash(hash, int64_t{1} << 40));
  }
  digests.push_back(small_);
  const auto missing = remote->FindMissing(digests);
  ASSERT_TRUE(missing.ok()) << missing.status();
  digests.pop_back();
  EXPECT_TRUE(*missing == digests);
  EXPECT_THAT(server_.seen().find_sizes, SizeIs(Gt(1)));
}

TEST_F(RemoteFaults, CancelEndsCallsThatHangAndThoseToCome) {
  StartServer();
  for (const Way& way : Ways()) {
    const auto remote = Open(absl::Seconds(60));
    ASSERT_EQ(FetchSmall(*remote, small_), absl::OkStatus());
    server_.Behave({.hanging = "*"});
    std::thread canceller([&remote] {
      absl::SleepFor(absl::Milliseconds(300));
      remote->Cancel();
    });
    const absl::Time begin = absl::Now();
    const absl::Status asked = way.ask(*remote);
    canceller.join();
    EXPECT_TRUE(absl::IsCancelled(asked)) << way.name << asked;
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(300)) << way.name;
    EXPECT_LT(absl::Now() - begin, absl::Seconds(5)) << way.name;
    server_.Behave({});
    for (const Way& later : Ways()) {
      EXPECT_TRUE(absl::IsCancelled(later.ask(*remote))) << later.name;
    }
  }
}

TEST_F(RemoteFaults, CancelEndsTheWaitForARemoteThatIsNotThere) {
  const auto remote = Open(absl::Seconds(60));
  std::vector<std::thread> askers;
  for (const Way& way : Ways()) {
    askers.emplace_back([&remote, way] {
      EXPECT_TRUE(absl::IsCancelled(way.ask(*remote))) << way.name;
    });
  }
  absl::SleepFor(absl::Milliseconds(1500));
  const absl::Time begin = absl::Now();
  remote->Cancel();
  for (std::thread& asker : askers) asker.join();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
}

TEST_F(RemoteFaults, NoMoreCallsThanAllowedAreUnderWay) {
  StartServer();
  server_.Behave({.hanging = "Read"});
  auto remote =
      RemoteCas::Open({.address = *RemoteAddress::Parse("unix:" + socket()),
                       .timeout = absl::Seconds(2),
                       .calls_max = 2});
  ASSERT_TRUE(remote.ok()) << remote.status();
  std::vector<std::thread> fetchers;
  for (int i = 0; i < 2; ++i) {
    fetchers.emplace_back([&] { EXPECT_FALSE(Fetch(**remote, large_).ok()); });
  }
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_EQ(server_.Calls("Read"), 2);
  std::thread third([&] { EXPECT_FALSE(Fetch(**remote, large_).ok()); });
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_EQ(server_.Calls("Read"), 2);
  (*remote)->Cancel();
  for (std::thread& fetcher : fetchers) fetcher.join();
  third.join();
}

TEST_F(RemoteFaults, HeadersComeWithEveryCallAndTheInstanceToo) {
  server_.Start("127.0.0.1:0");
  const std::string headers = folder_ / "headers";
  std::ofstream(headers) << "Authorization: Bearer secret\nx-team: one\n";
  auto remote =
      RemoteCas::Open({.address = *RemoteAddress::Parse(absl::StrCat(
                           "grpc://127.0.0.1:", server_.port(), "/farm/main")),
                       .headers_path = headers});
  ASSERT_TRUE(remote.ok()) << remote.status();
  for (const Way& way : Ways()) {
    EXPECT_EQ(way.ask(**remote), absl::OkStatus()) << way.name;
  }
  const FakeRemote::Seen seen = server_.seen();
  EXPECT_EQ(seen.headers.count("authorization"), 7);
  EXPECT_EQ(seen.headers.count("x-team"), 7);
  EXPECT_THAT(seen.headers, Contains(Pair("authorization", "Bearer secret")));
  EXPECT_THAT(seen.instances, AllOf(SizeIs(5), Each("farm/main")));
  EXPECT_THAT(seen.resources, ElementsAre(StartsWith("farm/main/blobs/"),
                                          StartsWith("farm/main/uploads/")));
}

TEST_F(RemoteFaults, ConnectionsAreTakenInTurnAndNoMoreThanAllowed) {
  server_.Start("127.0.0.1:0");
  auto remote = RemoteCas::Open({.address = *RemoteAddress::Parse(absl::StrCat(
                                     "grpc://127.0.0.1:", server_.port())),
                                 .connections = 3});
  ASSERT_TRUE(remote.ok()) << remote.status();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(FetchSmall(**remote, small_), absl::OkStatus());
  }
  const std::vector<std::string> peers = server_.seen().peers;
  EXPECT_EQ(std::set<std::string>(peers.begin(), peers.end()).size(), 3);
}

TEST_F(RemoteFaults, Ipv6IsSpoken) {
  server_.Start("[::1]:0");
  auto remote = RemoteCas::Open({.address = *RemoteAddress::Parse(absl::StrCat(
                                     "grpc://[::1]:", server_.port()))});
  ASSERT_TRUE(remote.ok()) << remote.status();
  EXPECT_EQ(FetchSmall(**remote, small_), absl::OkStatus());
}

TEST_F(RemoteFaults, FilesThatCannotBeUsedAreSaidAtTheStart) {
  const RemoteAddress address = *RemoteAddress::Parse("grpc://cache");
  const RemoteAddress tls = *RemoteAddress::Parse("grpcs://cache");
  const std::string none = folder_ / "none";
  const std::string text = folder_ / "text";
  std::ofstream(text) << "text\n";
  struct Case {
    RemoteCas::Options options;
    std::string why;
  };
  for (const Case& wrong : {
           Case{{.address = address, .headers_path = none}, "No such file"},
           Case{{.address = address, .headers_path = text}, "line 1"},
           Case{{.address = address, .tls = {.roots = text}}, "without TLS"},
           Case{{.address = tls, .tls = {.roots = none}}, "No such file"},
           Case{{.address = tls, .tls = {.roots = text}}, "no certificate"},
           Case{{.address = tls, .tls = {.certificate = text}}, "go together"},
           Case{{.address = tls, .tls = {.key = text}}, "go together"},
           Case{{.address = address, .timeout = absl::ZeroDuration()},
                "timeout"},
       }) {
    const absl::Status status = RemoteCas::Open(wrong.options).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.why));
  }
}

}  // namespace
}  // namespace casement
