#include "store/slot_table.h"

#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

Digest Numbered(int i) { return Digest::Of(absl::StrCat(i)); }

class SlotTableTest : public ::testing::Test {
 protected:
  Slot& Insert(int i) { return table_.Insert(Numbered(i), ++tick_); }
  void Evict(Slot& slot) {
    table_.StartEviction(slot);
    table_.FinishEviction(slot);
    table_.Free(slot);
  }
  // The LRU list, by evicting it.
  std::vector<Digest> DrainOldestFirst() {
    std::vector<Digest> order;
    while (Slot* slot = table_.Oldest()) {
      order.push_back(slot->digest);
      Evict(*slot);
    }
    return order;
  }

  SlotTable table_;
  uint64_t tick_ = 0;
};

TEST_F(SlotTableTest, FindsResidentSlotsOnly) {
  Slot& slot = Insert(1);
  EXPECT_EQ(table_.Find(Numbered(1)), &slot);
  EXPECT_EQ(table_.Find(Numbered(2)), nullptr);
  table_.StartEviction(slot);
  EXPECT_EQ(table_.Find(Numbered(1)), nullptr);
  EXPECT_EQ(table_.Get(table_.IdOf(slot)), &slot);
  table_.UndoEviction(slot, ++tick_);
  EXPECT_EQ(table_.Find(Numbered(1)), &slot);
  table_.CheckInvariants();
}

TEST_F(SlotTableTest, AnIdIsNeverUsedAgainThoughItsSlotIs) {
  Slot& first = Insert(1);
  const BlobId id = table_.IdOf(first);
  Evict(first);
  EXPECT_EQ(table_.Get(id), nullptr);
  Slot& second = Insert(1);
  EXPECT_EQ(&second, &first);
  EXPECT_NE(table_.IdOf(second), id);
  EXPECT_EQ(table_.Get(id), nullptr);
}

TEST_F(SlotTableTest, ASlotThatRanOutOfGenerationsIsRetired) {
  Slot& slot = Insert(1);
  slot.generation = UINT32_MAX;
  Evict(slot);
  EXPECT_NE(&Insert(2), &slot);
  table_.CheckInvariants();
}

TEST_F(SlotTableTest, AnIdOutOfNowhereIsNobodys) {
  EXPECT_EQ(table_.Get(0), nullptr);
  EXPECT_EQ(table_.Get(UINT32_MAX), nullptr);
  EXPECT_EQ(table_.Get(UINT64_MAX), nullptr);
}

TEST_F(SlotTableTest, TheOldestUseIsFirst) {
  for (int i = 0; i < 4; ++i) Insert(i);
  table_.Use(*table_.Find(Numbered(0)), ++tick_);
  table_.Use(*table_.Find(Numbered(2)), ++tick_);
  table_.CheckInvariants();
  EXPECT_THAT(DrainOldestFirst(),
              ::testing::ElementsAre(Numbered(1), Numbered(3), Numbered(0),
                                     Numbered(2)));
}

TEST_F(SlotTableTest, ALeasedSlotIsNotInTheListAndReturnsByItsLastUse) {
  for (int i = 0; i < 4; ++i) Insert(i);
  Slot& slot = *table_.Find(Numbered(0));
  table_.AddLease(slot);
  table_.AddLease(slot);
  table_.CheckInvariants();
  EXPECT_EQ(table_.totals().leased_blobs, 1);
  EXPECT_EQ(table_.Oldest()->digest, Numbered(1));
  table_.DropLease(slot, 2);  // As old as the second.
  EXPECT_EQ(table_.totals().leased_blobs, 1);
  table_.DropLease(slot, 2);
  table_.CheckInvariants();
  EXPECT_THAT(DrainOldestFirst(),
              ::testing::ElementsAre(Numbered(1), Numbered(0), Numbered(2),
                                     Numbered(3)));
}

TEST_F(SlotTableTest, ReturningALeaseTakesABoundedSearch) {
  Slot& slot = Insert(0);
  table_.AddLease(slot);
  for (int i = 1; i <= 10'000; ++i) Insert(i);
  table_.DropLease(slot, 5'000);
  // Too far from the end: it goes early instead.
  table_.CheckInvariants();
  EXPECT_LT(slot.used, 1'000u);
}

TEST_F(SlotTableTest, UsesByManyBlobsKeepTheTotalsAndTheList) {
  for (int i = 0; i < 10'000; ++i) {
    Slot& slot = Insert(i);
    table_.SetAllocated(slot, i);
    if (i % 3 == 0) table_.AddLease(slot);
    if (i % 5 == 4) Evict(*table_.Oldest());
  }
  table_.CheckInvariants();
  EXPECT_EQ(table_.totals().blobs, 8'000);
}

TEST_F(SlotTableTest, AnAwaitedSlotBecomesTheResidentOneWithItsLeases) {
  Slot& awaited = table_.Await(Numbered(1), 4096);
  table_.AddLease(awaited);
  const BlobId id = table_.IdOf(awaited);
  EXPECT_EQ(&table_.Await(Numbered(1), 4096), &awaited);
  EXPECT_EQ(table_.Find(Numbered(1)), nullptr);
  EXPECT_EQ(table_.totals().awaited, 1);
  EXPECT_EQ(table_.totals().awaited_bytes, 4096);
  table_.CheckInvariants();
  Slot& resident = Insert(1);
  EXPECT_EQ(table_.IdOf(resident), id);
  EXPECT_EQ(table_.totals().awaited, 0);
  EXPECT_EQ(table_.totals().leased_blobs, 1);
  EXPECT_EQ(table_.Oldest(), nullptr);
  table_.DropLease(resident, ++tick_);
  EXPECT_EQ(table_.Oldest(), &resident);
  table_.CheckInvariants();
}

TEST_F(SlotTableTest, AnAwaitedSlotWithoutLeasesIsFreed) {
  Slot& awaited = table_.Await(Numbered(1), 4096);
  table_.AddLease(awaited);
  table_.DropLease(awaited, ++tick_);
  table_.Free(awaited);
  EXPECT_EQ(table_.totals().awaited, 0);
  EXPECT_NE(table_.IdOf(Insert(1)), 0u);
  table_.CheckInvariants();
}

}  // namespace
}  // namespace casement
