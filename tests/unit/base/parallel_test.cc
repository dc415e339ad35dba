#include "base/parallel.h"

#include <atomic>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace casement {
namespace {

TEST(ParallelFor, DoesEachOnce) {
  for (const size_t threads : {1, 3, 100}) {
    std::vector<std::atomic<int>> times(1000);
    EXPECT_EQ(ParallelFor(times.size(), threads,
                          [&](size_t i) {
                            ++times[i];
                            return absl::OkStatus();
                          }),
              absl::OkStatus());
    for (const std::atomic<int>& one : times) EXPECT_EQ(one, 1);
  }
}

TEST(ParallelFor, NothingIsNoWork) {
  EXPECT_EQ(
      ParallelFor(0, 8, [](size_t) { return absl::InternalError("called"); }),
      absl::OkStatus());
}

TEST(ParallelFor, EndsWithTheFirstError) {
  std::atomic<int> calls{0};
  const absl::Status status = ParallelFor(1'000'000, 4, [&](size_t i) {
    ++calls;
    return i == 10 ? absl::DataLossError("the tenth") : absl::OkStatus();
  });
  EXPECT_EQ(status, absl::DataLossError("the tenth"));
  EXPECT_LT(calls, 1'000'000);
}

}  // namespace
}  // namespace casement
