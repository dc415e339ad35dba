// RemoteCas in front of a casement of its own: every way of a blob, on a real
// socket.
#include "remote/remote_cas.h"

#include <map>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/control_fixture.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = RemoteCas::Kind;
using Result = RemoteCas::Result;

std::vector<size_t> Sizes() { return {0, 1, 100 << 10, 4 * kMiB, 40 * kMiB}; }

class RemoteCasTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<RemoteCas> Open() {
    auto remote = RemoteCas::Open(
        {.address = *RemoteAddress::Parse("unix:" + harness_.socket()),
         .compress = GetParam()});
    EXPECT_TRUE(remote.ok()) << remote.status();
    return *std::move(remote);
  }
  Digest PutNow(const std::string& bytes) {
    const Digest digest = Digest::Of(bytes);
    EXPECT_EQ(harness_.store().Put(digest, bytes), absl::OkStatus());
    return digest;
  }
  absl::Status Send(const std::string& bytes) {
    return remote_->Send(Digest::Of(bytes), [&bytes](int64_t offset) {
      return absl::string_view(bytes).substr(offset, 300000);
    });
  }
  absl::StatusOr<std::string> Fetch(const Digest& digest) {
    std::string bytes;
    const absl::Status fetched =
        remote_->Fetch(digest, [&bytes](absl::string_view piece) {
          EXPECT_FALSE(piece.empty());
          bytes.append(piece.data(), piece.size());
          return absl::OkStatus();
        });
    if (!fetched.ok()) return fetched;
    return bytes;
  }

  ControlHarness harness_;
  std::unique_ptr<RemoteCas> remote_ = Open();
};

INSTANTIATE_TEST_SUITE_P(Ways, RemoteCasTest, ::testing::Bool(),
                         [](const auto& way) {
                           return way.param ? "Compressed" : "Plain";
                         });

TEST_P(RemoteCasTest, SendsBlobsOfAnySize) {
  int64_t total = 0;
  for (const size_t size : Sizes()) {
    const std::string bytes = Pattern(size);
    ASSERT_EQ(Send(bytes), absl::OkStatus()) << size;
    const auto there = harness_.store().Read(Digest::Of(bytes), 100 * kMiB);
    ASSERT_TRUE(there.ok()) << size << there.status();
    EXPECT_TRUE(*there == bytes) << size;
    total += static_cast<int64_t>(size);
  }
  EXPECT_EQ(remote_->GetStats().sent_bytes, total);
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kSend, Result::kOk), 4);
}

TEST_P(RemoteCasTest, FetchesBlobsOfAnySize) {
  int64_t total = 0;
  for (const size_t size : Sizes()) {
    const std::string bytes = Pattern(size);
    const auto fetched = Fetch(PutNow(bytes));
    ASSERT_TRUE(fetched.ok()) << size << fetched.status();
    EXPECT_TRUE(*fetched == bytes) << size;
    total += static_cast<int64_t>(size);
  }
  EXPECT_EQ(remote_->GetStats().fetched_bytes, total);
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kFetch, Result::kOk), 4);
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kCapabilities, Result::kOk), 1);
  EXPECT_EQ(remote_->GetStats().retries, 0);
}

TEST_P(RemoteCasTest, SendsWhatIsThereAlready) {
  const std::string bytes = Pattern(10 * kMiB);
  PutNow(bytes);
  EXPECT_EQ(Send(bytes), absl::OkStatus());
}

TEST_P(RemoteCasTest, ABlobThatIsNotThereIsNotFound) {
  for (const size_t size : {10, 10 * kMiB}) {
    const absl::Status fetched = Fetch(Digest::Of(Pattern(size))).status();
    EXPECT_TRUE(absl::IsNotFound(fetched)) << fetched;
    EXPECT_THAT(std::string(fetched.message()),
                HasSubstr("remote unix:" + harness_.socket() + ": fetching"));
  }
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kFetch, Result::kNotFound), 2);
}

TEST_P(RemoteCasTest, OtherBytesAreRefused) {
  for (const size_t size : {10, 10 * kMiB}) {
    const std::string bytes = Pattern(size);
    const std::string other(size, 'x');
    const absl::Status sent =
        remote_->Send(Digest::Of(other), [&](int64_t offset) {
          return absl::string_view(bytes).substr(offset);
        });
    EXPECT_FALSE(sent.ok());
    EXPECT_FALSE(harness_.store().Contains(Digest::Of(other)));
  }
}

TEST_P(RemoteCasTest, AnErrorOfTheSinkEndsTheFetchAndIsItsResult) {
  const Digest digest = PutNow(Pattern(40 * kMiB));
  int pieces = 0;
  const absl::Status fetched =
      remote_->Fetch(digest, [&pieces](absl::string_view) {
        return ++pieces == 3 ? absl::UnavailableError("mine")
                             : absl::OkStatus();
      });
  EXPECT_EQ(fetched, absl::UnavailableError("mine"));
  EXPECT_EQ(pieces, 3);
}

