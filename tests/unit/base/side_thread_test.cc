#include "base/side_thread.h"

#include <atomic>
#include <thread>  // NOLINT
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(SideThread, RunsTasksInOrderInAThreadOfItsOwn) {
  std::vector<int> done;
  std::thread::id id;
  SideThread side;
  for (int i = 0; i < 100; ++i) {
    side.Run([&, i] {
      id = std::this_thread::get_id();
      done.push_back(i);
    });
  }
  side.Wait();
  ASSERT_EQ(done.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[i], i);
  EXPECT_NE(id, std::this_thread::get_id());
}

TEST(SideThread, ItsOwnerGoesOnMeanwhile) {
  std::atomic<bool> may_end{false};
  std::atomic<bool> is_done{false};
  SideThread side;
  side.Run([&] {
    while (!may_end) absl::SleepFor(absl::Milliseconds(1));
    is_done = true;
  });
  EXPECT_FALSE(is_done);
  may_end = true;
  side.Wait();
  EXPECT_TRUE(is_done);
}

TEST(SideThread, ItsEndWaitsForTheTask) {
  bool is_done = false;
  {
    SideThread side;
    side.Run([&] {
      absl::SleepFor(absl::Milliseconds(20));
      is_done = true;
    });
  }
  EXPECT_TRUE(is_done);
}

}  // namespace
}  // namespace casement
