#include "store/ledger.h"

#include <atomic>
#include <thread>  // NOLINT

#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(Ledger, TheTotalIsTheSumOfAllOwners) {
  Ledger ledger;
  ledger.Add(Owner::kBlobs, 10);
  ledger.Add(Owner::kIndex, 5);
  ledger.Move(Owner::kBlobs, Owner::kZombies, 4);
  ledger.Remove(Owner::kZombies, 1);
  EXPECT_EQ(ledger.Get(Owner::kBlobs), 6);
  EXPECT_EQ(ledger.Get(Owner::kZombies), 3);
  EXPECT_EQ(ledger.Get(Owner::kIndex), 5);
  EXPECT_EQ(ledger.Total(), 14);
}

// G3
TEST(Ledger, BytesOnTheirWayToAnotherOwnerAreCountedOnce) {
  Ledger ledger;
  ledger.Add(Owner::kUploads, 100);
  std::atomic<bool> is_done{false};
  std::thread mover([&] {
    while (!is_done.load()) {
      ledger.Move(Owner::kUploads, Owner::kBlobs, 100);
      ledger.Move(Owner::kBlobs, Owner::kUploads, 100);
    }
  });
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(ledger.Total(), 100);
  is_done.store(true);
  mover.join();
}

}  // namespace
}  // namespace casement
