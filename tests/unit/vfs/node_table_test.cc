#include "vfs/node_table.h"

#include <atomic>
#include <thread>  // NOLINT
#include <vector>

#include "gtest/gtest.h"
#include "vfs/node.h"

namespace casement {
namespace {

std::atomic<int> alive{0};

struct CountedNode : Node {
  explicit CountedNode(InodeId id) : Node(id, nullptr) { ++alive; }
  ~CountedNode() override { --alive; }
};

class NodeTableTest : public ::testing::Test {
 protected:
  ~NodeTableTest() override {
    table_.Clear();
    EXPECT_EQ(alive, 0);
  }
  InodeId InsertNew() {
    const InodeId id = table_.NewId();
    table_.Insert(MakeNode<CountedNode>(id));
    return id;
  }

  NodeTable table_;
};

TEST_F(NodeTableTest, FindsWhatItHolds) {
  std::vector<InodeId> ids;
  for (int i = 0; i < 10'000; ++i) ids.push_back(InsertNew());
  EXPECT_EQ(table_.size(), 10'000);
  for (const InodeId id : ids) {
    ASSERT_NE(table_.Find(id), nullptr);
    EXPECT_EQ(table_.Find(id)->id, id);
  }
  EXPECT_EQ(table_.Find(ids.back() + 1), nullptr);
  EXPECT_EQ(table_.Find(UINT64_MAX), nullptr);
}

TEST_F(NodeTableTest, WhatIsErasedGoesAndTheRestStays) {
  std::vector<InodeId> ids;
  for (int i = 0; i < 10'000; ++i) ids.push_back(InsertNew());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 100 != 7) table_.Erase(ids[i]);
  }
  EXPECT_EQ(alive, 100);
  EXPECT_EQ(table_.size(), 100);
  table_.Erase(ids[0]);  // Twice, and one that never was.
  table_.Erase(ids.back() + 1'000'000);
  EXPECT_EQ(table_.size(), 100);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(table_.Find(ids[i]) != nullptr, i % 100 == 7);
  }
}

TEST_F(NodeTableTest, ANodeWithTwoNumbersIsFoundByEach) {
  const InodeId first = InsertNew();
  const InodeId second = table_.NewId();
  table_.InsertAs(second, table_.Find(first));
  // The first to have a number keeps it.
  table_.InsertAs(second, MakeNode<CountedNode>(second));
  table_.Erase(first);
  ASSERT_NE(table_.Find(second), nullptr);
  EXPECT_EQ(table_.Find(second)->id, first);
  EXPECT_EQ(table_.size(), 1);
}

TEST_F(NodeTableTest, ThreadsComeAndGo) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this] {
      for (int round = 0; round < 100; ++round) {
        std::vector<InodeId> ids;
        for (int i = 0; i < 100; ++i) ids.push_back(InsertNew());
        for (const InodeId id : ids) EXPECT_NE(table_.Find(id), nullptr);
        for (const InodeId id : ids) table_.Erase(id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table_.size(), 0);
}

}  // namespace
}  // namespace casement
