#include "store/blob_store.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/clock.h"
#include "casement/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "store/disk.h"
#include "support/temp_directory.h"

namespace casement {
namespace {

TEST(BlobStore, ReadsWhatWasPutAlsoAfterARestart) {
  TempDirectory directory;
  RealDisk disk;
  SystemClock clock;
  const std::string bytes = "hello";
  const Digest digest = Digest::Of(bytes);
  for (int start = 0; start < 3; ++start) {
    auto store = BlobStore::Open(disk, clock, {.directory = directory.path()});
    ASSERT_TRUE(store.ok()) << store.status();
    if (start == 0) {
      ASSERT_EQ((*store)->Put(digest, bytes), absl::OkStatus());
    }
    EXPECT_TRUE((*store)->Contains(digest));
    EXPECT_EQ(*(*store)->Read(digest, 100), bytes);
    (*store)->CheckInvariants();
    auto report = (*store)->Verify(false, nullptr);
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->accounted_bytes, report->allocated_bytes);
    if (start == 2) {
      EXPECT_EQ((*store)->EvictUnleased().blobs, 1);
      EXPECT_FALSE((*store)->Contains(digest));
    }
  }
}

}  // namespace
}  // namespace casement
