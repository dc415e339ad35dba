#include "store/disk_share.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

constexpr absl::Duration kStart = absl::Hours(1000);
constexpr absl::Duration kMs = absl::Milliseconds(1);

// Works in pieces of `piece` as soon as it may, sleeping `late` too long each
// time, until `length` has passed; how long it worked.
absl::Duration WorkFor(absl::Duration length, int percent, absl::Duration piece,
                       absl::Duration late) {
  DiskShare share(percent);
  absl::Duration now = kStart;
  absl::Duration worked;
  while (now < kStart + length) {
    const absl::Duration wait = share.TryBegin(now);
    if (wait > absl::ZeroDuration()) {
      now += wait + late;
      continue;
    }
    now += piece;
    worked += piece;
    share.End(now);
  }
  return worked;
}

TEST(DiskShare, IsKeptAndMadeUseOf) {
  for (const int percent : {1, 10, 50, 99}) {
    const absl::Duration worked =
        WorkFor(absl::Seconds(100), percent, kMs, absl::ZeroDuration());
    EXPECT_LE(worked, absl::Seconds(percent) + 2 * kMs) << percent;
    EXPECT_GE(worked, absl::Seconds(percent) - 2 * kMs) << percent;
  }
}

TEST(DiskShare, IsMadeUseOfThoughSleepsAreLate) {
  const absl::Duration worked = WorkFor(absl::Seconds(100), 50, kMs, 3 * kMs);
  EXPECT_GE(worked, absl::Seconds(49));
  EXPECT_LE(worked, absl::Seconds(50) + 2 * kMs);
}

TEST(DiskShare, OfAllNeverWaits) {
  DiskShare share(100);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(share.TryBegin(kStart), absl::ZeroDuration());
  }
}

TEST(DiskShare, IsOfTheTimeInWhichAnyThreadWorks) {
  DiskShare share(50);
  EXPECT_EQ(share.TryBegin(kStart), absl::ZeroDuration());
  EXPECT_EQ(share.TryBegin(kStart), absl::ZeroDuration());
  share.End(kStart + 10 * kMs);
  EXPECT_GT(share.TryBegin(kStart + 10 * kMs), absl::ZeroDuration());
  share.End(kStart + 20 * kMs);
  EXPECT_EQ(share.TryBegin(kStart + 20 * kMs), 20 * kMs);
  EXPECT_EQ(share.TryBegin(kStart + 40 * kMs), absl::ZeroDuration());
}

TEST(DiskShare, OfALongPauseIsNotWorkedOffAtOnce) {
  DiskShare share(10);
  ASSERT_EQ(share.TryBegin(kStart), absl::ZeroDuration());
  share.End(kStart + kMs);
  absl::Duration now = kStart + absl::Hours(1);
  absl::Duration worked;
  while (share.TryBegin(now) == absl::ZeroDuration()) {
    now += kMs;
    worked += kMs;
    share.End(now);
  }
  EXPECT_LE(worked, 20 * kMs);
}

}  // namespace
}  // namespace casement
