#include "store/blob_sender.h"

#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>  // NOLINT
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/missing.h"
#include "support/answer.h"
#include "support/fake_blob_source.h"
#include "support/store_fixture.h"

namespace casement {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAreArray;

constexpr size_t kLargeBytes = 1'000'000;

void WaitUntil(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(condition());
}

class BlobSenderTest : public StoreFixture {
 protected:
  void Start(BlobSender::Options options = {.threads = 4}) {
    Open();
    sender_ = std::make_unique<BlobSender>(*store_, source_, options);
  }
  ~BlobSenderTest() override {
    source_.Resume();
    sender_.reset();
  }
  absl::Status Send(const std::vector<Digest>& digests) {
    BlobSender::Sending sending(*sender_);
    for (const Digest& digest : digests) sending.Add(digest);
    return sending.Wait();
  }
  // So many blobs, the first with this seed.
  std::vector<Digest> PutMany(int count, size_t size, int seed = 0) {
    std::vector<Digest> digests;
    for (int i = 0; i < count; ++i) {
      digests.push_back(MustPut(BytesOf(seed + i, size)));
    }
    return digests;
  }

  FakeBlobSource source_;
  std::unique_ptr<BlobSender> sender_;
};

// With a small blob and with a large one, which go by different ways.
class BlobSenderSizeTest : public BlobSenderTest,
                           public ::testing::WithParamInterface<size_t> {};

TEST_P(BlobSenderSizeTest, SendsABlobOnceHoweverManyAsk) {
  Start();
  const Digest digest = MustPut(BytesOf(1, GetParam()));
  source_.Pause();
  std::vector<Answer> answers(64);
  for (Answer& answer : answers) sender_->Want(digest, answer.Done());
  EXPECT_EQ(sender_->GetStats().waiting, 1);
  source_.Resume();
  for (Answer& answer : answers) EXPECT_TRUE(answer.Wait().ok());
  EXPECT_THAT(source_.sent(), ElementsAre(digest));
  EXPECT_EQ(source_.calls(), 2);
  EXPECT_EQ(sender_->GetStats().sent, 1);
  EXPECT_EQ(sender_->GetStats().sent_bytes, GetParam());
  EXPECT_EQ(sender_->GetStats().waiting, 0);
}

TEST_P(BlobSenderSizeTest, ItsBytesArriveWhole) {
  Start();
  const std::string bytes = BytesOf(1, GetParam());
  EXPECT_EQ(Send({MustPut(bytes)}), absl::OkStatus());
  std::string there;
  EXPECT_EQ(source_.Fetch(Digest::Of(bytes),
                          [&there](absl::string_view piece) {
                            there.append(piece.data(), piece.size());
                            return absl::OkStatus();
                          }),
            absl::OkStatus());
  EXPECT_TRUE(there == bytes);
}

TEST_P(BlobSenderSizeTest, IsLeasedUntilItIsThere) {
  Start();
  const Digest digest = MustPut(BytesOf(1, GetParam()));
  int calls = 0;  // The question, then the blob.
  source_.BeforeEach([&](const Digest&) {
    ++calls;
    EXPECT_TRUE(absl::IsFailedPrecondition(store_->Evict(digest)));
    return absl::OkStatus();
  });
  EXPECT_EQ(Send({digest}), absl::OkStatus());
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(store_->Evict(digest), absl::OkStatus());
  store_->CheckInvariants();
}

TEST_P(BlobSenderSizeTest, ADamagedBlobIsDataLossAndSaysNothingOfOthers) {
  Start();
  const Digest damaged = MustPut(BytesOf(1, GetParam()));
  const Digest sound = MustPut(BytesOf(2, GetParam()));
  ASSERT_EQ(
      ::truncate(PathOf(damaged).c_str(), static_cast<off_t>(GetParam() / 2)),
      0);
  const absl::Status status = Send({damaged, sound});
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(damaged.ToString()));
  EXPECT_THAT(source_.sent(), ElementsAre(sound));
}