TEST_P(RemoteCasTest, AnErrorOfTheReaderEndsTheSendAndIsItsResult) {
  for (const size_t size : {1000, 40 * kMiB}) {
    const std::string bytes = Pattern(size);
    const absl::Status sent = remote_->Send(
        Digest::Of(bytes),
        [&bytes](int64_t offset) -> absl::StatusOr<absl::string_view> {
          if (offset > 0) return absl::UnavailableError("mine");
          return absl::string_view(bytes).substr(0, 500);
        });
    EXPECT_EQ(sent, absl::UnavailableError("mine"));
    EXPECT_FALSE(harness_.store().Contains(Digest::Of(bytes)));
  }
}

TEST_P(RemoteCasTest, FindsWhatIsMissingInTheOrderGivenEachOnce) {
  const Digest there = PutNow("there");
  const Digest a = Digest::Of("a");
  const Digest b = Digest::Of("b");
  const auto missing = remote_->FindMissing({b, there, a, Digest(), b});
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_THAT(*missing, ElementsAre(b, a));
  EXPECT_THAT(*remote_->FindMissing({}), IsEmpty());
}

TEST_P(RemoteCasTest, FindsWhatIsMissingOfMoreThanAMessageHolds) {
  std::vector<Digest> asked;
  std::vector<Digest> expected;
  for (int i = 0; i < 50'000; ++i) {
    const std::string bytes = absl::StrCat("blob ", i);
    asked.push_back(i % 1000 == 0 ? PutNow(bytes) : Digest::Of(bytes));
    if (i % 1000 != 0) expected.push_back(asked.back());
  }
  const auto missing = remote_->FindMissing(asked);
  ASSERT_TRUE(missing.ok()) << missing.status();
  EXPECT_TRUE(*missing == expected);
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kFindMissing, Result::kOk), 1);
}

TEST_P(RemoteCasTest, OnceConnectedItAsksNoMoreWhatTheRemoteCan) {
  EXPECT_EQ(remote_->Connect(), absl::OkStatus());
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kCapabilities, Result::kOk), 1);
  EXPECT_EQ(Send("bytes"), absl::OkStatus());
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kCapabilities, Result::kOk), 1);
}

TEST_P(RemoteCasTest, FetchesSmallBlobsTogetherAndAnswersEachOnce) {
  std::map<Digest, std::string> blobs;
  std::vector<Digest> digests;
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = absl::StrCat("blob ", i, Pattern(i));
    digests.push_back(PutNow(bytes));
    blobs[digests.back()] = bytes;
  }
  const Digest missing = Digest::Of("missing");
  digests.push_back(missing);
  digests.emplace_back();
  blobs[Digest()] = "";
  std::map<Digest, int> answers;
  remote_->FetchSmall(digests, [&](const Digest& digest,
                                   absl::StatusOr<absl::string_view> bytes) {
    ++answers[digest];
    if (digest == missing) {
      EXPECT_TRUE(absl::IsNotFound(bytes.status())) << bytes.status();
    } else {
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_EQ(*bytes, blobs[digest]);
    }
  });
  EXPECT_EQ(answers.size(), digests.size());
  for (const auto& [digest, times] : answers) EXPECT_EQ(times, 1);
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kFetchSmall, Result::kNotFound), 1);
}

TEST_P(RemoteCasTest, SendsSmallBlobsTogetherAndAnswersEachOnce) {
  std::vector<BlobSource::SmallBlob> blobs;
  for (int i = 0; i < 2000; ++i) {
    const std::string bytes = absl::StrCat("blob ", i, Pattern(i));
    blobs.push_back({.digest = Digest::Of(bytes), .bytes = bytes});
  }
  blobs.push_back({.digest = Digest::Of("right"), .bytes = "wrong"});
  std::map<Digest, absl::Status> answers;
  remote_->SendSmall(blobs,
                     [&](const Digest& digest, const absl::Status& status) {
                       EXPECT_TRUE(answers.try_emplace(digest, status).second);
                     });
  EXPECT_EQ(answers.size(), blobs.size());
  // One that is refused says nothing of the others.
  for (const BlobSource::SmallBlob& blob : blobs) {
    const bool is_right = blob.bytes != "wrong";
    EXPECT_EQ(answers[blob.digest].ok(), is_right) << answers[blob.digest];
    EXPECT_EQ(harness_.store().Contains(blob.digest), is_right);
  }
  const RemoteCas::Stats stats = remote_->GetStats();
  EXPECT_EQ(stats.Calls(Kind::kSendSmall, Result::kOk), 0);
  EXPECT_EQ(stats.Calls(Kind::kSendSmall, Result::kOther), 1);
}

TEST_P(RemoteCasTest, ServesManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 32; ++i) {
    threads.emplace_back([this, i] {
      const std::string bytes = absl::StrCat(i, Pattern((i % 4) * kMiB));
      EXPECT_EQ(Send(bytes), absl::OkStatus());
      const auto fetched = Fetch(Digest::Of(bytes));
      EXPECT_TRUE(fetched.ok() && *fetched == bytes) << fetched.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(remote_->GetStats().Calls(Kind::kCapabilities, Result::kOk), 1);
}

}  // namespace
}  // namespace casement
