#include "store/blob_fetcher.h"

#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/missing.h"
#include "support/answer.h"
#include "support/fake_blob_source.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr size_t kLargeBytes = 1'000'000;

class BlobFetcherTest : public StoreFixture {
 protected:
  void Start(BlobFetcher::Options options = {.threads = 4}) {
    if (store_ == nullptr) Open();
    fetcher_ = std::make_unique<BlobFetcher>(*store_, source_, options);
  }
  ~BlobFetcherTest() override {
    source_.Resume();
    fetcher_.reset();
  }
  absl::Status Fetch(const Digest& digest) {
    return fetcher_->FetchAll({&digest, 1});
  }

  FakeBlobSource source_;
  std::unique_ptr<BlobFetcher> fetcher_;
};

// With a small blob and with a large one, which come by different ways.
class BlobFetcherSizeTest : public BlobFetcherTest,
                            public ::testing::WithParamInterface<size_t> {};

// G8: N concurrent first uses make one fetch.
TEST_P(BlobFetcherSizeTest, FetchesABlobOnceHoweverManyAsk) {
  const Digest digest = source_.Add(BytesOf(1, GetParam()));
  Start();
  source_.Pause();
  std::vector<Answer> answers(64);
  for (Answer& answer : answers) fetcher_->Want(digest, answer.Done());
  EXPECT_EQ(fetcher_->GetStats().waiting, 64);
  source_.Resume();
  for (Answer& answer : answers) EXPECT_TRUE(answer.Wait().ok());
  EXPECT_THAT(source_.fetched(), ElementsAre(digest));
  EXPECT_EQ(fetcher_->GetStats().fetched, 1);
  EXPECT_EQ(fetcher_->GetStats().fetched_bytes, GetParam());
  EXPECT_EQ(fetcher_->GetStats().waiting, 0);
  EXPECT_EQ(*store_->Read(digest, kLargeBytes), BytesOf(1, GetParam()));
}

// Counts how often readers were told that what they read was wrong.
class BlobFetcherPiecesTest : public BlobFetcherTest {
 protected:
  // The bytes of a blob that has 1,000,000, by 100,000 a piece.
  std::optional<std::string> ReadArrived(const Digest& digest, int64_t offset,
                                         size_t size, uint64_t reader = 1) {
    std::string bytes(size, '-');
    const auto got =
        fetcher_->ReadArrived(digest, offset, absl::MakeSpan(&bytes[0], size),
                              reader, [this] { ++retracted_; });
    if (!got.has_value()) return std::nullopt;
    return bytes.substr(0, *got);
  }