// However many there are, an error comes in about the time of two calls.
TEST_P(BlobSenderSizeTest, WhatWaitsFailsWithACallThatDoesNotGetThrough) {
  Start({.threads = 1, .asked_max = 1});
  const std::vector<Digest> digests = PutMany(50, GetParam());
  source_.Pause();
  BlobSender::Sending sending(*sender_);
  sending.Add(digests[0]);
  source_.WaitForCalls(1);
  for (const Digest& digest : digests) sending.Add(digest);
  source_.SetError(absl::DeadlineExceededError("no answer"));
  source_.Resume();
  EXPECT_TRUE(absl::IsDeadlineExceeded(sending.Wait()));
  EXPECT_EQ(source_.calls(), 2);
  EXPECT_EQ(sender_->GetStats().failed, 50);
  source_.SetError(absl::OkStatus());
  EXPECT_EQ(Send(digests), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(Sizes, BlobSenderSizeTest,
                         ::testing::Values(100, kLargeBytes));

TEST_F(BlobSenderTest, WhatIsThereIsNotSent) {
  Start();
  const Digest both = MustPut(BytesOf(1));
  source_.Add(BytesOf(1));
  const Digest only_there = source_.Add(BytesOf(2));
  EXPECT_EQ(Send({both, only_there}), absl::OkStatus());
  EXPECT_THAT(source_.sent(), IsEmpty());
  EXPECT_EQ(sender_->GetStats().sent, 0);
}

TEST_F(BlobSenderTest, SmallBlobsTravelTogether) {
  Start({.threads = 1});
  const std::vector<Digest> digests = PutMany(500, 100);
  source_.Pause();
  Answer first;
  sender_->Want(digests[0], first.Done());
  source_.WaitForCalls(1);
  std::vector<Answer> rest(499);
  for (size_t i = 0; i < 499; ++i) {
    sender_->Want(digests[i + 1], rest[i].Done());
  }
  source_.Resume();
  for (Answer& answer : rest) EXPECT_TRUE(answer.Wait().ok());
  // Two questions, two batches.
  EXPECT_EQ(source_.calls(), 4);
  EXPECT_THAT(source_.sent(), UnorderedElementsAreArray(digests));
}

TEST_F(BlobSenderTest, BatchesHaveALimit) {
  Start({.threads = 1, .batch_bytes = 1000});
  const std::vector<Digest> digests = PutMany(25, 100);
  source_.Pause();
  BlobSender::Sending sending(*sender_);
  sending.Add(digests[0]);
  source_.WaitForCalls(1);
  for (const Digest& digest : digests) sending.Add(digest);
  source_.Resume();
  EXPECT_EQ(sending.Wait(), absl::OkStatus());
  EXPECT_EQ(source_.calls(), 2 + 1 + 3);  // 24 blobs: 10, 10 and 4.
}

TEST_F(BlobSenderTest, AFailureIsToldAndForgotten) {
  Start();
  const Digest digest = MustPut(BytesOf(1));
  source_.SetError(absl::PermissionDeniedError("not you"));
  EXPECT_EQ(Send({digest}), absl::PermissionDeniedError("not you"));
  EXPECT_EQ(sender_->GetStats().failed, 1);
  source_.SetError(absl::OkStatus());
  EXPECT_EQ(Send({digest}), absl::OkStatus());
  EXPECT_TRUE(source_.Has(digest));
}

TEST_F(BlobSenderTest, NamesAllThatNobodyHas) {
  Start();
  const Digest here = MustPut(BytesOf(1));
  const Digest one = Digest::Of("one");
  const Digest two = Digest::Of("two");
  const absl::Status status = Send({one, here, two});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(status.GetPayload(kPreconditionFailureType).has_value());
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(one.ToString()), HasSubstr(two.ToString()),
                    Not(HasSubstr(here.ToString()))));
  EXPECT_TRUE(source_.Has(here));
}

TEST_F(BlobSenderTest, WhatWaitsGoesOnIfOthersGetThrough) {
  std::vector<Digest> digests;
  std::atomic<bool> are_wanted{false};
  std::atomic<bool> is_first_sent{false};
  std::atomic<bool> is_third_asked{false};
  std::atomic<bool> has_failed{false};
  std::atomic<int> calls[2] = {};
  const auto wait = [](const std::atomic<bool>& flag) {
    WaitUntil([&flag] { return flag.load(); });
  };
  source_.BeforeEach([&](const Digest& digest) -> absl::Status {
    wait(are_wanted);
    if (digest == digests[0] && calls[0]++ == 1) {
      is_first_sent = true;
      wait(is_third_asked);
      return absl::UnavailableError("reset");
    }
    // While the first is on its way the second arrives.
    if (digest == digests[1] && calls[1]++ == 1) wait(is_first_sent);
    if (digest == digests[2]) {
      is_third_asked = true;
      wait(has_failed);
    }
    return absl::OkStatus();
  });
  Start({.threads = 2, .asked_max = 1});
  digests = PutMany(4, kLargeBytes);
  std::vector<Answer> answers(4);
  for (size_t i = 0; i < 4; ++i) sender_->Want(digests[i], answers[i].Done());
  are_wanted = true;
  EXPECT_TRUE(absl::IsUnavailable(answers[0].Wait()));
  has_failed = true;
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(answers[i].Wait(), absl::OkStatus());
}

TEST_F(BlobSenderTest, WhoAsksForTooMuchWaits) {
  Start({.threads = 1, .blobs_max = 2});
  const std::vector<Digest> digests = PutMany(3, kLargeBytes);
  source_.Pause();
  std::vector<Answer> answers(4);
  sender_->Want(digests[0], answers[0].Done());
  sender_->Want(digests[1], answers[1].Done());
  sender_->Want(digests[1], answers[2].Done());  // No more of them.
  std::atomic<bool> is_taken{false};
  std::thread third([&] {
    sender_->Want(digests[2], answers[3].Done());
    is_taken = true;
  });
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_FALSE(is_taken);
  EXPECT_EQ(sender_->GetStats().waiting, 2);
  source_.Resume();
  third.join();
  for (Answer& answer : answers) EXPECT_EQ(answer.Wait(), absl::OkStatus());
}

// G23
TEST_F(BlobSenderTest, StopAnswersAllThatWait) {
  Start({.threads = 2, .blobs_max = 10});
  const std::vector<Digest> digests = PutMany(11, kLargeBytes);
  source_.Pause();
  std::vector<Answer> answers(12);
  for (size_t i = 0; i < 10; ++i) sender_->Want(digests[i], answers[i].Done());
  source_.WaitForCalls(1);
  std::thread too_much([&] { sender_->Want(digests[10], answers[10].Done()); });
  absl::SleepFor(absl::Milliseconds(20));
  sender_->Stop();
  too_much.join();
  sender_->Want(digests[0], answers[11].Done());
  sender_.reset();
  for (Answer& answer : answers) {
    EXPECT_TRUE(absl::IsCancelled(answer.Wait()));
    EXPECT_EQ(answer.count(), 1);
  }
  EXPECT_EQ(store_->GetStats().leased_blobs, 0);
}

TEST_F(BlobSenderTest, ASendingThatIsDroppedEarlyIsSentAllTheSame) {
  Start();
  const Digest digest = MustPut(BytesOf(1));
  source_.Pause();
  { BlobSender::Sending(*sender_).Add(digest); }
  source_.Resume();
  WaitUntil([&] { return source_.Has(digest); });
}

}  // namespace
}  // namespace casement