  // Wrong bytes of a blob, of which the first 300,000 have come.
  Digest BeginWrong() {
    const Digest digest = Digest::Of(BytesOf(1, kLargeBytes));
    source_.AddWrong(digest, BytesOf(2, kLargeBytes));
    Start();
    source_.PauseAfter(300'000);
    Answer begin;
    fetcher_->Want(digest, 100'000, begin.Done());
    EXPECT_TRUE(begin.Wait().ok());
    return digest;
  }

  std::atomic<int> retracted_{0};
};

TEST_F(BlobFetcherPiecesTest, WhatHasComeOfALargeBlobCanBeRead) {
  const std::string bytes = BytesOf(1, kLargeBytes);
  const Digest digest = source_.Add(bytes);
  Start();
  EXPECT_TRUE(fetcher_->ComesInPieces(digest));
  EXPECT_EQ(ReadArrived(digest, 0, 10), std::nullopt) << "nobody fetches it";
  source_.PauseAfter(300'000);
  Answer begin;
  Answer more;
  Answer all;
  fetcher_->Want(digest, all.Done());
  fetcher_->Want(digest, 300'001, more.Done());
  fetcher_->Want(digest, 300'000, begin.Done());
  EXPECT_TRUE(begin.Wait().ok());
  EXPECT_EQ(ReadArrived(digest, 299'990, 10), bytes.substr(299'990, 10));
  EXPECT_EQ(ReadArrived(digest, 299'990, 11), std::nullopt);
  EXPECT_EQ(more.count() + all.count(), 0);
  EXPECT_FALSE(store_->Contains(digest));
  source_.Resume();
  EXPECT_TRUE(more.Wait().ok());
  EXPECT_TRUE(all.Wait().ok());
  EXPECT_TRUE(store_->Contains(digest));
  EXPECT_EQ(ReadArrived(digest, 0, 10), std::nullopt) << "it is in the store";
  EXPECT_EQ(retracted_, 0);
  EXPECT_EQ(fetcher_->GetStats().waiting, 0);
}

// G9
TEST_F(BlobFetcherPiecesTest, ReadersOfWrongBytesAreToldOnceEach) {
  const Digest digest = BeginWrong();
  Answer all;
  fetcher_->Want(digest, all.Done());
  for (const uint64_t reader : {1, 1, 2}) {
    EXPECT_NE(ReadArrived(digest, 0, 10, reader), std::nullopt);
  }
  EXPECT_EQ(retracted_, 0);
  source_.Resume();
  EXPECT_TRUE(absl::IsDataLoss(all.Wait()));
  EXPECT_EQ(retracted_, 2);
  EXPECT_EQ(ReadArrived(digest, 0, 10), std::nullopt);
}

// When nothing can be read from it any more and it is not in the store yet.
TEST_F(BlobFetcherPiecesTest, WhoComesAfterTheLastPieceWaitsForTheResult) {
  const Digest digest = BeginWrong();
  Answer late;
  std::string bytes(10, '-');
  fetcher_->ReadArrived(digest, 0, absl::MakeSpan(&bytes[0], 10), 1,
                        [&] { fetcher_->Want(digest, 10, late.Done()); });
  source_.Resume();
  EXPECT_TRUE(absl::IsDataLoss(late.Wait()));
}

TEST_F(BlobFetcherPiecesTest, AtItsEndReadersAreToldAsWell) {
  const Digest digest = source_.Add(BytesOf(1, kLargeBytes));
  Start();
  source_.PauseAfter(300'000);
  Answer begin;
  fetcher_->Want(digest, 100'000, begin.Done());
  EXPECT_TRUE(begin.Wait().ok());
  EXPECT_NE(ReadArrived(digest, 0, 10), std::nullopt);
  fetcher_.reset();
  EXPECT_EQ(retracted_, 1);
}

TEST_F(BlobFetcherTest, WhatIsHereIsNotFetched) {
  Start();
  const Digest digest = MustPut(BytesOf(1));
  Answer answer;
  fetcher_->Want(digest, answer.Done());
  EXPECT_TRUE(answer.Wait().ok());
  EXPECT_TRUE(Fetch(digest).ok());
  EXPECT_THAT(source_.fetched(), IsEmpty());
}

TEST_F(BlobFetcherTest, SmallBlobsTravelTogether) {
  std::vector<Digest> digests;
  for (int i = 0; i < 500; ++i) digests.push_back(source_.Add(BytesOf(i)));
  Start({.threads = 1});
  source_.Pause();
  Answer first;
  fetcher_->Want(digests[0], first.Done());
  source_.WaitForCalls(1);
  std::vector<Answer> rest(499);
  for (int i = 0; i < 499; ++i) {
    fetcher_->Want(digests[static_cast<size_t>(i) + 1], rest[i].Done());
  }
  source_.Resume();
  for (Answer& answer : rest) EXPECT_TRUE(answer.Wait().ok());
  EXPECT_EQ(source_.calls(), 2);
}

TEST_P(BlobFetcherSizeTest, WrongBytesAreDataLossAndAreNotKept) {
  Start();
  const std::string right = BytesOf(1, GetParam());
  const Digest digest = Digest::Of(right);
  for (const std::string& bytes :
       {BytesOf(2, right.size()), right.substr(1), right + "x"}) {
    source_.AddWrong(digest, bytes);
    const absl::Status status = Fetch(digest);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_EQ(ErrnoOf(status), EIO);
    EXPECT_THAT(std::string(status.message()), HasSubstr(digest.ToString()));
    EXPECT_FALSE(store_->Contains(digest));
  }
  source_.Add(right);
  EXPECT_TRUE(Fetch(digest).ok());
  EXPECT_EQ(fetcher_->GetStats().failed, 3);
}

INSTANTIATE_TEST_SUITE_P(Sizes, BlobFetcherSizeTest,
                         ::testing::Values(100, kLargeBytes));

// G8: the next try works.
TEST_F(BlobFetcherTest, AFailureIsForgotten) {
  Start();
  const Digest digest = source_.Add(BytesOf(1));
  source_.SetError(absl::UnavailableError("gone"));
  EXPECT_TRUE(absl::IsUnavailable(Fetch(digest)));
  source_.SetError(absl::OkStatus());
  EXPECT_TRUE(Fetch(digest).ok());
}

TEST_F(BlobFetcherTest, NamesAllThatNobodyHas) {
  Start();
  const Digest here = source_.Add(BytesOf(1));
  const Digest one = Digest::Of("one");
  const Digest two = Digest::Of("two");
  const absl::Status status = fetcher_->FetchAll({one, here, two});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(status.GetPayload(kPreconditionFailureType).has_value());
  EXPECT_THAT(std::string(status.message()), HasSubstr(one.ToString()));
  EXPECT_THAT(std::string(status.message()), HasSubstr(two.ToString()));
  EXPECT_TRUE(store_->Contains(here));
  EXPECT_THAT(*fetcher_->FindMissing({one, here}), ElementsAre(one));
}

TEST_F(BlobFetcherTest, WhatIsWantedGoesBeforeWhatIsFetchedAhead) {
  std::vector<Digest> ahead;
  for (int i = 0; i < 20; ++i) {
    ahead.push_back(source_.Add(BytesOf(i, kLargeBytes)));
  }
  const Digest wanted = source_.Add(BytesOf(100, kLargeBytes));
  Start({.threads = 2});
  source_.Pause();
  fetcher_->FetchAhead(ahead);
  source_.WaitForCalls(1);
  Answer answer;
  fetcher_->Want(wanted, answer.Done());
  source_.WaitForCalls(2);
  // One thread fetches ahead, the other one is free for what is wanted.
  EXPECT_THAT(source_.fetched(), ElementsAre(ahead[0], wanted));
  source_.Resume();
  EXPECT_TRUE(answer.Wait().ok());
  // Wanted now, one that waits for its turn comes first of those.
  EXPECT_TRUE(Fetch(ahead[19]).ok());
  EXPECT_TRUE(fetcher_->FetchAll(ahead).ok());
  EXPECT_THAT(source_.fetched(), SizeIs(21));
}

TEST_F(BlobFetcherTest, StopAnswersAllThatWait) {
  Start();
  const Digest running = source_.Add(BytesOf(1));
  source_.Pause();
  std::vector<Answer> answers(100);
  for (Answer& answer : answers) fetcher_->Want(running, answer.Done());
  source_.WaitForCalls(1);
  fetcher_->Stop();
  Answer late;
  fetcher_->Want(running, late.Done());
  EXPECT_TRUE(absl::IsCancelled(late.Wait()));
  fetcher_.reset();
  for (Answer& answer : answers) {
    EXPECT_TRUE(absl::IsCancelled(answer.Wait()));
    EXPECT_EQ(answer.count(), 1);
  }
}

// Keeps what it was given.
struct Taken {
  absl::StatusOr<std::string> bytes = "";
  bool was_stored = false;
};

class BlobFetcherBytesTest : public BlobFetcherTest {
 protected:
  // Waits for them.
  Taken TakeBytes(const Digest& digest) {
    Taken taken;
    Answer answer;
    fetcher_->WantBytes({&digest, 1}, [&](const Digest&) -> BlobFetcher::Take {
      return [&, done = answer.Done()](
                 const absl::StatusOr<const absl::string_view*>& bytes) {
        taken.was_stored = bytes.ok() && *bytes == nullptr;
        if (!bytes.ok()) {
          taken.bytes = bytes.status();
        } else if (*bytes != nullptr) {
          taken.bytes = std::string(**bytes);
        }
        done(absl::OkStatus());
      };
    });
    EXPECT_TRUE(answer.Wait().ok());
    return taken;
  }
  void WaitForStoring(absl::Span<const Digest> digests) {
    while (!store_->Missing(digests).empty()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
};

TEST_F(BlobFetcherBytesTest, BytesAreTakenBeforeTheyAreStored) {
  Start();
  const Digest digest = source_.Add(BytesOf(1));
  {
    const BlobFetcher::Haste haste(*fetcher_);
    EXPECT_EQ(*TakeBytes(digest).bytes, BytesOf(1));
    EXPECT_FALSE(store_->Contains(digest));
    // Another one need not wait either, nor are they fetched again.
    EXPECT_EQ(*TakeBytes(digest).bytes, BytesOf(1));
    EXPECT_EQ(fetcher_->GetStats().fetched, 1);
  }
  WaitForStoring({digest});
  EXPECT_TRUE(Fetch(digest).ok());
  EXPECT_THAT(source_.fetched(), ElementsAre(digest));
  EXPECT_EQ(fetcher_->GetStats().fetched, 1);
  EXPECT_EQ(fetcher_->GetStats().waiting, 0);
}

TEST_F(BlobFetcherBytesTest, WhoeverWantsTheBlobItselfMakesHaste) {
  Start();
  std::vector<Digest> digests;
  for (int i = 0; i < 10; ++i) digests.push_back(source_.Add(BytesOf(i)));
  const BlobFetcher::Haste haste(*fetcher_);
  for (const Digest& digest : digests)
    EXPECT_TRUE(TakeBytes(digest).bytes.ok());
  EXPECT_TRUE(Fetch(digests[9]).ok());
  EXPECT_TRUE(store_->Contains(digests[9]));
  EXPECT_THAT(source_.fetched(), SizeIs(10));
}

TEST_F(BlobFetcherBytesTest, WhatIsWantedIsFetchedBeforeTheyAreStored) {
  Start();
  const Digest large = source_.Add(BytesOf(1, kLargeBytes));
  Answer answer;
  source_.PauseAfter(100'000);
  fetcher_->Want(large, answer.Done());
  source_.WaitForCalls(1);
  std::vector<Digest> digests;
  for (int i = 2; i < 22; ++i) {
    digests.push_back(source_.Add(BytesOf(i)));
    EXPECT_EQ(*TakeBytes(digests.back()).bytes, BytesOf(i));
  }
  EXPECT_THAT(store_->Missing(digests), SizeIs(20));
  source_.Resume();
  EXPECT_TRUE(answer.Wait().ok());
  WaitForStoring(digests);
}

TEST_F(BlobFetcherBytesTest, ManyBytesAreStoredInHasteToo) {
  options_.capacity_bytes = 1 << 30;
  Start({.threads = 4, .small_bytes = 4 << 20});
  const BlobFetcher::Haste haste(*fetcher_);
  std::vector<Digest> digests;
  for (int i = 0; i < 17; ++i) {
    digests.push_back(source_.Add(BytesOf(i, 4 << 20)));
    EXPECT_TRUE(TakeBytes(digests.back()).bytes.ok());
  }
  WaitForStoring({digests.back()});
  EXPECT_THAT(store_->Missing(digests), SizeIs(16));
}

TEST_F(BlobFetcherBytesTest, WhatIsHereIsTakenFromTheStore) {
  Start();
  const Digest digest = MustPut(BytesOf(1));
  EXPECT_TRUE(TakeBytes(digest).was_stored);
  EXPECT_THAT(source_.fetched(), IsEmpty());
}

TEST_F(BlobFetcherBytesTest, ALargeBlobIsTakenFromTheStore) {
  Start();
  const Digest digest = source_.Add(BytesOf(1, kLargeBytes));
  EXPECT_TRUE(TakeBytes(digest).was_stored);
  EXPECT_TRUE(store_->Contains(digest));
}

TEST_F(BlobFetcherBytesTest, WrongBytesAreNotTaken) {
  Start();
  const Digest digest = Digest::Of(BytesOf(1));
  source_.AddWrong(digest, BytesOf(2));
  EXPECT_TRUE(absl::IsDataLoss(TakeBytes(digest).bytes.status()));
  EXPECT_FALSE(store_->Contains(digest));
  EXPECT_EQ(fetcher_->GetStats().failed, 1);
  source_.Remove(digest);
  EXPECT_TRUE(absl::IsNotFound(TakeBytes(digest).bytes.status()));
}

TEST_F(BlobFetcherBytesTest,
       ThatTheyCannotBeStoredIsSaidToWhoeverWantsTheBlob) {
  options_.capacity_bytes = 1 << 20;
  Start({.threads = 4, .small_bytes = 4 << 20});
  const Digest digest = source_.Add(BytesOf(1, 2 << 20));
  const BlobFetcher::Haste haste(*fetcher_);
  EXPECT_EQ(*TakeBytes(digest).bytes, BytesOf(1, 2 << 20));
  EXPECT_EQ(ErrnoOf(Fetch(digest)), ENOSPC);
}

TEST_F(BlobFetcherBytesTest, StopAnswersWhoeverWaitsForBytes) {
  Start();
  const Digest digest = source_.Add(BytesOf(1));
  source_.Pause();
  std::thread taker([&] {
    EXPECT_TRUE(absl::IsCancelled(TakeBytes(digest).bytes.status()));
  });
  source_.WaitForCalls(1);
  fetcher_->Stop();
  taker.join();
  EXPECT_TRUE(absl::IsCancelled(TakeBytes(digest).bytes.status()));
  EXPECT_EQ(fetcher_->GetStats().waiting, 0);
}

TEST_F(BlobFetcherTest, ABlobThatDoesNotFitIsResourceExhausted) {
  options_.capacity_bytes = 1 << 20;
  Start();
  const Digest digest = source_.Add(BytesOf(1, 2 << 20));
  const absl::Status status = Fetch(digest);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(ErrnoOf(status), ENOSPC);
}

}  // namespace
}  // namespace casement
